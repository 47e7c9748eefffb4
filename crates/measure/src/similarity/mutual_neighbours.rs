use super::kernel::want_same_items;
use crate::neighbours::{Metric, Points, nearest, want_neighbours};
use crate::{Features, Result};

/// Share of their k nearest neighbours that two representations of the same items agree on, in [0, 1].
///
/// 1/N sum_i |near_a(i) & near_b(i)| / k, an item never its own neighbour; k / (N - 1) by chance. Of equally near items the
/// earlier is the neighbour.
///
/// # Errors
/// Different numbers of items; k is 0 or not below their number.
///
/// # Cost
/// O(N^2 D).
///
/// # Source
/// Huh et al. 2024 (arXiv 2405.07987), appendix A, where features are scaled to unit length: [`Metric::Cosine`].
pub fn mutual_neighbours(a: &Features, b: &Features, k: usize, metric: Metric) -> Result<f64> {
    want_same_items(a, b, 2)?;
    want_neighbours(k, a.n() - 1)?;
    let near = |x: &Features| {
        let points = Points::new(x, metric);
        points.map(&points, &|i, near| nearest(near, k, Some(i)))
    };
    let shared = near(a).iter().zip(near(b)).map(|(a, b)| shared(a, &b)).sum::<usize>();
    Ok(shared as f64 / (k as f64 * a.n() as f64))
}

fn shared(a: &[usize], b: &[usize]) -> usize {
    a.iter().filter(|i| b.binary_search(i).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_plain_loops() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (a, b) = (file.features("similar.a"), file.features("similar.b"));
        let want = file.f64s("similar.neighbours");
        assert_close(mutual_neighbours(&a, &b, 3, Metric::Cosine).unwrap(), want[0], 1e-12);
        assert_close(mutual_neighbours(&a, &b, 10, Metric::Euclidean).unwrap(), want[1], 1e-12);
    }

    #[test]
    fn the_ends_are_one_and_chance() {
        let [a, b] = [1, 2].map(|seed| Features::new(6, normals(seed, 1800)).unwrap());
        assert_eq!(mutual_neighbours(&a, &a, 7, Metric::Euclidean).unwrap(), 1.0);
        // Chance is 15 / 299 = 0.050; 4500 neighbours give a deviation of about 0.003.
        assert!((mutual_neighbours(&a, &b, 15, Metric::Cosine).unwrap() - 0.0502).abs() < 0.012);
        assert_eq!(mutual_neighbours(&a, &b, 299, Metric::Cosine).unwrap(), 1.0);
        let error = mutual_neighbours(&a, &b, 300, Metric::Cosine).unwrap_err();
        assert_eq!(error, Error::Neighbours { k: 300, available: 299 });
    }
}

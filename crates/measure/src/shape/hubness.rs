use crate::neighbours::{Metric, Points, nearest, want_neighbours};
use crate::{Features, Result};
use serde::{Deserialize, Serialize};

/// How often each item is a neighbour of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hubness {
    /// In how many other items' k nearest each item is; they sum to N k.
    pub occurrence: Vec<usize>,
    /// Skewness of the occurrences: 0 where all are equal, and growing as few items are neighbours of many.
    pub skewness: f64,
}

/// Counts k-occurrences: few hubs that are near everything spoil retrieval in many dimensions.
///
/// An item is never its own neighbour; of equally near items the earlier is the neighbour. The skewness is mean((c - m)^3) / sd^3
/// with divisors N.
///
/// # Errors
/// k is 0 or not below the number of items.
///
/// # Cost
/// O(N^2 D).
///
/// # Source
/// Radovanovic, Nanopoulos and Ivanovic 2010 (J. Mach. Learn. Res. 11).
pub fn hubness(x: &Features, k: usize, metric: Metric) -> Result<Hubness> {
    want_neighbours(k, x.n() - 1)?;
    let points = Points::new(x, metric);
    let near = points.map(&points, &|i, near| nearest(near, k, Some(i)));
    let mut occurrence = vec![0; x.n()];
    near.iter().flatten().for_each(|&j| occurrence[j] += 1);
    let (n, mean) = (x.n() as f64, k as f64);
    let moment = |power| occurrence.iter().map(|&c| (c as f64 - mean).powi(power)).sum::<f64>() / n;
    let variance = moment(2);
    let skewness = if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 };
    Ok(Hubness { occurrence, skewness })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_plain_loops() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let got = hubness(&file.features("shape.wide"), 5, Metric::Euclidean).unwrap();
        let counts: Vec<u32> = got.occurrence.iter().map(|&c| c as u32).collect();
        assert_eq!(counts, file.labels("shape.hubness.occurrence"));
        assert_close(got.skewness, file.f64s("shape.hubness")[0], 1e-9);
    }

    #[test]
    fn hubs_grow_with_dimension() {
        let skewness = |d| {
            let got = hubness(&Features::new(d, normals(1, 800 * d)).unwrap(), 10, Metric::Euclidean).unwrap();
            assert_eq!(got.occurrence.iter().sum::<usize>(), 8000);
            got.skewness
        };
        let (low, mid, high) = (skewness(2), skewness(20), skewness(200));
        assert!(low < 0.5 && mid > low + 0.5 && high > mid + 0.5, "{low} {mid} {high}");
    }

    #[test]
    fn everybodys_neighbours_are_no_hubs() {
        let x = Features::new(2, normals(2, 14)).unwrap();
        let got = hubness(&x, 6, Metric::Cosine).unwrap();
        assert_eq!((got.occurrence, got.skewness), (vec![6; 7], 0.0));
        assert!(hubness(&x, 7, Metric::Cosine).is_err());
    }
}

use super::mmd::{Discrepancy, discrepancy};
use crate::neighbours::Metric;
use crate::{Features, Result};

/// Squared energy distance 2 E|x - y| - E|x - x'| - E|y - y'|: a two-sample distance with nothing to choose.
///
/// It is the squared maximum mean discrepancy under the kernel -|x - y|, and zero only for equal distributions. The root of the
/// `biased` value in one dimension is what `scipy.stats.energy_distance` gives.
///
/// # Errors
/// Different widths, fewer than two items on a side.
///
/// # Cost
/// O((N + M)^2 D).
///
/// # Source
/// Szekely and Rizzo 2013, J. Stat. Plan. Inference 143; Sejdinovic et al. 2013 (arXiv 1207.6076) for the kernel.
pub fn energy(a: &Features, b: &Features) -> Result<Discrepancy> {
    discrepancy(a, b, Metric::Euclidean, &|minus_square| -(-minus_square).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scipy_in_one_dimension_and_the_plain_loops_in_more() {
        let file = Fixture::open("measure_samples/features.safetensors");
        for case in file.cases() {
            let [a, b] = ["a", "b"].map(|side| file.features(&format!("{case}.{side}")));
            if a.n() < 2 || b.n() < 2 {
                assert!(energy(&a, &b).is_err());
                continue;
            }
            let got = energy(&a, &b).unwrap();
            let want = file.f64s(&format!("{case}.energy"));
            [got.unbiased, got.biased].iter().zip(want).for_each(|(g, w)| assert_close(*g, w, 1e-11));
        }
        let line = |side| Features::new(1, file.f32s(&format!("line.{side}"))).unwrap();
        assert_close(energy(&line("a"), &line("b")).unwrap().biased.sqrt(), file.f64s("line.energy")[0], 1e-9);
    }

    #[test]
    fn points_by_hand_and_one_item_is_too_few() {
        // |x - y| is 1 in all pairs, |x - x'| is 0: 2 - 0 - 0.
        let (a, b) = (Features::new(1, vec![0.0, 0.0]).unwrap(), Features::new(1, vec![1.0, 1.0, 1.0]).unwrap());
        let got = energy(&a, &b).unwrap();
        assert_eq!((got.unbiased, got.biased, got.n), (2.0, 2.0, [2, 3]));
        let one = Features::new(1, vec![0.0]).unwrap();
        assert_eq!(energy(&one, &b).unwrap_err(), Error::TooFew { what: "items of the first set", need: 2, got: 1 });
    }
}

use crate::neighbours::{Metric, Points, want_neighbours};
use crate::{Error, Features, Result};
use serde::{Deserialize, Serialize};

/// Maximum likelihood estimates of the dimension around every item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalDimension {
    /// 1 / dimension at each item, in their order; 0 where all its neighbours are equally far. Items without k neighbours apart
    /// from them are not in it.
    pub inverse: Vec<f64>,
    /// Neighbours used.
    pub k: usize,
}

/// Estimates the dimension around every item from the distances T_1 <= ... <= T_k to its k nearest others.
///
/// 1 / m = 1/(k - 1) sum_{j < k} ln(T_k / T_j). Others at distance 0 (copies) are no neighbours: their logarithm is infinite.
///
/// # Errors
/// k below 2 or not below the number of items; no item with k others apart from it.
///
/// # Cost
/// O(N^2 D).
///
/// # Source
/// Levina and Bickel 2004, eq. 8. Papers on local intrinsic dimension (LID) divide by k instead of k - 1.
pub fn local_dimension(x: &Features, k: usize) -> Result<LocalDimension> {
    want_neighbours(k, x.n() - 1)?;
    if k < 2 {
        return Err(Error::Setting { name: "k", got: k as f64, want: "at least 2" });
    }
    let points = Points::new(x, Metric::Euclidean);
    let inverse = points.map(&points, &|_, near| {
        let mut squares: Vec<f64> = near.iter().map(|s| -s).filter(|s| *s > 0.0).collect();
        if squares.len() < k {
            return None;
        }
        let (nearer, kth, _) = squares.select_nth_unstable_by(k - 1, f64::total_cmp);
        let far = *kth;
        // In order, so that equal sets of neighbours give equal bits.
        nearer.sort_unstable_by(f64::total_cmp);
        Some(nearer.iter().map(|s| 0.5 * (far / s).ln()).sum::<f64>() / (k - 1) as f64)
    });
    let inverse: Vec<f64> = inverse.into_iter().flatten().collect();
    if inverse.is_empty() {
        return Err(Error::TooFew { what: "items with k others apart from them", need: 1, got: 0 });
    }
    Ok(LocalDimension { inverse, k })
}

impl LocalDimension {
    /// One dimension for all items: the inverses are averaged, which is the joint maximum likelihood.
    ///
    /// Levina and Bickel's average of the estimates themselves is biased upward, by (k - 1) / (k - 2). Infinite if all are.
    ///
    /// # Source
    /// MacKay and Ghahramani 2005, "Comments on maximum likelihood estimation of intrinsic dimension".
    pub fn joint(&self) -> f64 {
        self.inverse.len() as f64 / self.inverse.iter().sum::<f64>()
    }

    /// Geometric mean of the local dimensions, their Frechet mean under the Fisher-Rao distance; infinite if any is.
    ///
    /// # Source
    /// Huang et al. 2024 (arXiv 2401.10474).
    pub fn geometric_mean(&self) -> f64 {
        (-self.inverse.iter().map(|v| v.ln()).sum::<f64>() / self.inverse.len() as f64).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{normals, unit};
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_formula_in_numpy() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let got = local_dimension(&file.features("shape.tall"), 8).unwrap();
        let want = file.f64s("shape.local_dimension");
        assert_close(got.joint(), want[0], 1e-9);
        assert_close(got.geometric_mean(), want[1], 1e-9);
    }

    #[test]
    fn known_manifolds_have_their_dimension() {
        for (d, seed) in [(1, 1), (2, 2), (4, 3)] {
            let angles = (0..2000 * d as u64).map(|i| std::f64::consts::TAU * unit(seed, 6, i));
            let x = Features::new(2 * d, angles.flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect()).unwrap();
            let got = local_dimension(&x, 10).unwrap().joint();
            assert!((got / d as f64 - 1.0).abs() < 0.08, "{d}: {got}");
        }
    }

    #[test]
    fn one_item_by_hand_and_copies_are_no_neighbours() {
        // From 0: distances 1, 2, 4 (the copy of 0 is none); k = 3: 1/m = (ln 4 + ln 2) / 2.
        let x = Features::new(1, vec![0.0, 0.0, 1.0, 2.0, -4.0]).unwrap();
        assert_close(local_dimension(&x, 3).unwrap().inverse[0], 1.5 * 2f64.ln(), 1e-12);
        assert!(local_dimension(&Features::new(1, vec![1.0; 5]).unwrap(), 2).is_err());
        assert!(local_dimension(&x, 1).is_err() && local_dimension(&x, 5).is_err());
        // Equally far neighbours: no slope, an infinite dimension.
        let corners = Features::new(3, vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
        assert_eq!(local_dimension(&corners, 2).unwrap().joint(), f64::INFINITY);
    }

    #[test]
    fn averaging_inverses_takes_the_bias_off() {
        let got = local_dimension(&Features::new(2, normals(5, 4000)).unwrap(), 5).unwrap();
        let plain = got.inverse.iter().map(|v| 1.0 / v).sum::<f64>() / 2000.0;
        assert!((got.joint() - 2.0).abs() < 0.12 && plain / got.joint() > 1.2, "{plain} {}", got.joint());
    }
}

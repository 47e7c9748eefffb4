use super::spectrum::{Centring, spectrum};
use crate::{Error, Features, Knn, Metric, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// When a local direction counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Its variance is above this share of the largest (Fukunaga and Olsen: 0.05).
    OfLargest(f64),
    /// It is among the fewest that together hold this share of the variance.
    OfVariance(f64),
}

impl Default for Cut {
    fn default() -> Self {
        Self::OfLargest(0.05)
    }
}

/// Dimension as the mean number of principal directions of an item and its k nearest others.
///
/// An item whose neighbours all lie on it counts 0.
///
/// # Errors
/// k is 0 or not below the number of items; a share outside (0, 1].
///
/// # Cost
/// O(N^2 D) for the neighbours and O(k D min(k, D)) per item.
///
/// # Source
/// Fukunaga and Olsen 1971.
pub fn local_pca(x: &Features, k: usize, cut: Cut) -> Result<f64> {
    let (Cut::OfLargest(share) | Cut::OfVariance(share)) = cut;
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::Setting { name: "share of the variance", got: share, want: "above 0 and at most 1" });
    }
    crate::neighbours::want_neighbours(k, x.n() - 1)?;
    let near = Knn::new(x, Metric::Euclidean).neighbours(x, k + 1)?;
    let counts: Result<Vec<usize>> = near
        .par_iter()
        .map(|near| {
            let items: Vec<usize> = near.iter().map(|n| n.item).collect();
            match spectrum(&x.select(&items)?, Centring::On) {
                Ok(local) => Ok(match cut {
                    Cut::OfLargest(share) => {
                        let least = share * local.values[0].powi(2);
                        local.values.iter().filter(|v| **v * **v > least).count()
                    }
                    Cut::OfVariance(share) => local.directions(share),
                }),
                Err(Error::NoSpread { .. }) => Ok(0),
                Err(other) => Err(other),
            }
        })
        .collect();
    Ok(counts?.iter().sum::<usize>() as f64 / x.n() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::unit;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_plain_loops() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let x = file.features("shape.tall");
        let want = file.f64s("shape.local_pca");
        assert_close(local_pca(&x, 12, Cut::OfLargest(0.05)).unwrap(), want[0], 1e-12);
        assert_close(local_pca(&x, 12, Cut::OfVariance(0.9)).unwrap(), want[1], 1e-12);
    }

    #[test]
    fn tori_have_the_dimension_of_their_angles() {
        for (d, seed) in [(1, 1), (2, 2)] {
            let angles = (0..2000 * d as u64).map(|i| std::f64::consts::TAU * unit(seed, 6, i));
            let x = Features::new(2 * d, angles.flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect()).unwrap();
            let got = local_pca(&x, 12, Cut::default()).unwrap();
            assert!((got - d as f64).abs() < 0.1, "{d}: {got}");
        }
    }

    #[test]
    fn copies_count_nothing() {
        let same = Features::new(2, vec![0.1; 12]).unwrap();
        assert_eq!(local_pca(&same, 3, Cut::default()).unwrap(), 0.0);
        assert!(local_pca(&same, 6, Cut::default()).is_err() && local_pca(&same, 0, Cut::default()).is_err());
        assert!(local_pca(&same, 3, Cut::OfVariance(1.5)).is_err());
    }
}

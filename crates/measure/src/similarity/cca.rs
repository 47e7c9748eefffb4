use super::kernel::want_same_items;
use crate::gram;
use crate::{Error, Features, Result};
use faer::Mat;
use pentimento_linalg::{Spectral, left_singular, singular_values};
use serde::{Deserialize, Serialize};

/// Canonical correlations of two representations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cca {
    /// From the largest, in [0, 1], as many as the smaller rank.
    pub correlations: Vec<f64>,
    /// Directions kept of each side.
    pub kept: [usize; 2],
}

impl Cca {
    /// Mean correlation over as many directions as the smaller side keeps.
    pub fn mean(&self) -> f64 {
        self.correlations.iter().sum::<f64>() / self.correlations.len() as f64
    }
}

/// Canonical correlations of all directions of two representations of the same items: no invertible linear map changes them.
///
/// They are the singular values of Ua' Ub, with U orthonormal bases of the centred columns. With as many columns as items less
/// one they are all 1 and say nothing; use [`svcca`] or more items.
///
/// # Errors
/// Different numbers of items, fewer than two, a representation that is the same for all items.
///
/// # Cost
/// O(N D^2), for D < N, on each side.
///
/// # Source
/// Hotelling 1936; Bjorck and Golub 1973 for the bases.
pub fn cca(a: &Features, b: &Features) -> Result<Cca> {
    svcca(a, b, 1.0)
}

/// CCA after each side is cut to the leading singular directions that hold `share` of its variance; the paper uses 0.99.
///
/// # Errors
/// As for [`cca`]; a share outside (0, 1].
///
/// # Cost
/// O(N D^2), for D < N, on each side.
///
/// # Source
/// Raghu et al. 2017 (arXiv 1706.05806), section 2.
pub fn svcca(a: &Features, b: &Features, share: f64) -> Result<Cca> {
    want_same_items(a, b, 2)?;
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::Setting { name: "share of the variance", got: share, want: "above 0 and at most 1" });
    }
    let (a, b) = (basis("first representation", a, share)?, basis("second representation", b, share)?);
    let product = a.transpose() * &b;
    let values = singular_values(&product).ok_or(Error::Eigen { what: "canonical correlations" })?;
    // Cosines; rounding can lift them past 1.
    let correlations = values.into_iter().map(|v| v.min(1.0)).collect();
    Ok(Cca { correlations, kept: [a.ncols(), b.ncols()] })
}

/// Orthonormal basis, `[N, R]`, of the leading directions of the centred columns that hold `share` of their variance.
fn basis(what: &'static str, x: &Features, share: f64) -> Result<Mat<f64>> {
    let Spectral { vectors, values } = left_vectors(x)?;
    // Below this, relative to the largest, a singular value is rounding.
    let floor = values[0] * x.n().max(x.d()) as f64 * f64::EPSILON;
    let total: f64 = values.iter().map(|v| v * v).sum();
    let mut rank = 0;
    let mut held = 0.0;
    for v in values.iter().take_while(|v| **v > floor) {
        rank += 1;
        held += v * v;
        if held >= share * total {
            break;
        }
    }
    if rank == 0 || x.values().chunks(x.d()).all(|row| row == x.row(0)) {
        return Err(Error::NoSpread { what, measure: "a correlation" });
    }
    Ok(vectors.subcols(0, rank).to_owned())
}

/// Left singular vectors of the centred features and their values, largest first.
fn left_vectors(x: &Features) -> Result<Spectral> {
    let mut centred = Vec::with_capacity(x.n() * x.d());
    gram::centre(x.values(), &gram::means(x), &mut centred);
    let matrix = Mat::from_fn(x.n(), x.d(), |i, j| centred[i * x.d() + j]);
    left_singular(&matrix).ok_or(Error::Eigen { what: "singular values of a representation" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scipys_angles_between_subspaces() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (a, b) = (file.features("similar.a"), file.features("similar.b"));
        let got = cca(&a, &b).unwrap();
        let want = file.f64s("similar.cca");
        assert_eq!(got.correlations.len(), want.len());
        got.correlations.iter().zip(&want).for_each(|(g, w)| assert_close(*g, *w, 1e-9));
        let got = svcca(&a, &b, 0.9).unwrap();
        assert_eq!(got.kept.map(|k| k as u32).to_vec(), file.labels("similar.svcca.kept"));
        assert_close(got.mean(), file.f64s("similar.svcca")[0], 1e-9);
    }

    #[test]
    fn linear_maps_do_not_matter_and_repeated_columns_are_one_direction() {
        let values = normals(1, 300);
        let x = Features::new(3, values.clone()).unwrap();
        let mixed: Vec<f32> =
            values.chunks(3).flat_map(|r| [r[0] + 7.0 * r[1], r[2] - r[1], 0.01 * r[0], 0.01 * r[0]]).collect();
        let got = cca(&x, &Features::new(4, mixed).unwrap()).unwrap();
        assert_eq!(got.kept, [3, 3]);
        assert_close(got.mean(), 1.0, 1e-6);
        let half = cca(&x, &Features::new(1, values.chunks(3).map(|r| r[0]).collect()).unwrap()).unwrap();
        assert_eq!(half.correlations.len(), 1);
    }

    #[test]
    fn wide_codes_correlate_fully_and_flat_ones_are_refused() {
        let [a, b] = [1, 2].map(|seed| Features::new(30, normals(seed, 600)).unwrap());
        assert_close(cca(&a, &b).unwrap().mean(), 1.0, 1e-9);
        let flat = Features::new(2, vec![0.1; 40]).unwrap();
        assert_eq!(
            cca(&a, &flat).unwrap_err(),
            Error::NoSpread { what: "second representation", measure: "a correlation" }
        );
        assert!(svcca(&a, &b, 0.0).is_err() && svcca(&a, &b, 1.1).is_err());
        let one = a.select(&[0]).unwrap();
        assert!(cca(&one, &one).is_err());
    }
}

use crate::{Error, Features, Gaussian, Result};
use faer::Mat;
use pentimento_linalg::eigenvalues;

/// Total correlation of the columns if they were jointly Gaussian, in nats: 0 when they are uncorrelated.
///
/// 1/2 (sum_j ln S_jj - ln det S) = -1/2 ln det of the correlation matrix. A lower bound for columns that are each Gaussian;
/// dependence without correlation is not seen. Infinite when a column is an exact linear function of others; constant columns
/// depend on nothing and are left out.
///
/// # Errors
/// No more items than columns that vary (the covariance would be singular whatever they are).
///
/// # Cost
/// O(N D^2 + D^3).
///
/// # Source
/// Watanabe 1960; as in the unsupervised scores of Locatello et al. 2019 (arXiv 1811.12359).
pub fn total_correlation(x: &Features) -> Result<f64> {
    let gaussian = Gaussian::of(x)?;
    let (covariance, d) = (gaussian.covariance(), x.d());
    let varies = |j: &usize| x.values().chunks(d).any(|row| row[*j].to_bits() != x.row(0)[*j].to_bits());
    let kept: Vec<usize> = (0..d).filter(|j| varies(j) && covariance[j * d + j] > 0.0).collect();
    if x.n() <= kept.len() {
        return Err(Error::TooFew { what: "items for a covariance of full rank", need: kept.len() + 1, got: x.n() });
    }
    if kept.len() < 2 {
        return Ok(0.0);
    }
    let sd: Vec<f64> = kept.iter().map(|&j| covariance[j * d + j].sqrt()).collect();
    let correlation = Mat::from_fn(kept.len(), kept.len(), |i, j| covariance[kept[i] * d + kept[j]] / (sd[i] * sd[j]));
    let eigen = eigenvalues(&correlation).ok_or(Error::Eigen { what: "correlations of the features" })?;
    // Below this an eigenvalue is the rounding of 0.
    let floor = kept.len() as f64 * kept.len() as f64 * f64::EPSILON;
    if eigen.iter().any(|v| *v <= floor) {
        return Ok(f64::INFINITY);
    }
    Ok((-0.5 * eigen.iter().map(|v| v.ln()).sum::<f64>()).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_determinant_in_numpy() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let want = file.f64s("shape.total_correlation");
        assert_close(total_correlation(&file.features("shape.tall")).unwrap(), want[0], 1e-9);
    }

    #[test]
    fn known_gaussians_have_their_value() {
        let z = normals(1, 40_000);
        let mixed = z.chunks(2).flat_map(|r| [r[0], 0.8 * r[0] + 0.6 * r[1]]).collect();
        // -1/2 ln(1 - 0.8^2) = 0.5108; the correlation's standard error is 0.36 / sqrt(20000).
        let got = total_correlation(&Features::new(2, mixed).unwrap()).unwrap();
        assert!((got - 0.510_825_6).abs() < 0.02, "{got}");
        let free = total_correlation(&Features::new(4, z).unwrap()).unwrap();
        // d (d - 1) / 2 squared correlations of variance 1/N, halved.
        assert!(free < 0.002, "{free}");
    }

    #[test]
    fn copies_are_infinite_and_constants_do_not_count() {
        let copy = Features::new(2, (0..10).flat_map(|i| [i as f32, 3.0 - 2.0 * i as f32]).collect()).unwrap();
        assert_eq!(total_correlation(&copy).unwrap(), f64::INFINITY);
        let flat = Features::new(2, (0..10).flat_map(|i| [i as f32, 0.1]).collect()).unwrap();
        assert_eq!(total_correlation(&flat).unwrap(), 0.0);
        let few = Features::new(3, normals(2, 9)).unwrap();
        assert!(matches!(total_correlation(&few), Err(Error::TooFew { need: 4, got: 3, .. })));
    }
}

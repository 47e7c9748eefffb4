use crate::gram;
use crate::{Error, Features, Result};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use pentimento_linalg::{Cholesky, Spectral, eigen, eigenvalues};
use serde::{Deserialize, Serialize};

/// Share of tr (S1 S2)^1/2 that rounding may take where the fast route is taken.
const TOLERANCE: f64 = 1e-7;

/// Mean and covariance of a set of features.
#[derive(Clone, Debug)]
pub struct Gaussian {
    n: Option<usize>,
    mean: Vec<f64>,
    covariance: Mat<f64>,
}

/// Frechet distance of two Gaussians and what it is made of. Compare only distances taken at equal N: the estimate is biased upward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrechetDistance {
    /// The distance, squared as in all FID figures.
    pub value: f64,
    /// |m1 - m2|^2.
    pub means: f64,
    /// tr(S1 + S2 - 2 (S1 S2)^1/2).
    pub covariances: f64,
    /// Items behind each side; `None` where statistics were given without their number.
    pub n: [Option<usize>; 2],
    /// A side is known to have no more items than columns, so its covariance is singular and the distance says more of N than of the sets.
    pub singular: bool,
}

impl Gaussian {
    /// Mean and unbiased covariance (divisor N - 1), in f64.
    ///
    /// # Errors
    /// Fewer than two items.
    ///
    /// # Cost
    /// O(N D^2).
    pub fn of(features: &Features) -> Result<Self> {
        if features.n() < 2 {
            return Err(Error::TooFew { what: "items for a covariance", need: 2, got: features.n() });
        }
        let mean = gram::means(features);
        let covariance = gram::scatter(features, &mean) * faer::Scale(1.0 / (features.n() - 1) as f64);
        Ok(Self { n: Some(features.n()), mean, covariance })
    }

    /// Known statistics, such as a reference file's `mu` and `sigma`, of `n` items if that is stated.
    ///
    /// # Shapes
    /// - `mean`: `[D]`
    /// - `covariance`: `[D, D]`, symmetric; the lower half is read
    ///
    /// # Errors
    /// Sizes that do not fit, a value that is not finite.
    pub fn from_moments(n: Option<usize>, mean: Vec<f64>, covariance: &[f64]) -> Result<Self> {
        let d = mean.len();
        if d == 0 {
            return Err(Error::TooFew { what: "entries of the mean", need: 1, got: 0 });
        }
        if covariance.len() != d * d {
            return Err(Error::LengthMismatch {
                what: "entries of the covariance",
                want: d * d,
                got: covariance.len(),
            });
        }
        if let Some(column) = mean.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what: "mean", row: 0, column });
        }
        if let Some(row) = covariance.chunks(d).position(|r| r.iter().any(|v| !v.is_finite())) {
            let column = covariance[row * d..].iter().position(|v| !v.is_finite()).unwrap_or(0);
            return Err(Error::NotFinite { what: "covariance", row, column });
        }
        Ok(Self { n, mean, covariance: Mat::from_fn(d, d, |i, j| covariance[i.max(j) * d + i.min(j)]) })
    }

    /// Number of items behind the statistics, where it is known.
    pub fn n(&self) -> Option<usize> {
        self.n
    }

    /// The mean: `[D]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance, row after row: `[D, D]`.
    pub fn covariance(&self) -> Vec<f64> {
        let d = self.mean.len();
        (0..d).flat_map(|i| (0..d).map(move |j| self.covariance[(i, j)])).collect()
    }

    /// The Cholesky factor; None where the covariance is singular up to rounding.
    fn cholesky(&self) -> Option<Mat<f64>> {
        if self.n.is_some_and(|n| n <= self.mean.len()) {
            return None;
        }
        let factor = Cholesky::new(&self.covariance)?.factor();
        let d = factor.nrows();
        let largest = (0..d).fold(0.0f64, |m, i| m.max(self.covariance[(i, i)]));
        let floor = largest * d as f64 * f64::EPSILON;
        (0..d).all(|i| factor[(i, i)].powi(2) > floor).then_some(factor)
    }

    /// A factor F with F F^T = covariance and as many columns as its rank.
    fn factor(&self) -> Result<Mat<f64>> {
        let Spectral { vectors, values } =
            eigen(&self.covariance).ok_or(Error::Eigen { what: "covariance of the features" })?;
        let d = values.len();
        // Eigenvalues below this are the rounding of zeros; under a root they would grow to 1e-8 each.
        let floor = values.iter().fold(0.0f64, |m, v| m.max(v.abs())) * d as f64 * f64::EPSILON;
        let kept: Vec<usize> = (0..d).filter(|&j| values[j] > floor).collect();
        Ok(Mat::from_fn(d, kept.len(), |i, j| vectors[(i, kept[j])] * values[kept[j]].sqrt()))
    }
}

/// P = L1^T L2 of lower triangles.
fn product(left: &Mat<f64>, right: &Mat<f64>) -> Mat<f64> {
    // Rows of the right triangle above a panel's first column are zeros.
    gram::by_panels(left.nrows(), |start, panel| {
        let (rows, columns) = (left.nrows() - start, panel.ncols());
        let (left, right) = (left.subrows(start, rows), right.submatrix(start, start, rows, columns));
        matmul(panel, Accum::Replace, left.transpose(), right, 1.0, Par::Seq);
    })
}

/// P P^T, of which only the lower half is filled.
fn lower_square(p: &Mat<f64>) -> Mat<f64> {
    gram::by_panels(p.nrows(), |start, panel| {
        let (rows, columns) = (p.nrows() - start, panel.ncols());
        let right = p.subrows(start, columns).transpose();
        matmul(panel.subrows_mut(start, rows), Accum::Replace, p.subrows(start, rows), right, 1.0, Par::Seq);
    })
}

fn singular_values(p: &Mat<f64>) -> Result<f64> {
    let values = pentimento_linalg::singular_values(p).ok_or(Error::Eigen { what: "product of the covariances" })?;
    Ok(values.iter().sum())
}

/// tr (S1^1/2 S2 S1^1/2)^1/2.
fn root_trace(a: &Gaussian, b: &Gaussian) -> Result<f64> {
    match rayon::join(|| a.cholesky(), || b.cholesky()) {
        (Some(left), Some(right)) => root_trace_of_definite(&product(&left, &right)),
        _ => root_trace_of_any(a, b),
    }
}

/// The same from the product of Cholesky factors.
fn root_trace_of_definite(p: &Mat<f64>) -> Result<f64> {
    let values = eigenvalues(&lower_square(p)).ok_or(Error::Eigen { what: "product of the covariances" })?;
    // Eigenvalues are exact to a few eps of the largest, and a root enlarges that where they are small.
    let noise = 8.0 * f64::EPSILON * values.iter().fold(0.0f64, |m, v| m.max(*v));
    let (sum, error) = values
        .iter()
        .fold((0.0, 0.0), |(sum, error), v| (sum + v.max(0.0).sqrt(), error + noise / v.max(noise).sqrt()));
    if error > TOLERANCE * sum { singular_values(p) } else { Ok(sum) }
}

/// The same where a covariance may be singular.
fn root_trace_of_any(a: &Gaussian, b: &Gaussian) -> Result<f64> {
    let (left, right) = rayon::join(|| a.factor(), || b.factor());
    let product = left?.transpose() * right?;
    if product.nrows() == 0 || product.ncols() == 0 {
        return Ok(0.0);
    }
    singular_values(&product)
}

/// Frechet distance |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr (S1^1/2 S2 S1^1/2)^1/2.
///
/// The last trace is the sum of the singular values of F1^T F2 for any factors S = F F^T: no root of an unsymmetric product,
/// hence nothing imaginary. Where both covariances are definite the factors are Cholesky's, and the values roots of symmetric
/// eigenvalues unless that could move the trace by a ten-millionth; else factors have the covariances' rank.
///
/// # Errors
/// Different widths; an eigenvalue iteration that failed.
///
/// # Cost
/// O(D^3); roots of eigenvalues are the faster.
///
/// # Source
/// Dowson and Landau 1982; Heusel et al. 2017 (arXiv 1706.08500).
pub fn frechet(a: &Gaussian, b: &Gaussian) -> Result<FrechetDistance> {
    let d = a.mean.len();
    if b.mean.len() != d {
        return Err(Error::LengthMismatch { what: "columns of the second features", want: d, got: b.mean.len() });
    }
    let means: f64 = a.mean.iter().zip(&b.mean).map(|(x, y)| (x - y).powi(2)).sum();
    let shared = root_trace(a, b)?;
    let trace = |g: &Gaussian| (0..d).map(|i| g.covariance[(i, i)]).sum::<f64>();
    // Never negative but for rounding.
    let covariances = (trace(a) + trace(b) - 2.0 * shared).max(0.0);
    let singular = [a.n, b.n].into_iter().flatten().any(|n| n <= d);
    Ok(FrechetDistance { value: means + covariances, means, covariances, n: [a.n, b.n], singular })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_formula_with_scipys_matrix_root() {
        let file = Fixture::open("measure/numbers.safetensors");
        let [a, b] = ["real", "fake"].map(|name| Gaussian::of(&file.features(name)).unwrap());
        let got = frechet(&a, &b).unwrap();
        assert_close(got.value, file.f64s("frechet")[0], 1e-9);
        assert_eq!((got.n, got.singular), ([Some(150), Some(120)], false));
        assert_close(frechet(&b, &a).unwrap().value, got.value, 1e-12);
    }

    #[test]
    fn equals_torch_fidelity_from_features_and_from_given_statistics() {
        // Among them: fewer items than columns, copies with a constant column, and all columns constant.
        let file = Fixture::open("measure_samples/features.safetensors");
        for case in file.cases() {
            let [a, b] = ["a", "b"].map(|side| file.features(&format!("{case}.{side}")));
            if a.n() < 2 {
                assert!(Gaussian::of(&a).is_err());
                continue;
            }
            let (a, b) = (Gaussian::of(&a).unwrap(), Gaussian::of(&b).unwrap());
            let want = file.f64s(&format!("{case}.frechet"))[0];
            assert_close(frechet(&a, &b).unwrap().value, want, 1e-7);
            let [mu, sigma] = ["mu", "sigma"].map(|name| file.f64s(&format!("{case}.{name}")));
            let given = Gaussian::from_moments(None, mu, &sigma).unwrap();
            let got = frechet(&given, &b).unwrap();
            assert_close(got.value, want, 1e-7);
            assert_eq!((got.n, got.singular), ([None, b.n()], b.n().unwrap() <= b.mean().len()));
        }
    }

    #[test]
    fn diagonal_gaussians_have_their_closed_form() {
        // |m1 - m2|^2 + sum (s1 - s2)^2 over standard deviations.
        let a = Gaussian::from_moments(Some(99), vec![0.0, 1.0, 2.0], &[4.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0])
            .unwrap();
        let b = Gaussian::from_moments(Some(99), vec![1.0, 1.0, 0.0], &[1.0, 0.0, 0.0, 0.0, 25.0, 0.0, 0.0, 0.0, 16.0])
            .unwrap();
        let got = frechet(&a, &b).unwrap();
        assert_close(got.means, 5.0, 1e-14);
        assert_close(got.covariances, 1.0 + 4.0 + 16.0, 1e-13);
    }

    #[test]
    fn the_covariance_is_numpys() {
        let g = Gaussian::of(&Features::new(2, vec![1.0, 2.0, 3.0, 5.0, 5.0, 2.0]).unwrap()).unwrap();
        // np.cov([[1, 2], [3, 5], [5, 2]], rowvar=False)
        assert_eq!(g.mean(), [3.0, 3.0]);
        assert_eq!(g.covariance(), [4.0, 0.0, 0.0, 3.0]);
        let again = Gaussian::from_moments(Some(3), g.mean().to_vec(), &g.covariance()).unwrap();
        assert_eq!(frechet(&g, &again).unwrap().value, 0.0);
    }

    #[test]
    fn identical_sets_are_at_zero_and_a_shift_costs_its_square() {
        // Also with fewer items than columns, where roots of rounding would leave 1e-8 per missing dimension.
        for (n, d, singular) in [(300, 20, false), (30, 64, true)] {
            let values = normals(4, n * d);
            let x = Features::new(d, values.clone()).unwrap();
            let a = Gaussian::of(&x).unwrap();
            let same = frechet(&a, &a).unwrap();
            assert!(same.value < 1e-12 * d as f64 && same.singular == singular, "{same:?}");
            // A quarter is exact in f32 for values below 8 in steps of 2^-21; the rest is rounding of the sum.
            let moved = Features::new(d, values.iter().map(|v| v + 0.25).collect()).unwrap();
            let got = frechet(&a, &Gaussian::of(&moved).unwrap()).unwrap();
            assert_close(got.value, d as f64 * 0.0625, 1e-6);
        }
    }

    #[test]
    fn constant_features_are_points() {
        let a = Gaussian::of(&Features::new(2, vec![0.5; 6]).unwrap()).unwrap();
        let b = Gaussian::of(&Features::new(2, vec![1.5; 4]).unwrap()).unwrap();
        assert_close(frechet(&a, &b).unwrap().value, 2.0, 1e-14);
    }

    #[test]
    fn the_fast_route_agrees_with_the_exact_one_whatever_the_spectrum() {
        // 150 columns: three panels. Standard deviations fall from 1 to e^-fall, along the axes, mixed with a neighbour, and turned by
        // a reflection that leaves no axis its own.
        let (n, d) = (700, 150);
        let draw = |seed: u64, fall: f64, mix: usize| {
            let scale: Vec<f64> = (0..d).map(|j| (-fall * j as f64 / d as f64).exp()).collect();
            let turned = |row: &[f32]| -> Vec<f32> {
                let scaled = |j: usize| f64::from(row[j % d]) * scale[j % d];
                let mean = (0..d).map(scaled).sum::<f64>() * 2.0 / d as f64;
                (0..d).map(|j| (scaled(j) - [0.0, 0.5 * scaled(j + 1), mean][mix]) as f32).collect()
            };
            Gaussian::of(&Features::new(d, normals(seed, n * d).chunks(d).flat_map(turned).collect()).unwrap()).unwrap()
        };
        for (fall, mix) in [(0.0, 0), (6.0, 1), (6.0, 2), (12.0, 0), (12.0, 1), (12.0, 2)] {
            let (a, b) = (draw(1, fall, mix), draw(2, fall, mix));
            let p = product(&a.cholesky().unwrap(), &b.cholesky().unwrap());
            let short = root_trace_of_definite(&p).unwrap();
            assert_close(short, root_trace_of_any(&a, &b).unwrap(), TOLERANCE);
            assert_close(short, singular_values(&p).unwrap(), TOLERANCE);
            assert_eq!(root_trace(&a, &b).unwrap(), short);
        }
    }

    #[test]
    fn covariances_singular_up_to_rounding_have_no_cholesky_factor() {
        // The third column is the sum of the others; a variance of rounding; fewer items than columns, said and unsaid.
        let three = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0];
        let few = Gaussian::of(&Features::new(64, normals(3, 30 * 64)).unwrap()).unwrap();
        for (mean, covariance) in [
            (vec![0.0; 3], three.to_vec()),
            (vec![0.0; 2], vec![1.0, 0.0, 0.0, 1e-17]),
            (few.mean().to_vec(), few.covariance()),
        ] {
            assert!(Gaussian::from_moments(None, mean, &covariance).unwrap().cholesky().is_none());
        }
        assert!(few.cholesky().is_none());
    }

    #[test]
    fn what_has_no_covariance_is_named() {
        let one = Features::new(2, vec![1.0, 2.0]).unwrap();
        assert_eq!(Gaussian::of(&one).unwrap_err(), Error::TooFew { what: "items for a covariance", need: 2, got: 1 });
        assert!(Gaussian::from_moments(None, vec![0.0; 2], &[1.0; 3]).is_err());
        assert!(Gaussian::from_moments(None, vec![0.0], &[f64::NAN]).is_err());
        let [a, b] = [1, 2].map(|d| Gaussian::of(&Features::new(d, vec![1.0; 4]).unwrap()).unwrap());
        assert!(frechet(&a, &b).is_err());
    }
}

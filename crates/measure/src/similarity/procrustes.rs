use super::kernel::want_same_items;
use crate::gram;
use crate::{Error, Features, Result};
use faer::Mat;
use pentimento_linalg::singular_values;

/// What is left between two representations of the same items after the best shift, scale and rotation, in [0, 1].
///
/// Both sides are centred and scaled to norm 1; then min over orthogonal Q of |A - s B Q|^2 over s, which is 1 - |A'B|_*^2 with
/// the sum of singular values. The narrower side is padded with zeros. 0: equal up to rotation and scale.
///
/// # Errors
/// Different numbers of items, fewer than two, a representation that is the same for all items.
///
/// # Cost
/// O(N Da Db + min(Da, Db)^2 max(Da, Db)).
///
/// # Source
/// Schonemann 1966; the disparity of `scipy.spatial.procrustes`. Williams et al. 2021 (arXiv 2110.14739) use it between networks.
pub fn procrustes(a: &Features, b: &Features) -> Result<f64> {
    want_same_items(a, b, 2)?;
    let a = unit("first representation", a)?;
    let b = unit("second representation", b)?;
    let product = a.transpose() * &b;
    let values = singular_values(&product).ok_or(Error::Eigen { what: "product of the representations" })?;
    let nuclear: f64 = values.iter().sum();
    Ok((1.0 - nuclear * nuclear).clamp(0.0, 1.0))
}

/// Centred and scaled to Frobenius norm 1: `[N, D]`.
fn unit(what: &'static str, x: &Features) -> Result<Mat<f64>> {
    let mut centred = Vec::with_capacity(x.n() * x.d());
    gram::centre(x.values(), &gram::means(x), &mut centred);
    let norm = centred.iter().map(|v| v * v).sum::<f64>().sqrt();
    if norm <= 0.0 || x.values().chunks(x.d()).all(|row| row == x.row(0)) {
        return Err(Error::NoSpread { what, measure: "a shape" });
    }
    Ok(Mat::from_fn(x.n(), x.d(), |i, j| centred[i * x.d() + j] / norm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scipy() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let got = procrustes(&file.features("similar.a"), &file.features("similar.b")).unwrap();
        assert_close(got, file.f64s("similar.procrustes")[0], 1e-9);
    }

    #[test]
    fn rotations_and_reflections_leave_nothing() {
        let values = normals(1, 80);
        let x = Features::new(2, values.clone()).unwrap();
        let turned = values.chunks(2).flat_map(|r| [3.0 + 5.0 * r[1], 5.0 * r[0] - 1.0]).collect();
        assert!(procrustes(&x, &Features::new(2, turned).unwrap()).unwrap() < 1e-10);
        // Two crossing lines: A'B = 1/2 e, so 1 - 1/4.
        let a = Features::new(1, vec![1.0, -1.0, 0.0, 0.0, 1.0, -1.0]).unwrap();
        let b = Features::new(1, vec![1.0, -1.0, 1.0, -1.0, 0.0, 0.0]).unwrap();
        assert_close(procrustes(&a, &b).unwrap(), 0.75, 1e-12);
        assert!(procrustes(&a, &Features::new(1, vec![2.0; 6]).unwrap()).is_err());
    }
}

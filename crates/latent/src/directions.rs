use tch::{Kind, Tensor};

/// The n principal directions of a cloud of codes, each as long as the standard deviation along it, the longest first.
///
/// They are orthogonal; moving a code by one of them moves it by what is usual there. The sign of each is arbitrary.
///
/// # Shapes
/// - `z`: `[N, Z]`
/// - returns: `[n, Z]`, n at most Z
///
/// # Cost
/// One eigendecomposition of size Z.
pub fn principal_directions(z: &Tensor, n: i64) -> Tensor {
    let centred = z - z.mean_dim(0, true, None::<Kind>);
    let covariance = centred.tr().matmul(&centred) / z.size()[0] as f64;
    let (variances, axes) = covariance.linalg_eigh("L"); // rising; axes are columns
    let scaled = axes * variances.clamp_min(0.0).sqrt();
    scaled.tr().flip([0]).narrow(0, 0, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::noise::init_normal;

    /// A cloud with known axes, turned: directions come back turned, in order, with their lengths.
    #[test]
    fn directions_are_the_axes_of_the_cloud() {
        let turn = Tensor::linalg_qr(&init_normal(2, "turn", &[4, 4]).to_kind(Kind::Double), "reduced").0;
        let z = init_normal(1, "z", &[500, 4]).to_kind(Kind::Double);
        // Made exactly white, so that lengths are exact.
        let white = Tensor::linalg_qr(&(&z - z.mean_dim(0, true, None::<Kind>)), "reduced").0 * 500_f64.sqrt();
        let lengths = Tensor::from_slice(&[0.5, 3.0, 1.0, 2.0]);
        let found = principal_directions(&((white * lengths).matmul(&turn) + 7.0), 3);
        assert_eq!(found.size(), [3, 4]);
        let back = found.matmul(&turn.tr()).abs();
        let want = Tensor::from_slice(&[0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0]).view([3, 4]);
        assert!((back - want).abs().max().double_value(&[]) < 1e-10);
    }
}

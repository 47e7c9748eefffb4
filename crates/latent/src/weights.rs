use tch::Tensor;

/// ln of the mean of exp(w) over the first axis, without overflow: the importance estimate of a log-likelihood, with w =
/// ln p(x, z_k) - ln q(z_k | x) for z_k drawn from q.
///
/// The estimate is below the truth on average and rises with the number of draws; with one it is the evidence lower bound.
///
/// # Shapes
/// - `w`: `[K, B]`
/// - returns: `[B]`
///
/// # Source
/// Burda et al. 2015 (arXiv 1509.00519), eq. 8 and theorem 1.
pub fn log_mean_exp(w: &Tensor) -> Tensor {
    w.logsumexp(0, false) - (w.size()[0] as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_logarithm_of_the_mean_and_one_draw_changes_nothing() {
        let w = Tensor::from_slice(&[0.0, 700.0, 2.0_f64.ln(), 701.0]).view([2, 2]);
        let got: Vec<f64> = Vec::try_from(log_mean_exp(&w)).unwrap();
        assert!((got[0] - 1.5_f64.ln()).abs() < 1e-12);
        assert!((got[1] - 700.0 - (0.5 * (1.0 + 1.0_f64.exp())).ln()).abs() < 1e-9);
        assert_eq!(log_mean_exp(&w.narrow(0, 1, 1)), w.get(1));
    }
}

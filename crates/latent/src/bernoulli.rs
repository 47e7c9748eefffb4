//! Pixels that are on or off, and the likelihood of them.

use pentimento_core::{Noise, Stream};
use pentimento_torch_shim as shim;
use tch::{Kind, Tensor};

/// Grey pictures as pictures of zeros and ones: each pixel is on with the probability of its grey.
///
/// Cross-entropy on grey values is no likelihood; on a draw like this one it is.
///
/// # Shapes
/// - `x`: `[B, ...]` in [-1, 1]
/// - returns: `[B, D]` of zeros and ones
pub fn binarise(x: &Tensor, noise: &Noise) -> Tensor {
    let grey = (x.flatten(1, -1) + 1.0) * 0.5;
    let u = noise.uniform(&grey.size(), grey.device(), Stream::Own);
    u.less_tensor(&grey).to_kind(Kind::Float)
}

/// ln p(x) under independent Bernoulli variables with these logits, summed over pixels: `[B]`.
///
/// ln p = sum_d x_d l_d - softplus(l_d). The sum, not the mean: a mean would weigh the divergence beside it by D.
///
/// # Shapes
/// - `x`, `logits`: `[B, D]`
pub fn log_prob(x: &Tensor, logits: &Tensor) -> Tensor {
    shim::bernoulli(x, logits)
        .unwrap_or_else(|| (x * logits - logits.softplus()).sum_dim_intlist(1, false, Kind::Float))
}

/// The means of Bernoulli pixels as pictures.
///
/// # Shapes
/// - `logits`: `[B, D]`
/// - returns: `[B, C, H, W]` in [-1, 1]
pub fn greys(logits: &Tensor, [c, h, w]: [i64; 3]) -> Tensor {
    (logits.sigmoid() * 2.0 - 1.0).view([-1, c, h, w])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_likelihood_is_that_of_coins_also_far_out() {
        let (x, logits) = (Tensor::from_slice(&[1.0, 0.0, 1.0]), Tensor::from_slice(&[0.5, -2.0, 0.0]));
        let p = |l: f64| 1.0 / (1.0 + (-l).exp());
        let want = p(0.5).ln() + (1.0 - p(-2.0)).ln() + 0.5_f64.ln();
        assert!((log_prob(&x.view([1, 3]), &logits.view([1, 3])).double_value(&[0]) - want).abs() < 1e-6);
        let far = Tensor::from_slice(&[-200.0, 200.0]).view([1, 2]);
        let at = |x: [f64; 2]| log_prob(&Tensor::from_slice(&x).view([1, 2]), &far).double_value(&[0]);
        assert!(at([0.0, 1.0]).abs() < 1e-12 && (at([1.0, 0.0]) + 400.0).abs() < 1e-4);
    }

    #[test]
    fn the_means_are_pictures_in_the_range_of_pictures() {
        let x = greys(&Tensor::from_slice(&[0.0, 3f64.ln(), -900.0, 900.0]).view([1, 4]), [1, 2, 2]);
        assert_eq!(x.size(), [1, 1, 2, 2]);
        let values = Vec::<f64>::try_from(x.view(-1)).unwrap();
        assert!((values[1] - 0.5).abs() < 1e-12, "{values:?}");
        assert_eq!((values[0], values[2], values[3]), (0.0, -1.0, 1.0));
    }

    #[test]
    fn pixels_are_on_as_often_as_they_are_grey() {
        let x = Tensor::from_slice(&[-1.0_f32, 1.0, 0.2, -0.5]).view([1, 1, 2, 2]).repeat([20_000, 1, 1, 1]);
        let noise = Noise::new(5, (0..20_000).collect());
        let on = binarise(&x, &noise);
        assert_eq!(on.size(), [20_000, 4]);
        let share: Vec<f64> = Vec::try_from(on.mean_dim(0, false, Kind::Double)).unwrap();
        assert_eq!((share[0], share[1]), (0.0, 1.0));
        assert!((share[2] - 0.6).abs() < 0.014 && (share[3] - 0.25).abs() < 0.014, "{share:?}");
        // Row 7 is the same whichever batch it is in.
        let alone = binarise(&x.narrow(0, 7, 1), &Noise::new(5, vec![7]));
        assert_eq!(alone.get(0), on.get(7));
        assert_eq!(alone.device(), Device::Cpu);
    }
}

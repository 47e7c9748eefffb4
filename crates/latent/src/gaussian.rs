use pentimento_core::{Noise, Stream};
use pentimento_torch_shim as shim;
use std::f64::consts::TAU;
use tch::{Kind, Tensor};

/// A Gaussian with diagonal covariance, as an encoder gives it: mean mu and log variance ln sigma^2, both `[B, Z]`.
#[derive(Debug)]
pub struct Gaussian {
    /// mu, `[B, Z]`.
    pub mean: Tensor,
    /// ln sigma^2, `[B, Z]`: not the standard deviation, not its logarithm.
    pub logvar: Tensor,
}

impl Gaussian {
    /// From a network's output, means first; what came out of products in bf16 is widened, as exponentials and sums want f32.
    ///
    /// # Shapes
    /// - `moments`: `[B, 2 Z]`
    pub fn from_moments(moments: &Tensor) -> Self {
        let wide = if moments.kind() == Kind::BFloat16 { &moments.to_kind(Kind::Float) } else { moments };
        let mut halves = wide.chunk(2, 1).into_iter();
        match (halves.next(), halves.next()) {
            (Some(mean), Some(logvar)) if mean.size() == logvar.size() => Self { mean, logvar },
            _ => panic!("moments of shape {:?}; an even number of columns is needed", moments.size()),
        }
    }

    /// The standard normal of the same shape: the prior of a variational autoencoder.
    pub fn prior_like(&self) -> Self {
        Self { mean: self.mean.zeros_like(), logvar: self.logvar.zeros_like() }
    }

    /// A draw that gradients pass through: z = mu + sigma eps.
    ///
    /// # Source
    /// Kingma and Welling 2013 (arXiv 1312.6114), section 2.4.
    pub fn sample(&self, noise: &Noise, stream: Stream) -> Tensor {
        self.at(&noise.normal_like(&self.mean, stream))
    }

    /// mu + sigma eps at a given eps `[B, Z]`.
    pub fn at(&self, eps: &Tensor) -> Tensor {
        shim::gaussian_at(&self.mean, &self.logvar, eps)
            .unwrap_or_else(|| &self.mean + (&self.logvar * 0.5).exp() * eps)
    }

    /// KL(q || N(0, I)) of each coordinate in nats, `[B, Z]`.
    ///
    /// KL_j = 1/2 (mu_j^2 + sigma_j^2 - 1 - ln sigma_j^2)
    ///
    /// # Source
    /// Kingma and Welling 2013 (arXiv 1312.6114), appendix B.
    pub fn kl_terms(&self) -> Tensor {
        (self.mean.square() + self.logvar.exp() - 1.0 - &self.logvar) * 0.5
    }

    /// KL(q || N(0, I)) in nats, `[B]`.
    pub fn kl(&self) -> Tensor {
        shim::gaussian_kl(&self.mean, &self.logvar)
            .unwrap_or_else(|| self.kl_terms().sum_dim_intlist(1, false, Kind::Float))
    }

    /// ln q(z), `[B]`.
    ///
    /// # Shapes
    /// - `z`: `[B, Z]`
    pub fn log_prob(&self, z: &Tensor) -> Tensor {
        let standard = (z - &self.mean).square() * (-&self.logvar).exp();
        (standard + &self.logvar + TAU.ln()).sum_dim_intlist(1, false, Kind::Float) * -0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn q() -> Gaussian {
        let row = |v: [f64; 3]| Tensor::from_slice(&v).view([1, 3]);
        Gaussian { mean: row([0.3, -1.2, 0.0]), logvar: row([-1.0, 0.4, 0.0]) }
    }

    fn repeated(g: &Gaussian, n: i64) -> Gaussian {
        Gaussian { mean: g.mean.repeat([n, 1]), logvar: g.logvar.repeat([n, 1]) }
    }

    #[test]
    fn the_divergence_equals_its_monte_carlo_estimate() {
        let n = 200_000;
        let many = repeated(&q(), n);
        let z = many.sample(&Noise::new(3, (0..n.unsigned_abs()).collect()), Stream::Own);
        let ratio = many.log_prob(&z) - many.prior_like().log_prob(&z);
        let (estimate, error) = (ratio.mean(Kind::Double), ratio.std(true) / (n as f64).sqrt());
        let gap = (estimate - q().kl().mean(Kind::Double)).double_value(&[]);
        assert!(gap.abs() < 4.0 * error.double_value(&[]), "{gap}");
    }

    /// python3 -c "from math import *; print(.5*(.09+exp(-1)-1+1) + .5*(1.44+exp(.4)-1-.4))"
    #[test]
    fn the_divergence_has_its_closed_form_and_vanishes_at_the_prior() {
        assert!((q().kl().double_value(&[0]) - 0.994_852_069_406_369_3).abs() < 1e-6);
        assert_eq!(q().prior_like().kl().double_value(&[0]), 0.0);
        assert!(q().kl_terms().double_value(&[0, 2]).abs() < 1e-12);
    }

    /// python3 -c "from scipy.stats import norm; from math import *; print(norm.logpdf(1, .3, exp(-.5)) + norm.logpdf(0, -1.2, exp(.2)) + norm.logpdf(-.5))"
    #[test]
    fn the_density_is_that_of_independent_normals() {
        let z = Tensor::from_slice(&[1.0, 0.0, -0.5]).view([1, 3]);
        assert!((q().log_prob(&z).double_value(&[0]) + 3.7304250807321444).abs() < 1e-5, "{}", q().log_prob(&z));
    }

    #[test]
    fn moments_split_into_mean_and_log_variance_and_draws_carry_gradients() {
        let moments = Tensor::from_slice(&[1.0_f32, 2.0, 0.0, -2.0]).view([1, 4]).set_requires_grad(true);
        let g = Gaussian::from_moments(&moments);
        let eps = Tensor::from_slice(&[2.0_f32, 1.0]).view([1, 2]);
        let z = g.at(&eps);
        let (sigma, tolerance) = ((-1.0_f64).exp(), 1e-6);
        assert!((z.double_value(&[0, 0]) - 3.0).abs() < tolerance);
        assert!((z.double_value(&[0, 1]) - 2.0 - sigma).abs() < tolerance);
        z.sum(Kind::Float).backward();
        let grad: Vec<f32> = Vec::try_from(moments.grad().view(-1)).unwrap();
        // d z / d mu = 1, d z / d ln sigma^2 = sigma eps / 2.
        assert!((f64::from(grad[2]) - 1.0).abs() < tolerance && (f64::from(grad[3]) - 0.5 * sigma).abs() < tolerance);
        assert_eq!(g.mean.device(), Device::Cpu);
    }
}

use super::contract::{History, Step, noise_of};
use crate::Posterior;
use pentimento_core::{Condition, Denoiser, Level, Noise, Stream};
use tch::Tensor;

/// DDIM: alpha' x0_hat + sqrt(sigma'^2 - n^2) eps_hat + n z with n = eta times the standard deviation of the posterior
/// q(x' | x, x0) (Song et al. 2020, arXiv 2010.02502, eqs. 12 and 16, for any alpha and sigma).
///
/// First order, one evaluation. eta = 0 draws no noise and is Euler on x/alpha as a function of sigma/alpha; eta = 1 is
/// ancestral sampling.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ddim {
    /// Share of fresh noise, 0 to 1.
    pub eta: f64,
}

impl Step for Ddim {
    fn step(&self, d: &dyn Denoiser, x: &Tensor, from: &Level, to: &Level, _: History, n: &Noise) -> (Tensor, History) {
        let x0_hat = d.denoise(x, from, &Condition::none()).x0;
        let eps_hat = noise_of(x, &x0_hat, from);
        let fresh: Vec<f64> = Posterior::between(from, to).variance.iter().map(|v| self.eta * v.sqrt()).collect();
        let kept: Vec<f64> = to.sigma.iter().zip(&fresh).map(|(s, f)| (s * s - f * f).max(0.0).sqrt()).collect();
        let mut next = Level::times(&to.alpha, &x0_hat) + Level::times(&kept, &eps_hat);
        if fresh.iter().any(|&f| f > 0.0) {
            next += Level::times(&fresh, &n.normal_like(x, Stream::Churn));
        }
        (next, History::of(x0_hat, from))
    }

    fn order(&self) -> u32 {
        1
    }
}

use super::contract::{History, Step, noise_of, per_entry};
use pentimento_core::{Condition, Denoiser, Level, Noise};
use tch::Tensor;

/// Euler's method on the probability flow: x + (change of alpha) x0_hat + (change of sigma) eps_hat.
///
/// First order, one evaluation. On the straight flow this is Euler in t, on the EDM path Euler in s (Karras et al. 2022,
/// arXiv 2206.00364, algorithm 1 without correction). Equal to DDIM at eta = 0 on every path; it goes by both names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Euler;

impl Step for Euler {
    fn step(&self, d: &dyn Denoiser, x: &Tensor, from: &Level, to: &Level, _: History, _: &Noise) -> (Tensor, History) {
        let x0_hat = d.denoise(x, from, &Condition::none()).x0;
        let eps_hat = noise_of(x, &x0_hat, from);
        let next = if to.sigma.iter().all(|&s| s == 0.0) {
            // The sum below without its rounding: a last step lands on the estimate.
            Level::times(&to.alpha, &x0_hat)
        } else {
            let d_alpha = per_entry(from, to, |[a, _], [b, _]| b - a);
            let d_sigma = per_entry(from, to, |[_, a], [_, b]| b - a);
            x + Level::times(&d_alpha, &x0_hat) + Level::times(&d_sigma, &eps_hat)
        };
        (next, History::of(x0_hat, from))
    }

    fn order(&self) -> u32 {
        1
    }
}

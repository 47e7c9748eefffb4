use super::contract::{History, Step};
use crate::Posterior;
use pentimento_core::{Condition, Denoiser, Level, Noise, Stream};
use tch::Tensor;

/// Variance of the reverse step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReverseVariance {
    /// What the denoiser predicts, else [`ReverseVariance::Small`]:
    /// exp(v ln(upper) + (1 - v) ln(lower)) with the fraction v (Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 15).
    #[default]
    Predicted,
    /// That of the posterior q(x' | x, x0), beta-tilde: exact for a point-mass datum.
    Small,
    /// That of x given x', beta: exact for data of unit variance.
    Large,
}

/// Ancestral sampling: a draw from q(x' | x, x0_hat) with the chosen variance.
///
/// First order in law, one evaluation. Known as DDPM (Ho et al. 2020, arXiv 2006.11239, algorithm 2) and, with the
/// posterior's variance, as `euler_a`: going down to s'^2/s and adding noise up to s' is the same normal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ancestral {
    /// Variance of the reverse step.
    pub variance: ReverseVariance,
}

impl Step for Ancestral {
    fn step(&self, d: &dyn Denoiser, x: &Tensor, from: &Level, to: &Level, _: History, n: &Noise) -> (Tensor, History) {
        let denoised = d.denoise(x, from, &Condition::none());
        let x0_hat = denoised.x0;
        let q = Posterior::between(from, to);
        let mean = Level::times(&q.state, x) + Level::times(&q.data, &x0_hat);
        // The last step gives the mean: its posterior has no width, and DDPM leaves out the noise too.
        let open: Vec<f64> = to.sigma.iter().map(|&s| if s == 0.0 { 0.0 } else { 1.0 }).collect();
        let next = if open.iter().all(|&o| o == 0.0) {
            mean
        } else {
            let z = n.normal_like(x, Stream::Churn);
            let std = |v: &[f64]| -> Vec<f64> { v.iter().zip(&open).map(|(v, o)| v.sqrt() * o).collect() };
            match (self.variance, denoised.variance) {
                (ReverseVariance::Predicted, Some(fraction)) => {
                    // sqrt(lower) (upper / lower)^(v / 2); rows that end at sigma = 0 have lower = 0 and get nothing.
                    let gap: Vec<f64> = q
                        .upper
                        .iter()
                        .zip(&q.variance)
                        .map(|(u, l)| if *l > 0.0 { 0.5 * (u / l).ln() } else { 0.0 })
                        .collect();
                    mean + Level::times(&std(&q.variance), &z) * Level::times(&gap, &fraction).exp()
                }
                (ReverseVariance::Large, _) => mean + Level::times(&std(&q.upper), &z),
                _ => mean + Level::times(&std(&q.variance), &z),
            }
        };
        (next, History::of(x0_hat, from))
    }

    fn order(&self) -> u32 {
        1
    }
}

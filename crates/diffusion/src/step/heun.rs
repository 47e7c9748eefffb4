use super::contract::{History, Step, noise_of, per_entry};
use super::euler::Euler;
use pentimento_core::{Condition, Denoiser, Level, Noise};
use tch::Tensor;

/// Heun's method on the probability flow: an Euler step, then the mean of x0_hat and eps_hat at both ends.
///
/// Second order, two evaluations; Euler's one at the last step to sigma = 0, where no noise can be read. On the straight
/// flow this is Heun in t, on the EDM path Karras et al. 2022 (arXiv 2206.00364), algorithm 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heun;

impl Step for Heun {
    fn step(&self, d: &dyn Denoiser, x: &Tensor, from: &Level, to: &Level, h: History, n: &Noise) -> (Tensor, History) {
        let (guess, history) = Euler.step(d, x, from, to, h, n);
        if to.sigma.iter().all(|&s| s == 0.0) {
            return (guess, history);
        }
        let Some(x0_a) = &history.x0 else { return (guess, history) };
        let eps_a = noise_of(x, x0_a, from);
        let x0_b = d.denoise(&guess, to, &Condition::none()).x0;
        let eps_b = noise_of(&guess, &x0_b, to);
        // x + change * (a + b) / 2 = Euler's guess + change * (b - a) / 2; rows that end at sigma = 0 stay at the guess.
        let half =
            |which: usize| per_entry(from, to, |a, b| if b[1] == 0.0 { 0.0 } else { 0.5 * (b[which] - a[which]) });
        let next = guess + Level::times(&half(0), &(x0_b - x0_a)) + Level::times(&half(1), &(eps_b - eps_a));
        (next, history)
    }

    fn order(&self) -> u32 {
        2
    }
}

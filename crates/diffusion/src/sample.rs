use crate::step::{History, Step, noise_of};
use pentimento_core::{Condition, Denoiser, Level, Noise, Stream};
use tch::{Device, Tensor};

/// How a sampler goes from noise to data.
#[derive(Clone, Copy)]
pub struct Walk<'a> {
    /// The step.
    pub step: &'a dyn Step,
    /// Levels in order, noisiest first; n + 1 of them for n steps.
    pub levels: &'a [Level],
    /// Which samples, under which seed.
    pub noise: &'a Noise,
}

/// What an observer is shown after each step.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Steps done, from 1.
    pub i: usize,
    /// Steps in all.
    pub n: usize,
    /// The state reached.
    pub x: &'a Tensor,
    /// The clean estimate made on the way.
    pub x0_hat: &'a Tensor,
}

impl Walk<'_> {
    /// Noise at the first level: sigma times the samples' own normals.
    ///
    /// # Shapes
    /// - `size`: `[B, ...]`, one row per sample of the noise
    pub fn start(&self, size: &[i64], device: Device) -> Tensor {
        let eps = self.noise.normal(size, device, Stream::Start);
        self.levels.first().map_or_else(|| eps.shallow_clone(), |first| Level::times(&first.sigma, &eps))
    }

    /// Draws an item of a shape for every sample of the noise: [`sample`] from the start on, with nobody looking.
    pub fn draw(&self, denoiser: &dyn Denoiser, item: &[i64], device: Device, c: &Condition) -> Tensor {
        let start = self.start(&[&[self.noise.rows()], item].concat(), device);
        sample(denoiser, self, start, c, &mut |_| ())
    }
}

/// Walks a state along the levels, without gradients, and returns the last state. `x` is [`Walk::start`], or any state at
/// the first level, such as a noised picture.
///
/// Row i depends on sample i only, so that batches may be cut anywhere.
///
/// # Cost
/// [`crate::Sampler::evaluations`] of the denoiser.
pub fn sample(
    denoiser: &dyn Denoiser,
    walk: &Walk<'_>,
    x: Tensor,
    c: &Condition,
    observe: &mut dyn FnMut(&Seen<'_>),
) -> Tensor {
    let _guard = tch::no_grad_guard();
    let conditioned = Conditioned { denoiser, c };
    let n = walk.levels.len().saturating_sub(1);
    let (mut x, mut history, mut step) = (x, History::default(), 0);
    for (i, pair) in walk.levels.windows(2).enumerate() {
        (x, history) = walk.step.step(&conditioned, &x, &pair[0], &pair[1], history, &walk.noise.at_step(step));
        step += 1;
        if let Some(x0_hat) = &history.x0 {
            observe(&Seen { i: i + 1, n, x: &x, x0_hat });
        }
    }
    x
}

/// A denoiser with its condition filled in, so that steps do not carry it.
struct Conditioned<'a> {
    denoiser: &'a dyn Denoiser,
    c: &'a Condition,
}

impl Denoiser for Conditioned<'_> {
    fn denoise(&self, x: &Tensor, level: &Level, _: &Condition) -> pentimento_core::Denoised {
        self.denoiser.denoise(x, level, self.c)
    }
}

/// Encodes data into the noise from which [`crate::Euler`] draws it again: the same ODE walked backwards along `levels`
/// (noisiest first, ending at sigma = 0), as Song et al. 2020 (arXiv 2010.02502, section 4.3).
///
/// At sigma = 0 a state holds no noise to continue with; there the noise is what the denoiser sees in the scaled data at the
/// first noisy level.
///
/// # Cost
/// One evaluation a step. First order: the way back misses by O(1/n).
pub fn invert(denoiser: &dyn Denoiser, x0: &Tensor, levels: &[Level], c: &Condition) -> Tensor {
    let _guard = tch::no_grad_guard();
    let mut x = x0.shallow_clone();
    for pair in levels.windows(2).rev() {
        let (to, from) = (&pair[0], &pair[1]);
        let clean = from.sigma.iter().all(|&s| s == 0.0);
        let (x0_hat, eps_hat) = if clean {
            let seen = Level::times(&to.alpha, &x);
            let x0_hat = denoiser.denoise(&seen, to, c).x0;
            (x, noise_of(&seen, &x0_hat, to))
        } else {
            let x0_hat = denoiser.denoise(&x, from, c).x0;
            let eps_hat = noise_of(&x, &x0_hat, from);
            (x0_hat, eps_hat)
        };
        x = to.mix(&x0_hat, &eps_hat);
    }
    x
}

use super::contract::{History, Step};
use pentimento_core::{Condition, Denoised, Denoiser, Level, Noise};
use std::cell::Cell;
use tch::Tensor;

/// A step of any sampler, drawn along by the gradient of an energy U of the clean estimate:
/// x' = step(x) - grad_x U(x0_hat(x)).
///
/// The gradient passes through the denoiser. With U = eta |y - A x0_hat| this is diffusion posterior sampling; with other U it
/// is guidance by whatever can be told of a clean picture. The pull is not multiplied by the step's length, so that more steps
/// pull more.
///
/// # Cost
/// One pass back through energy and denoiser a step, and no further evaluation.
///
/// # Source
/// Chung et al. 2022 (arXiv 2209.14687), algorithms 1 and 2.
pub struct Steered<'a> {
    inner: &'a dyn Step,
    energy: &'a dyn Fn(&Tensor) -> Tensor,
}

impl<'a> Steered<'a> {
    /// Draws `inner` along. `energy` takes clean estimates `[B, ...]`, on which its value must depend, and gives `[B]`; row i
    /// must depend on row i alone.
    pub fn new(inner: &'a dyn Step, energy: &'a dyn Fn(&Tensor) -> Tensor) -> Self {
        Self { inner, energy }
    }
}

impl Step for Steered<'_> {
    fn step(&self, d: &dyn Denoiser, x: &Tensor, from: &Level, to: &Level, h: History, n: &Noise) -> (Tensor, History) {
        // Samplers run without gradients; they are on again for these lines.
        let (known, pull) = tch::with_grad(|| {
            let x = x.detach().set_requires_grad(true);
            let seen = d.denoise(&x, from, &Condition::none());
            let energy = (self.energy)(&seen.x0).sum(x.kind());
            let pull = Tensor::run_backward(&[energy], &[&x], false, false).swap_remove(0);
            (Denoised { x0: seen.x0.detach(), variance: seen.variance.map(|v| v.detach()) }, pull)
        });
        let once = Once { known: Cell::new(Some(known)), inner: d };
        let (next, history) = self.inner.step(&once, x, from, to, h, n);
        (next - pull, history)
    }

    /// That of the step inside, where nothing pulls.
    fn order(&self) -> u32 {
        self.inner.order()
    }
}

/// Knows the answer to the first question: every step asks at its own start first.
struct Once<'a> {
    known: Cell<Option<Denoised>>,
    inner: &'a dyn Denoiser,
}

impl Denoiser for Once<'_> {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        self.known.take().unwrap_or_else(|| self.inner.denoise(x, level, c))
    }
}

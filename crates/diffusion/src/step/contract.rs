use pentimento_core::{Denoiser, Level, Noise};
use tch::Tensor;

/// One step of a sampler. It is told where it is and where it goes; what it remembers it returns.
///
/// The denoiser comes with its condition filled in, and the noise already stands at the number of the step. Not `Send` by itself, so
/// that a step can wrap borrowed parts.
pub trait Step {
    /// The state at `to` from the state `x` at `from` (noisier), and what the next step may want to know.
    ///
    /// # Shapes
    /// - `x`, returns: `[B, ...]`; levels have one entry or B, both alike
    fn step(
        &self,
        d: &dyn Denoiser,
        x: &Tensor,
        from: &Level,
        to: &Level,
        history: History,
        noise: &Noise,
    ) -> (Tensor, History);

    /// Global order of convergence: of the state on a smooth ODE, or of the law where the step injects noise.
    fn order(&self) -> u32;
}

/// What a step leaves for the next one.
#[derive(Debug, Default)]
pub struct History {
    /// The clean estimate at the start of the last step.
    pub x0: Option<Tensor>,
    /// The level of that estimate.
    pub level: Option<Level>,
}

impl History {
    /// After a step that started at `level`.
    pub fn of(x0: Tensor, level: &Level) -> Self {
        Self { x0: Some(x0), level: Some(level.clone()) }
    }
}

/// (x - alpha x0_hat) / sigma; 0 where sigma is 0, where a state holds no noise.
pub(crate) fn noise_of(x: &Tensor, x0_hat: &Tensor, level: &Level) -> Tensor {
    let inverse = level.map(|_, s| if s == 0.0 { 0.0 } else { 1.0 / s });
    Level::times(&inverse, &(x - Level::times(&level.alpha, x0_hat)))
}

/// One number per entry from both ends of a step.
///
/// # Panics
/// When the levels have different numbers of entries.
pub(super) fn per_entry(from: &Level, to: &Level, f: impl Fn([f64; 2], [f64; 2]) -> f64) -> Vec<f64> {
    assert_eq!(from.len(), to.len(), "a step between levels of {} and {} entries", from.len(), to.len());
    (0..from.len()).map(|i| f([from.alpha[i], from.sigma[i]], [to.alpha[i], to.sigma[i]])).collect()
}

//! Noise paths, denoisers, guidance, samplers and training losses, for any network.
//!
//! A [`Path`] says how data becomes noise. A network with a [`Prediction`] on a path is a [`Parametrised`] denoiser;
//! guidance ([`ClassifierFree`]) and bounds ([`Clipped`]) are denoisers around denoisers. [`sample`] walks a denoiser
//! along the levels of a [`Grid`] with a [`Step`]; [`DiffusionLoss`] trains it. [`GaussianMixture`] is a denoiser whose
//! every answer is known exactly.
//!
//! ```no_run,standalone_crate
//! use pentimento_core::{Condition, Noise};
//! use pentimento_diffusion::{GaussianMixture, Grid, Path, Sampler, Walk, sample};
//!
//! let data = GaussianMixture::new(&[0.5, 0.5], &[vec![-1.0, 0.0], vec![1.0, 0.0]], &[0.1, 0.1]);
//! let (step, levels) = (Sampler::Heun.step(), Grid::Uniform.levels(&Path::Flow, 20));
//! let noise = Noise::new(0, (0..8).collect());
//! let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
//! let x = sample(&data, &walk, walk.start(&[8, 2], tch::Device::Cpu), &Condition::none(), &mut |_| ());
//! assert!(data.log_density(&x, &Path::Flow.level(0.0)).min().double_value(&[]) > -12.0);
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

mod choice;
mod compose;
mod discrete;
mod grid;
mod guidance;
mod latents;
mod mixture;
mod objective;
mod operator;
mod parametrised;
mod path;
mod posterior;
mod prediction;
mod sample;
mod step;
mod times;
mod weighting;

pub use compose::{Composed, Mixed, Term};
pub use discrete::{Betas, DiscreteVp, Spacing};
pub use grid::{Grid, S_CAP};
pub use guidance::{ClassifierFree, Interval};
pub use latents::LatentLoss;
pub use mixture::GaussianMixture;
pub use objective::{DiffusionLoss, LossConfig, MAX_GAIN};
pub use operator::{BlockAverage, Blur, Mask, Operator};
pub use parametrised::{C_NOISE_RANGE, Clipped, Parametrised, Preconditioning, TimeInput, edm_coefficients};
pub use path::{EDM_S_MAX, Path};
pub use posterior::{Posterior, elbo_weight};
pub use prediction::Prediction;
pub use sample::{Seen, Walk, invert, sample};
pub use step::{Ancestral, Ddim, Dpmpp2m, Euler, Heun, History, ReverseVariance, Sampler, Steered, Step};
pub use times::{Spread, Times, normal_quantile};
pub use weighting::Weighting;

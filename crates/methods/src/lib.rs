//! The catalogue: one paper, one page, a folder for each family. A page holds its card, its settings, the arithmetic that is new
//! in the paper, its exact checks and its claim; what two pages need stands in `latent`, `nn` or `measure`.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

pub mod autoencoders;
pub mod backbones_and_latents;
pub mod diffusion_representations;
pub mod geometry;
pub mod graphs;
pub mod guidance;
pub mod inverse_problems;
mod planned;
mod registry;
pub mod self_supervised;

pub use planned::{Planned, planned};
pub use registry::{FAMILIES, Family, all, find};

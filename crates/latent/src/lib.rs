//! Pieces of latent spaces: posteriors and their divergences, likelihoods, relaxations of choices, coordinates relative to
//! anchors. No network is named here; a piece takes and returns tensors.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

pub mod anchors;
pub mod bernoulli;
pub mod codebook;
mod directions;
mod gaussian;
pub mod gumbel;
pub mod huffman;
mod info_nce;
mod likelihood;
pub mod transport;
mod weights;

pub use directions::principal_directions;
pub use gaussian::Gaussian;
pub use info_nce::{info_nce, information_bound};
pub use likelihood::Likelihood;
pub use weights::log_mean_exp;

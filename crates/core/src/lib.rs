//! The vocabulary of Pentimento: levels of noise, addressed randomness, parameters, and the few traits that networks,
//! samplers, losses and encoders share. No input or output happens here.
//!
//! # Symbols
//! | symbol | code | meaning, range |
//! |---|---|---|
//! | x_0 | `x0` | clean data, always |
//! | eps | `eps` | unit Gaussian noise |
//! | x_t | `xt` | noisy state, `alpha * x0 + sigma * eps` |
//! | t | `t` | time in [0, 1]: 0 = data, 1 = noise |
//! | alpha, sigma | `alpha`, `sigma` | coefficients at t |
//! | s | `s` | EDM noise level sigma/alpha (infinite at the end of a straight flow: pass a [`Level`]) |
//! | lambda | `logsnr` | ln(alpha^2 / sigma^2) |
//! | v | `v` | `alpha * eps - sigma * x0` |
//! | u | `u` | velocity d xt/dt of a path |
//! | D, eps-hat | `x0_hat`, `eps_hat` | predictions |
//! | z, h, c, y | `z`, `h`, `c`, `y` | latent, hidden, condition, label |
//! | w | `scale` | guidance scale; 1 = no guidance |
//!
//! Axes: B batch, C channels, H W space, T tokens, D width, K classes. Images are `[B, C, H, W]` in [-1, 1], tokens `[B, T, D]`.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

mod batch;
mod choice;
mod denoiser;
mod error;
pub mod exact;
mod learner;
mod level;
mod network;
pub mod noise;
pub mod optim;
mod params;

pub use batch::{Batch, Draw, HostBatch};
pub use choice::{choose, edits, nearest};
pub use denoiser::{Codec, Condition, Denoised, Denoiser, NO_LABEL};
pub use error::Error;
pub use learner::{At, Learner, Objective, SingleLoss, Terms, Trained};
pub use level::Level;
pub use network::{Network, Tap};
pub use noise::{Draws, Noise, Stream};
pub use params::{Param, Params, Role, Scope};

/// A version of the arithmetic: raised whenever a change of layout, precision or order of operations moves results.
/// Checkpoints and evidence carry it. This is that of single precision with libtorch's products.
const NUMERICS: u32 = 4;

/// Single precision with products of our own, on processors where those are the faster ones.
const OWN_PRODUCTS: u32 = 11;

/// bfloat16 with libtorch's products, and with our own.
const BF16: u32 = 5;
const OWN_BF16: u32 = 6;

/// The version of the arithmetic of products in a kind on this processor; those in bfloat16 are counted apart, as what moves them often
/// leaves single precision as it was.
pub fn numerics(products: tch::Kind) -> u32 {
    match products {
        tch::Kind::BFloat16 if pentimento_torch_shim::own_bf16() => OWN_BF16,
        tch::Kind::BFloat16 => BF16,
        _ if pentimento_torch_shim::own_products() => OWN_PRODUCTS,
        _ => NUMERICS,
    }
}

/// Whether this version of the program computes so in single precision, on one processor or another.
pub fn is_current(numerics: u32) -> bool {
    [NUMERICS, OWN_PRODUCTS].contains(&numerics)
}

//! Backbones of diffusion models, and the latent spaces that they live in.

pub mod repa;

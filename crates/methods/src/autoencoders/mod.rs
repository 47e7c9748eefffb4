//! Autoencoders and variational latent-variable models.

pub mod beta_vae;
pub mod gumbel_softmax;
pub mod vae;

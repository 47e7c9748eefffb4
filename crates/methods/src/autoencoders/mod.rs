//! Autoencoders and variational latent-variable models.

pub mod gumbel_softmax;
pub mod vae;

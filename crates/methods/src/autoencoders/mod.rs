//! Autoencoders and variational latent-variable models.

pub mod beta_vae_capacity;
pub mod gon;
pub mod gumbel_softmax;
pub mod vae;
pub mod vq_wae;

//! Checks of whole networks, in the crate's one test binary: against the PyTorch originals, and of their own promises.

mod behaviour;
mod diffusers;
mod gradients;
mod latent;
mod originals;
mod reference;
mod sizes;

//! Diffusion models as readers of pictures: classifiers, features and what they know.

pub mod diffusion_classifier;
pub mod soda;

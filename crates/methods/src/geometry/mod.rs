//! Geometry, alignment and analysis of latent spaces.

pub mod relative_reps;

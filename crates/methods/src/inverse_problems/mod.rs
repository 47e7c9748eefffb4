//! Pictures from what was measured of them, with a diffusion model as the prior.

pub mod psld;

//! Guidance: what a trained denoiser is asked, at sampling time.

pub mod composable_diffusion;

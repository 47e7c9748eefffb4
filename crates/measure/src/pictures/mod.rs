//! Two pictures compared: what differs pixel by pixel, in structure, and to a network's eye.
//!
//! All take a batch of pairs and return one number a pair. The range of the values is always given, never guessed from the data:
//! 255 for bytes, 1 for [0, 1], 2 for [-1, 1].

mod lpips;
mod ms_ssim;
mod psnr;
mod ssim;
mod stack;
mod window;

pub use lpips::{Layer, Lpips, lpips};
pub use ms_ssim::ms_ssim;
pub use psnr::psnr;
pub use ssim::ssim;
pub use stack::Pictures;
pub use window::Window;

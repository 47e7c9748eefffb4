//! Steps of samplers. Each is told both ends of its interval and knows nothing of the path beyond them: in terms of
//! alpha and sigma every Gaussian path is the same equation,
//!
//! ```text
//! dx = x0_hat d alpha + eps_hat d sigma        (probability flow)
//! ```
//!
//! whose exact solution for a constant (x0_hat, eps_hat) is `alpha x0_hat + sigma eps_hat`.

mod ancestral;
mod contract;
mod ddim;
mod dpmpp_2m;
mod euler;
mod heun;
mod registry;
mod steered;

pub use ancestral::{Ancestral, ReverseVariance};
pub(crate) use contract::noise_of;
pub use contract::{History, Step};
pub use ddim::Ddim;
pub use dpmpp_2m::Dpmpp2m;
pub use euler::Euler;
pub use heun::Heun;
pub use registry::Sampler;
pub use steered::Steered;

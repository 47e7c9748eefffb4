//! Two sets of features compared by kernels, distances and projections, and one set by what a classifier says of it.
//!
//! What these have in common is that none fits a Gaussian: they work where there are fewer items than columns. [`kid()`] and
//! [`mmd()`] have unbiased estimators, so values at different N can be compared, which a Frechet distance does not allow.

mod energy;
mod inception;
mod kid;
mod mmd;
mod pairs;
mod sliced;

pub use energy::energy;
pub use inception::{InceptionConfig, InceptionScore, Outputs, inception_score};
pub use kid::{Kid, KidConfig, kid};
pub use mmd::{Bandwidth, Discrepancy, gaussian_mmd, polynomial_mmd};
pub use sliced::{Order, SlicedConfig, SlicedWasserstein, sliced_wasserstein, wasserstein_1d};

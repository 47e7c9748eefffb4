//! How alike two representations of the same items are, whatever their widths.

mod cca;
mod cka;
mod cknna;
mod hsic;
mod kernel;
mod mutual_neighbours;
mod procrustes;

pub use cca::{Cca, cca, svcca};
pub use cka::{Estimator, cka};
pub use cknna::cknna;
pub use hsic::hsic;
pub use kernel::{Kernel, KernelLength};
pub use mutual_neighbours::mutual_neighbours;
pub use procrustes::procrustes;

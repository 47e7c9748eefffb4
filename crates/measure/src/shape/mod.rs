//! The shape of one representation: how many directions it uses, how many it needs, how evenly it fills its space.

pub(crate) mod digamma;
mod hubness;
mod ksg;
mod local_dimension;
mod local_pca;
mod spectrum;
mod total_correlation;
mod two_nn;
mod uniformity;

pub use hubness::{Hubness, hubness};
pub use ksg::{InformationEstimate, ksg, ksg_classes};
pub use local_dimension::{LocalDimension, local_dimension};
pub use local_pca::{Cut, local_pca};
pub use spectrum::{Centring, Spectrum, spectrum};
pub use total_correlation::total_correlation;
pub use two_nn::{TwoNn, two_nn};
pub use uniformity::{alignment, uniformity};

//! What models learn from: procedural worlds with exact factors, data sets over the readers of `pentimento-io`, and the
//! loader that makes batches of them on other threads.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

pub mod bouncing;
pub mod catalogue;
mod check;
mod dataset;
pub mod detect;
mod digits;
mod error;
mod gather;
pub mod graph;
mod loader;
mod pictures;
pub mod regimes;
pub mod scenes;
mod shape;
mod source;
pub mod sprites;
pub mod toy;
mod transform;

pub use check::{Report, check};
pub use dataset::{Bytes, Dataset, Subset};
pub use digits::digits;
pub use error::Error;
pub use gather::gather;
pub use loader::{Loader, LoaderConfig};
pub use source::{NAMES, Open, Opened, data_folders, open};
pub use transform::{Augment, fit};

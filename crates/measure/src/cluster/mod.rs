//! How well one grouping of items agrees with another, or with the distances between them.

mod assignment;
pub(crate) mod contingency;
mod information;
mod matching;
mod pairs;
mod silhouette;

pub use assignment::{Assignment, assignment};
pub use information::{Normaliser, adjusted_mutual_information, mutual_information, normalised_mutual_information};
pub use matching::{cluster_accuracy, purity};
pub use pairs::adjusted_rand_index;
pub use silhouette::silhouette;

//! Rank correlation, and tests of whether paired differences are more than chance.

mod correlation;
mod kendall;
pub(crate) mod ranks;
mod sign_flip;
mod wilcoxon;

pub(crate) use correlation::{constant, correlation};
pub use correlation::{pearson, spearman};
pub use kendall::kendall;
pub use sign_flip::{Alternative, PairedTest, SignFlip};
pub use wilcoxon::wilcoxon;

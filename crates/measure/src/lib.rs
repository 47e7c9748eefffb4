//! Probes and measures over host arrays: what a representation holds, and how close generated items come to real ones.
//!
//! Everything here takes [`Features`] (rows of numbers, whoever made them) and returns a number with its uncertainty. No tensor
//! library, no files, no model: an encoder's output is a matrix by the time it arrives. Arithmetic is in f64 over features stored
//! in f32, on all cores, and gives the same bits whatever the number of threads.
//!
//! - Reading a representation: [`probe()`] fits a linear or nearest-neighbour read-out and gives its score on held-out items with
//!   an interval; [`difference`] compares two such probes on the same items. Below them [`LogisticProblem`], [`RidgeProblem`], [`Knn`].
//! - Comparing two sets: [`frechet`](frechet()), [`density_coverage`], [`precision_recall`], [`kolmogorov_smirnov`],
//!   [`kid`](kid()), [`gaussian_mmd`], [`energy`](energy()), [`sliced_wasserstein`]; one set alone: [`inception_score`].
//! - Comparing pictures: [`psnr`](psnr()), [`ssim`](ssim()), [`ms_ssim`](ms_ssim()), and [`lpips`](lpips()) over a network's feature maps.
//! - Judging: [`accuracy`], [`r2`], [`agreement`](agreement()) with a Wilson interval, [`Bootstrap`] for anything else.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

mod agreement;
mod bootstrap;
mod coverage;
mod curvature;
mod draw;
mod error;
mod features;
#[cfg(test)]
mod fixture;
mod frechet;
mod gram;
mod knn;
mod ks;
mod lbfgs;
mod logistic;
mod neighbours;
mod pictures;
mod probe;
mod ridge;
mod samples;
mod score;
mod split;
mod standardise;
mod target;

pub use agreement::{Proportion, agreement};
pub use bootstrap::{Bootstrap, Interval};
pub use coverage::{DensityCoverage, PrecisionRecall, density_coverage, precision_recall};
pub use error::{Error, Result};
pub use features::Features;
pub use frechet::{FrechetDistance, Gaussian, frechet};
pub use knn::{Knn, Neighbour, Vote};
pub use ks::kolmogorov_smirnov;
pub use logistic::{FitOptions, Logistic, LogisticProblem};
pub use neighbours::Metric;
pub use pictures::{Layer, Lpips, Pictures, Window, lpips, ms_ssim, psnr, ssim};
pub use probe::{Choice, Difference, Kind, ProbeConfig, ProbeResult, difference, probe};
pub use ridge::{Ridge, RidgeProblem};
pub use samples::{
    Bandwidth, Discrepancy, InceptionConfig, InceptionScore, Kid, KidConfig, Order, Outputs, SlicedConfig,
    SlicedWasserstein, energy, gaussian_mmd, inception_score, kid, polynomial_mmd, sliced_wasserstein, wasserstein_1d,
};
pub use score::{accuracy, r2};
pub use split::{Fractions, Splits, split};
pub use standardise::Standardiser;
pub use target::{Outcomes, Part, ScoreName, Target};

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
//! - Codes against factors of variation: [`mig`], [`dci_boosted`] and [`dci_lasso`], [`sap_values`] and [`sap_classes`],
//!   [`factor_vae`], [`beta_vae`], [`modularity`], [`explicitness`], [`irs`], [`infomec`], [`mcc`].
//! - One representation: [`spectrum`] for ranks, [`two_nn`], [`local_dimension`] and [`local_pca`] for its dimension, [`hubness`],
//!   [`uniformity`], [`total_correlation`]; [`ksg`] for the information between two.
//! - Two representations of the same items: [`cka`], [`cknna`], [`mutual_neighbours`], [`cca`], [`svcca`], [`procrustes`].
//! - Clusters and retrieval: [`normalised_mutual_information`], [`adjusted_rand_index`], [`cluster_accuracy`]; [`Rankings`].
//! - Judging: [`accuracy`], [`r2`], [`Forecasts`] for calibration, [`agreement`](agreement()) with a Wilson interval,
//!   [`Bootstrap`] for anything else; [`SignFlip`] and [`wilcoxon`] for paired differences, [`spearman`] and [`kendall`].

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

mod agreement;
mod boosting;
mod bootstrap;
mod calibration;
mod cluster;
mod coverage;
mod curvature;
mod disentangle;
mod draw;
mod error;
mod features;
#[cfg(test)]
mod fixture;
mod frechet;
mod gram;
mod knn;
mod ks;
mod lasso;
mod lbfgs;
mod logistic;
mod neighbours;
mod pictures;
mod probe;
mod ranking;
mod ridge;
mod samples;
mod score;
mod shape;
mod similarity;
mod split;
mod standardise;
mod stats;
mod target;
mod tree;

pub use agreement::{Proportion, agreement};
pub use boosting::{BoostOptions, Boosting};
pub use bootstrap::{Bootstrap, Interval};
pub use calibration::{Bin, Calibration, Forecasts};
pub use cluster::{
    Assignment, Normaliser, adjusted_mutual_information, adjusted_rand_index, assignment, cluster_accuracy,
    mutual_information, normalised_mutual_information, purity, silhouette,
};
pub use coverage::{DensityCoverage, PrecisionRecall, density_coverage, precision_recall};
pub use disentangle::{
    Codes, Correlation, Dci, Explicitness, FactorVae, Factors, FixedFactor, InfoMec, Irs, Mcc, Mig, Modularity, Sap,
    beta_vae, dci, dci_boosted, dci_lasso, explicitness, factor_vae, infomec, irs, mcc, mig, modularity, sap_classes,
    sap_values,
};
pub use error::{Error, Result};
pub use features::Features;
pub use frechet::{FrechetDistance, Gaussian, frechet};
pub use knn::{Knn, Neighbour, Vote};
pub use ks::kolmogorov_smirnov;
pub use lasso::{Lasso, lasso};
pub use logistic::{FitOptions, Logistic, LogisticProblem};
pub use neighbours::Metric;
pub use pictures::{Layer, Lpips, Pictures, Window, lpips, ms_ssim, psnr, ssim};
pub use probe::{Choice, Difference, Kind, ProbeConfig, ProbeResult, difference, probe};
pub use ranking::{Rankings, roc_auc};
pub use ridge::{Ridge, RidgeProblem};
pub use samples::{
    Bandwidth, Discrepancy, InceptionConfig, InceptionScore, Kid, KidConfig, Order, Outputs, SlicedConfig,
    SlicedWasserstein, energy, gaussian_mmd, inception_score, kid, polynomial_mmd, sliced_wasserstein, wasserstein_1d,
};
pub use score::{accuracy, macro_f1, r2};
pub use shape::{
    Centring, Cut, Hubness, InformationEstimate, LocalDimension, Spectrum, TwoNn, alignment, hubness, ksg, ksg_classes,
    local_dimension, local_pca, spectrum, total_correlation, two_nn, uniformity,
};
pub use similarity::{
    Cca, Estimator, Kernel, KernelLength, cca, cka, cknna, hsic, mutual_neighbours, procrustes, svcca,
};
pub use split::{Fractions, Splits, split};
pub use standardise::Standardiser;
pub use stats::{Alternative, PairedTest, SignFlip, kendall, pearson, spearman, wilcoxon};
pub use target::{Outcomes, Part, ScoreName, Target};

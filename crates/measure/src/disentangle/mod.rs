//! How well single codes of a representation stand for single factors of variation.

mod beta_vae;
mod dci;
mod discrete;
mod explicitness;
mod factor_vae;
mod factors;
mod groups;
mod infomec;
mod irs;
#[cfg(test)]
mod known_codes;
mod mcc;
mod mig;
mod modularity;
mod sap;
mod svm;

pub use beta_vae::beta_vae;
pub use dci::{Dci, dci, dci_boosted, dci_lasso};
pub use explicitness::{Explicitness, explicitness};
pub use factor_vae::{FactorVae, factor_vae};
pub use factors::Factors;
pub use groups::FixedFactor;
pub use infomec::{Codes, InfoMec, infomec};
pub use irs::{Irs, irs};
pub use mcc::{Correlation, Mcc, mcc};
pub use mig::{Mig, mig};
pub use modularity::{Modularity, modularity};
pub use sap::{Sap, sap_classes, sap_values};

//! Representations learned without labels.

pub mod byol;
pub mod cpc;

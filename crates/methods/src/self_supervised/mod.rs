//! Representations learned without labels.

pub mod byol;

//! Representations of graphs and of their vertices.

pub mod deepwalk;

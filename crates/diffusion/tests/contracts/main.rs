//! What every path, step, guidance and loss must hold to, in one process (each that loads libtorch costs time).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its parts too")]

mod fakes;
mod guidance;
mod learned_variance;
mod loss;
mod mixture;
mod parametrised;
mod reference;
mod steps;

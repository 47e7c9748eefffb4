//! What every path, step, guidance and loss must hold to, in one process (each that loads libtorch costs time).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise, says what it skips, and compares exactly"
)]

mod compose;
mod fakes;
mod guidance;
mod latents;
mod learned_variance;
mod loss;
mod mixture;
mod parametrised;
mod reference;
mod steered;
mod steps;

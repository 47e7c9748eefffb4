//! The real binary in scratch folders: what a person types, sees and finds on disk, and what is left when the process is
//! killed at any moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise, says what it skips, and compares exactly"
)]

mod data;
mod drawing;
mod importing;
mod kills;
mod measure;
mod pages;
mod reading;
mod refusals;
mod resume;
mod scratch;
mod settings;

//! The real binary in scratch folders: what a person types, sees and finds on disk, and what is left when the process is
//! killed at any moment.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "all of it is test code"
)]

mod data;
mod drawing;
mod kills;
mod refusals;
mod resume;
mod scratch;
mod settings;

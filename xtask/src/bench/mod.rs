//! `cargo xtask bench`: our side and its peers as long-lived processes, run in turn, and what is written of it.
//!
//! `rows` says what is compared, `gpu` what is on an accelerator, `side` speaks the protocol, `contest` runs a row, `ratio` is the estimator,
//! `report` writes, `peers` is the command.

mod contest;
mod gpu;
mod machine;
pub mod peers;
mod ratio;
mod report;
mod rows;
mod side;

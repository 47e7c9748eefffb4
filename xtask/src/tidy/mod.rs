//! `cargo xtask tidy`: the invariants of `ARCHITECTURE.md` that a program can check, one small function per rule.
//!
//! Rules work on the text of the files that git knows or would add, so each has a test on a bad sample.

mod built;
mod pages;
mod rules;
mod shape;
mod source;
mod text;
mod walls;

pub use rules::{check, renew_readme, run};

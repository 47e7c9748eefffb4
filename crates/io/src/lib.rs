//! Every file format Pentimento reads or writes, in both directions, over host arrays.
//!
//! Nothing here knows libtorch: bytes come in, [`Array`]s go out, and the reverse. That keeps the readers fast to
//! compile, cheap to fuzz and usable before any tensor exists.

pub mod array;
mod error;

pub use array::{Array, Values};
pub use error::{Error, Result};

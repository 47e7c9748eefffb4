//! Every file format Pentimento reads or writes, in both directions, over host arrays.
//!
//! Nothing here knows libtorch: bytes come in, [`Array`]s go out, and the reverse. That keeps the readers fast to
//! compile, cheap to fuzz and usable before any tensor exists.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

pub mod array;
pub mod atomic;
pub mod axis;
pub mod chart;
pub mod cifar;
pub mod detect;
pub mod dsprites;
pub mod edm_zip;
mod error;
pub mod events;
pub mod features;
pub mod folder;
pub mod fuzz;
pub mod graph;
pub mod hf_parquet;
pub mod http;
pub mod idx;
pub mod items;
pub mod jsonl;
pub mod limits;
pub mod lock;
pub mod npy;
pub mod npz;
mod parquet_pages;
pub mod picture;
pub mod plots;
pub mod png_out;
pub mod read_back;
pub mod reference;
pub mod report;
pub mod safetensors;
mod scalar;
pub mod shards;
pub mod source;
pub mod system;
pub mod table;
pub mod tar_gz;
pub mod text;
pub mod weights;
mod zip_members;

pub use array::{Array, Values};
pub use error::{Error, Result};

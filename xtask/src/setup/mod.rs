//! Finding or fetching libtorch, once, and linking it where the build and the built programs look.
//!
//! The first that is there is taken: `LIBTORCH`, an importable Python torch of exactly this version, the cache, the
//! official CPU wheel, the wheels of PyPI. Whatever it is becomes one *curated folder* (headers, the CPU libraries and
//! what they need, a linker script in place of `libtorch.so`), made in a temporary folder, checked, then renamed.

mod curate;
mod find;
mod needs;
mod wheels;

pub use curate::dynamic;
pub use find::{Ask, run};

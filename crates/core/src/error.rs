/// What a caller of the core can get wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape than the one asked for.
    #[error("{what}: the shape is {got:?} where {want:?} is needed; check that file and recipe belong together")]
    ShapeMismatch {
        /// The parameter or argument.
        what: String,
        /// The shape needed.
        want: Vec<i64>,
        /// The shape found.
        got: Vec<i64>,
    },
    /// Weights were loaded by name and some are absent.
    #[error("{} of {total} weights are missing, first {}; check that file and recipe belong together", missing.len(), missing.first().map_or("", String::as_str))]
    MissingWeights {
        /// Names that were expected and not found.
        missing: Vec<String>,
        /// How many were expected.
        total: usize,
    },
    /// One of a closed set of names was expected.
    #[error("unknown {what} \"{got}\"; choose one of {choices}{hint}")]
    UnknownChoice {
        /// What kind of thing was named.
        what: &'static str,
        /// What was typed.
        got: String,
        /// The choices, comma-separated.
        choices: String,
        /// `; did you mean euler?` where one is near, or nothing.
        hint: String,
    },
    /// A number is out of its range.
    #[error("{what} = {got}; must be {want}")]
    OutOfRange {
        /// The setting.
        what: String,
        /// The value given.
        got: String,
        /// The range in words.
        want: String,
    },
    /// libtorch refused an operation on tensors that came from outside.
    #[error("{what}: {source}")]
    Torch {
        /// What was attempted.
        what: String,
        /// libtorch's own words.
        source: tch::TchError,
    },
}

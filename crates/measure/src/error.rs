/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a measure cannot be taken. Each prints as one sentence: what, what was found, what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two things that must go together differ in length or width.
    #[error("{what}: {got} found where {want} are needed; give one for each")]
    LengthMismatch {
        /// What was counted: `labels`, `columns of the test features`.
        what: &'static str,
        /// How many were needed.
        want: usize,
        /// How many came.
        got: usize,
    },
    /// A set with fewer items than the measure needs.
    #[error("{what}: {got} found, at least {need} are needed; give more")]
    TooFew {
        /// What was counted.
        what: &'static str,
        /// The least that works.
        need: usize,
        /// How many came.
        got: usize,
    },
    /// A NaN or an infinity.
    #[error("{what}: the value at row {row}, column {column} is not finite; check the encoder that made it")]
    NotFinite {
        /// Which array.
        what: &'static str,
        /// Row (item).
        row: usize,
        /// Column; 0 for a target.
        column: usize,
    },
    /// A classifier was asked of items that all have one label.
    #[error("{what}: every item has label {label}, so there is nothing to tell apart; give at least two classes")]
    OneClass {
        /// Which labels.
        what: &'static str,
        /// The only label.
        label: u32,
    },
    /// A regression target that does not vary, for which R^2 is undefined.
    #[error("{what}: every value is the same, so R^2 is undefined; give a target that varies")]
    ConstantTarget {
        /// Which target.
        what: &'static str,
    },
    /// Values that are all the same where the measure needs them to differ.
    #[error("{what}: every value is the same, so {measure} is undefined; give values that vary")]
    NoSpread {
        /// Which values.
        what: &'static str,
        /// The measure, with its article.
        measure: &'static str,
    },
    /// Features that are the same for all items.
    #[error(
        "{what}: every one of the {columns} columns is constant, so nothing can be read; check the encoder that made it"
    )]
    ConstantFeatures {
        /// Which features.
        what: &'static str,
        /// Number of columns.
        columns: usize,
    },
    /// More neighbours than there are items to be neighbours.
    #[error("{k} neighbours of {available} items cannot be found; choose between 1 and {available}")]
    Neighbours {
        /// Neighbours asked for.
        k: usize,
        /// Items that can be one.
        available: usize,
    },
    /// A setting outside its range.
    #[error("{name} = {got}; it must be {want}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        got: f64,
        /// The range in words.
        want: &'static str,
    },
    /// Labels in one part and values in another.
    #[error(
        "{what} has labels where the training part has values, or the reverse; give the same kind of target everywhere"
    )]
    MixedTargets {
        /// The part that differs.
        what: &'static str,
    },
    /// Two probes were compared that do not share their test items.
    #[error("the two probes were not taken on the same test items and target; run both on the same split")]
    NotPaired,
    /// An iterative fit did not reach its tolerance.
    #[error(
        "the fit stopped after {iterations} iterations with a gradient of {gradient:.2e}, above {tolerance:.2e}; \
         allow more iterations or a stronger penalty"
    )]
    NotConverged {
        /// Iterations made.
        iterations: usize,
        /// Largest entry of the gradient that was left.
        gradient: f64,
        /// What it had to fall below.
        tolerance: f64,
    },
    /// An eigenvalue or singular value iteration failed.
    #[error("{what}: the eigenvalues could not be found; check the features for extreme values")]
    Eigen {
        /// Of which matrix.
        what: &'static str,
    },
    /// A row that should be a probability distribution.
    #[error(
        "row {row} of the probabilities sums to {sum:.4} or has a negative entry; give rows that sum to 1, or logits"
    )]
    NotDistribution {
        /// Row (item).
        row: usize,
        /// Sum of its entries.
        sum: f64,
    },
    /// Two arrays that are compared entry by entry, of different shapes.
    #[error("{what}: shape {got:?} found where {want:?} is needed; bring both to one size")]
    ShapeMismatch {
        /// Which array.
        what: &'static str,
        /// The shape that was needed.
        want: Vec<usize>,
        /// The shape that came.
        got: Vec<usize>,
    },
}

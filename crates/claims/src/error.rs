use std::path::PathBuf;

/// What can stop a claim before or while it runs. Each prints as one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe of the catalogue does not parse, or its tables do not fit together.
    #[error("recipe of {slug}: {why}")]
    Recipe {
        /// The method.
        slug: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// No method of that name.
    #[error("no method is called {slug}{hint}; `pentimento methods` lists them")]
    UnknownMethod {
        /// As typed.
        slug: String,
        /// The nearest name, if there is one.
        hint: String,
    },
    /// The margin or the budget in this checkout is not the committed one.
    #[error("{}: differs from what is committed, and a claim is judged by what was fixed before it ran; commit it, or try it with fewer than 5 seeds", path.display())]
    NotCommitted {
        /// The recipe.
        path: PathBuf,
    },
    /// An arm gave a number that cannot be compared.
    #[error("{slug}: {metric} of arm {arm} at seed {seed} is {value}; {why}")]
    NotComparable {
        /// The method.
        slug: String,
        /// The arm.
        arm: String,
        /// The seed.
        seed: u64,
        /// The metric.
        metric: String,
        /// What was measured.
        value: String,
        /// Why it is of no use.
        why: &'static str,
    },
    /// The user asked to stop; finished runs are kept.
    #[error("interrupted; the same command goes on after the last finished run")]
    Interrupted,
    /// An evidence file that cannot be used.
    #[error("{}: {why}", path.display())]
    BadEvidence {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used and what to do.
        why: String,
    },
    /// A list of settings to choose from that holds none.
    #[error("a list of settings to choose from is empty; give it one at least")]
    NoChoice,
    /// Data with fewer items than a setting asks for.
    #[error("{asked} items are asked for and the data has {there}; ask for fewer, such as probe_items = {there}")]
    TooFew {
        /// Items asked for.
        asked: u64,
        /// Items there are.
        there: u64,
    },
    /// A claim about classes on data that has none.
    #[error("the data has no classes, or not for every item; name a set in `[data]` that has")]
    NoClasses,
    /// From the measures.
    #[error(transparent)]
    Measure(#[from] pentimento_measure::Error),
    /// From training.
    #[error(transparent)]
    Train(#[from] pentimento_train::Error),
    /// From the file formats.
    #[error(transparent)]
    Io(#[from] pentimento_io::Error),
    /// From the data sets.
    #[error(transparent)]
    Data(#[from] pentimento_data::Error),
    /// From the networks.
    #[error(transparent)]
    Network(#[from] pentimento_nn::Error),
}

use std::path::PathBuf;

/// What can stop a run before or while it works. Each prints as one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe does not parse.
    #[error("{file}: {place}{message}{hint}")]
    Recipe {
        /// The file, or the settings of the command line.
        file: String,
        /// Line and column, if known.
        place: String,
        /// What is wrong.
        message: String,
        /// The nearest known name.
        hint: String,
    },
    /// A `--set` that cannot be applied.
    #[error("--set {setting} {why}")]
    Setting {
        /// As typed.
        setting: String,
        /// Why not.
        why: String,
    },
    /// A number of the recipe is out of its range.
    #[error("{key} = {got}; {want}")]
    Value {
        /// Its full key.
        key: &'static str,
        /// The value.
        got: String,
        /// What it must be.
        want: String,
    },
    /// The run folder belongs to another plan.
    #[error("{}: holds a run of another recipe ({difference}); choose another --outdir, or --fresh to start over", path.display())]
    OtherPlan {
        /// The run folder.
        path: PathBuf,
        /// The first key that differs, with both values.
        difference: String,
    },
    /// A checkpoint that is readable but does not fit.
    #[error("{}: {why}", path.display())]
    BadCheckpoint {
        /// The file.
        path: PathBuf,
        /// Why it does not fit and what to do.
        why: String,
    },
    /// No run or model where one was named.
    #[error("{}: {why}", path.display())]
    NoRun {
        /// What was named.
        path: PathBuf,
        /// What is missing and what to do.
        why: String,
    },
    /// Training met only non-finite gradients.
    #[error(
        "{steps} steps in a row had no finite gradient, the last at step {step}; first not finite: {layer}; the last good checkpoint is {last}; lower train.lr or use precision = \"fp32\""
    )]
    NonFinite {
        /// How many in a row.
        steps: u64,
        /// The last of them.
        step: u64,
        /// The first parameter, in order, that is not finite or whose gradient is not.
        layer: String,
        /// File to resume from.
        last: String,
    },
    /// A TorchScript file that cannot be used.
    #[error("{}: {why}", path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// A model that is asked for what it has not.
    #[error("this model has no {what}")]
    Cannot {
        /// What it was asked for.
        what: &'static str,
    },
    /// A device that is not there.
    #[error("device {device}: {why}")]
    Device {
        /// As asked for.
        device: String,
        /// Why it cannot be used.
        why: String,
    },
    /// From the file formats.
    #[error(transparent)]
    Io(#[from] pentimento_io::Error),
    /// From the data sets.
    #[error(transparent)]
    Data(#[from] pentimento_data::Error),
    /// From the networks.
    #[error(transparent)]
    Network(#[from] pentimento_nn::Error),
    /// From the core.
    #[error(transparent)]
    Core(#[from] pentimento_core::Error),
    /// From the measures.
    #[error(transparent)]
    Measure(#[from] pentimento_measure::Error),
}

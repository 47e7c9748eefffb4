/// What can go wrong with data. Each prints as one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From a file.
    #[error(transparent)]
    Io(#[from] pentimento_io::Error),
    /// Readable data that cannot be used as it is.
    #[error("{what}: {why}")]
    Bad {
        /// The data set, file or setting.
        what: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// A name that is neither a known data set nor a path.
    #[error("{name}: no such data set or path; looked in {looked}{hint}")]
    Unknown {
        /// As typed.
        name: String,
        /// Folders that were searched.
        looked: String,
        /// What to do.
        hint: String,
    },
    /// A loader thread ended without an answer.
    #[error("a loader thread stopped: {why}; this is a defect, please report it")]
    Thread {
        /// Its last words.
        why: String,
    },
}

impl Error {
    /// Data that cannot be used.
    pub fn bad(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Bad { what: what.into(), why: why.into() }
    }
}

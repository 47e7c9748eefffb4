use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between a file and an array. Each prints as one sentence: file, place, what was found, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not what the format says.
    #[error("{}: {place}: {found}; {advice}", path.display())]
    Bad {
        /// The file, or the archive and its member as `archive.zip!member.png`.
        path: PathBuf,
        /// Where in it: `byte 16`, `header`, `row 12, column image`, `member 00000/img.png`.
        place: String,
        /// What was found and what was expected there: `magic 0x1234, expected 0x0803`.
        found: String,
        /// What the user can do about it.
        advice: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {what}: {source}; {advice}", path.display())]
    Os {
        /// The file or folder.
        path: PathBuf,
        /// The verb: `open`, `read`, `write`, `rename`, `lock`.
        what: &'static str,
        /// The reason as the system gives it.
        source: std::io::Error,
        /// What the user can do about it.
        advice: String,
    },
    /// A file's declared size is beyond what this program will allocate for it.
    #[error("{}: {place}: {asked} bytes are declared, more than the limit of {limit}; {advice}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Where the size is declared.
        place: String,
        /// Bytes asked for.
        asked: u64,
        /// The limit in bytes.
        limit: u64,
        /// What the user can do about it.
        advice: String,
    },
}

impl Error {
    /// Bad content at a place in a file.
    pub fn bad(path: &Path, place: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Bad { path: path.to_owned(), place: place.into(), found: found.into(), advice: advice.into() }
    }

    /// A refusal of the operating system, with advice by its kind.
    pub fn os(path: &Path, what: &'static str, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{AlreadyExists, NotFound, PermissionDenied, StorageFull};
        let advice = match source.kind() {
            NotFound => "check the path",
            PermissionDenied => "check the permissions of the file and its folder",
            StorageFull => "free some space; what was saved before is untouched",
            AlreadyExists => "choose another name or remove it",
            _ => "check the disk and try again",
        };
        Self::Os { path: path.to_owned(), what, source, advice: advice.into() }
    }
}

/// What a caller of this crate can get wrong. Each prints as one sentence: which setting, what is wrong, what to choose.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A size must divide another and does not.
    #[error("{key} = {got} does not divide {into}; the nearest choices are {nearest}")]
    Indivisible {
        /// The setting.
        key: String,
        /// Its value.
        got: i64,
        /// What it must divide, in words and numbers.
        into: String,
        /// Values that would do.
        nearest: String,
    },
    /// A number is out of its range.
    #[error("{key} = {got}; must be {want}")]
    OutOfRange {
        /// The setting.
        key: String,
        /// Its value.
        got: String,
        /// The range in words.
        want: String,
    },
    /// One of a closed set was expected.
    #[error("{key} = {got} is unknown; the nearest choice is {nearest}, and there are {choices}")]
    UnknownChoice {
        /// The setting.
        key: String,
        /// Its value.
        got: String,
        /// The choice closest to it.
        nearest: String,
        /// All choices.
        choices: String,
    },
    /// A setting without a default is absent.
    #[error("{key} is missing; {advice}")]
    Missing {
        /// The setting.
        key: String,
        /// What to write.
        advice: String,
    },
    /// A foreign network cannot be expressed by ours.
    #[error("{what} = {got} cannot be expressed here: {why}")]
    Unsupported {
        /// The foreign setting.
        what: String,
        /// Its value.
        got: String,
        /// The reason, and a way around it if there is one.
        why: String,
    },
    /// Weights did not fit.
    #[error(transparent)]
    Weights(#[from] pentimento_core::Error),
}

impl Error {
    pub(crate) fn range(key: &str, got: impl ToString, want: &str) -> Self {
        Self::OutOfRange { key: key.into(), got: got.to_string(), want: want.into() }
    }

    pub(crate) fn unsupported(what: &str, got: impl ToString, why: &str) -> Self {
        Self::Unsupported { what: what.into(), got: got.to_string(), why: why.into() }
    }

    /// The error when `got` does not divide `whole`, with the divisors around it.
    pub(crate) fn indivisible(key: &str, got: i64, whole: i64, what: &str) -> Self {
        let divisors: Vec<i64> = (1..=whole).filter(|d| whole % d == 0).collect();
        let below = divisors.iter().rev().find(|d| **d < got);
        let above = divisors.iter().find(|d| **d > got);
        let nearest: Vec<String> = below.into_iter().chain(above).map(i64::to_string).collect();
        Self::Indivisible { key: key.into(), got, into: format!("{what} {whole}"), nearest: nearest.join(" and ") }
    }

    /// The error for a name outside a closed list, with the one that needs the fewest edits.
    pub(crate) fn unknown(key: &str, got: &str, choices: &[String]) -> Self {
        let nearest = choices.iter().min_by_key(|c| pentimento_core::edits(&c.to_lowercase(), &got.to_lowercase()));
        Self::UnknownChoice {
            key: key.into(),
            got: got.into(),
            nearest: nearest.cloned().unwrap_or_default(),
            choices: choices.join(", "),
        }
    }
}

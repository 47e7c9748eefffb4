use crate::draw;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Shares of the items kept for validation and for test; the rest is for training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fractions {
    /// Share that chooses the strength of a probe.
    pub validation: f64,
    /// Share that the score is taken on.
    pub test: f64,
}

impl Default for Fractions {
    fn default() -> Self {
        Self { validation: 0.15, test: 0.25 }
    }
}

/// Item indices of the three parts, each rising; together they are all items, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits {
    /// Items to fit on.
    pub train: Vec<usize>,
    /// Items to choose on.
    pub validation: Vec<usize>,
    /// Items to score on.
    pub test: Vec<usize>,
}

/// Splits `n` items into training, validation and test parts.
///
/// An item's part depends on (seed, its index) alone, so items added at the end leave the others where they were; the parts
/// therefore have the asked sizes on average only.
///
/// # Errors
/// A share that is negative or not finite, or shares that leave nothing for training.
pub fn split(n: usize, fractions: Fractions, seed: u64) -> Result<Splits> {
    const STREAM: u64 = 0x0073_706c_6974;
    let Fractions { validation, test } = fractions;
    for (name, got) in
        [("validation share", validation), ("test share", test), ("validation and test share", validation + test)]
    {
        if !(0.0..1.0).contains(&got) {
            return Err(Error::Setting { name, got, want: "at least 0 and below 1" });
        }
    }
    let mut splits = Splits::default();
    for i in 0..n {
        let u = draw::unit(seed, STREAM, i as u64);
        let part = if u < test {
            &mut splits.test
        } else if u < test + validation {
            &mut splits.validation
        } else {
            &mut splits.train
        };
        part.push(i);
    }
    Ok(splits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_complete_and_stay() {
        let fractions = Fractions { validation: 0.1, test: 0.2 };
        let parts = split(10_000, fractions, 3).unwrap();
        let mut all = [parts.train.clone(), parts.validation.clone(), parts.test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
        // Standard deviations: 30 and 40.
        assert!(parts.validation.len().abs_diff(1000) < 150 && parts.test.len().abs_diff(2000) < 200);

        let more = split(12_000, fractions, 3).unwrap();
        assert_eq!(more.test.iter().copied().filter(|&i| i < 10_000).collect::<Vec<_>>(), parts.test);
        assert_ne!(split(10_000, fractions, 4).unwrap(), parts);
    }

    #[test]
    fn shares_must_leave_training_items() {
        let error = split(10, Fractions { validation: 0.5, test: 0.5 }, 0).unwrap_err();
        assert_eq!(error.to_string(), "validation and test share = 1; it must be at least 0 and below 1");
        assert!(split(10, Fractions { validation: f64::NAN, test: 0.5 }, 0).is_err());
        assert_eq!(split(0, Fractions::default(), 0).unwrap(), Splits::default());
    }
}

use crate::score::r2_of;
use crate::{Error, Features, Result, accuracy};
use serde::{Deserialize, Serialize};

/// What is to be read from the features of some items.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Classes; scored by accuracy.
    Labels(&'a [u32]),
    /// Numbers; scored by R^2.
    Values(&'a [f32]),
}

/// One part of the items: their features and what is to be read from them.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Features `[N, D]`.
    pub features: &'a Features,
    /// One target per item.
    pub target: Target<'a>,
}

/// What the score of a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreName {
    /// Share of right labels.
    Accuracy,
    /// Coefficient of determination.
    R2,
}

/// Targets and predictions of the test items, in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcomes {
    /// Of labels.
    Labels {
        /// What was to be read.
        target: Vec<u32>,
        /// What was read.
        predicted: Vec<u32>,
    },
    /// Of values.
    Values {
        /// What was to be read.
        target: Vec<f64>,
        /// What was read.
        predicted: Vec<f64>,
    },
}

/// What was read from the items of a part.
pub(crate) enum Predicted {
    Labels(Vec<u32>),
    Values(Vec<f64>),
}

impl Part<'_> {
    /// Errs unless there is one finite target per item.
    pub(crate) fn check(&self, what: &'static str) -> Result<()> {
        match self.target {
            Target::Labels(labels) => self.features.want_targets(what, labels.len()),
            Target::Values(values) => {
                self.features.want_targets(what, values.len())?;
                match values.iter().position(|v| !v.is_finite()) {
                    Some(row) => Err(Error::NotFinite { what, row, column: 0 }),
                    None => Ok(()),
                }
            }
        }
    }

    /// The part's targets beside what was read.
    pub(crate) fn outcomes(&self, predicted: Predicted) -> Result<Outcomes> {
        match (self.target, predicted) {
            (Target::Labels(target), Predicted::Labels(predicted)) => {
                Ok(Outcomes::Labels { target: target.to_vec(), predicted })
            }
            (Target::Values(target), Predicted::Values(predicted)) => {
                Ok(Outcomes::Values { target: target.iter().map(|&v| f64::from(v)).collect(), predicted })
            }
            _ => Err(Error::MixedTargets { what: "the validation or test part" }),
        }
    }
}

impl Outcomes {
    /// Accuracy or R^2 over all items.
    ///
    /// # Errors
    /// Values whose target does not vary; `what` names it.
    pub fn score(&self, what: &'static str) -> Result<f64> {
        match self {
            Self::Labels { target, predicted } => accuracy(target, predicted),
            Self::Values { target, predicted } => {
                r2_of(target, predicted, 0..target.len()).ok_or(Error::ConstantTarget { what })
            }
        }
    }

    /// The score over some items, repeats included; NaN where it is undefined.
    pub(crate) fn score_of(&self, items: &[usize]) -> f64 {
        match self {
            Self::Labels { target, predicted } => {
                items.iter().filter(|&&i| target[i] == predicted[i]).count() as f64 / items.len() as f64
            }
            Self::Values { target, predicted } => r2_of(target, predicted, items.iter().copied()).unwrap_or(f64::NAN),
        }
    }
}

/// The score on the test part of the best answer that looks at no features.
pub(crate) fn floor(train: &Part, test: &Part) -> Result<f64> {
    let n = test.features.n();
    let guess = match train.target {
        Target::Labels(labels) => {
            let mut sorted = labels.to_vec();
            sorted.sort_unstable();
            let runs = sorted.chunk_by(|a, b| a == b);
            let commonest = runs.reduce(|best, run| if run.len() > best.len() { run } else { best });
            Predicted::Labels(vec![commonest.map_or(0, |run| run[0]); n])
        }
        Target::Values(values) => {
            Predicted::Values(vec![values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64; n])
        }
    };
    test.outcomes(guess)?.score("test target")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_commonest_label_or_the_mean() {
        let x = Features::new(1, vec![0.0; 4]).unwrap();
        let part = |target| Part { features: &x, target };
        // Of the equally common 1 and 7 the last: any would do, but always the same.
        let (train, test) = (part(Target::Labels(&[7, 1, 1, 7])), part(Target::Labels(&[1, 1, 1, 7])));
        let got = floor(&train, &test).unwrap();
        assert_eq!(got, floor(&part(Target::Labels(&[1, 7, 7, 1])), &test).unwrap());
        assert_eq!(floor(&part(Target::Labels(&[2, 1, 1, 7])), &test).unwrap(), 0.75);
        let (train, test) = (part(Target::Values(&[1.0, 1.0, 1.0, 5.0])), part(Target::Values(&[0.0, 0.0, 4.0, 4.0])));
        assert_eq!(floor(&train, &test).unwrap(), 0.0);
    }
}

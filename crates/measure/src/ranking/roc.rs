use crate::stats::ranks::average_ranks;
use crate::{Error, Result};

/// Area under the ROC curve: the chance that a positive item scores above a negative one, ties counting half.
///
/// # Errors
/// Lists of different length, a score that is not finite, items of one kind only.
///
/// # Cost
/// A sort.
///
/// # Source
/// The rank-sum form of Mann and Whitney 1947; equals scikit-learn's `roc_auc_score`.
pub fn roc_auc(scores: &[f64], positive: &[bool]) -> Result<f64> {
    if scores.len() != positive.len() {
        return Err(Error::LengthMismatch { what: "marks of positive items", want: scores.len(), got: positive.len() });
    }
    if let Some(row) = scores.iter().position(|s| !s.is_finite()) {
        return Err(Error::NotFinite { what: "scores", row, column: 0 });
    }
    let hits = positive.iter().filter(|p| **p).count();
    for (what, got) in [("positive items", hits), ("negative items", scores.len() - hits)] {
        if got == 0 {
            return Err(Error::TooFew { what, need: 1, got });
        }
    }
    let sum: f64 = average_ranks(scores).iter().zip(positive).filter(|(_, p)| **p).map(|(r, _)| r).sum();
    let (hits, misses) = (hits as f64, (scores.len() - hits) as f64);
    Ok((sum - hits * (hits + 1.0) / 2.0) / (hits * misses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_learn_with_ties() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let positive: Vec<bool> = file.labels("roc.positive").into_iter().map(|l| l == 1).collect();
        assert_close(roc_auc(&file.f64s("roc.scores"), &positive).unwrap(), file.f64s("roc")[0], 1e-12);
    }

    #[test]
    fn order_decides_and_one_kind_is_refused() {
        assert_eq!(roc_auc(&[0.1, 0.4, 0.9], &[false, false, true]).unwrap(), 1.0);
        assert_eq!(roc_auc(&[0.1, 0.4, 0.9], &[true, false, false]).unwrap(), 0.0);
        assert_eq!(roc_auc(&[0.5; 4], &[true, false, false, true]).unwrap(), 0.5);
        assert!(roc_auc(&[0.1, 0.2], &[true, true]).is_err());
        assert!(roc_auc(&[], &[]).is_err());
        assert!(roc_auc(&[f64::NAN, 0.0], &[true, false]).is_err());
    }
}

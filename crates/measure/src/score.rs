use crate::{Error, Result};
use std::collections::BTreeSet;

/// Share of predictions that equal their target.
///
/// # Errors
/// Lists of different length, or empty ones.
pub fn accuracy(target: &[u32], predicted: &[u32]) -> Result<f64> {
    paired(target.len(), predicted.len())?;
    let hits = target.iter().zip(predicted).filter(|(t, p)| t == p).count();
    Ok(hits as f64 / target.len() as f64)
}

/// Macro-F1: the mean over all classes that occur, as target or prediction, of F1 = 2 TP / (2 TP + FP + FN). With one label an item
/// Micro-F1 is [`accuracy`].
///
/// # Errors
/// Lists of different length, or empty ones.
pub fn macro_f1(target: &[u32], predicted: &[u32]) -> Result<f64> {
    paired(target.len(), predicted.len())?;
    let classes: BTreeSet<u32> = target.iter().chain(predicted).copied().collect();
    let count = |of: &[u32], class: u32| of.iter().filter(|c| **c == class).count() as f64;
    let f1 = |class: u32| {
        let both = target.iter().zip(predicted).filter(|(t, p)| **t == class && t == p).count() as f64;
        2.0 * both / (count(target, class) + count(predicted, class))
    };
    Ok(classes.iter().map(|c| f1(*c)).sum::<f64>() / classes.len() as f64)
}

/// Coefficient of determination: 1 - sum (y - y_hat)^2 / sum (y - mean y)^2. One is perfect, zero is predicting the mean.
///
/// # Errors
/// Lists of different length, empty ones, a value that is not finite, a target that does not vary.
pub fn r2(target: &[f64], predicted: &[f64]) -> Result<f64> {
    paired(target.len(), predicted.len())?;
    for (what, values) in [("target", target), ("predictions", predicted)] {
        if let Some(row) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what, row, column: 0 });
        }
    }
    r2_of(target, predicted, 0..target.len()).ok_or(Error::ConstantTarget { what: "target" })
}

/// R^2 over the named items, `None` where their targets are all the same.
pub(crate) fn r2_of(target: &[f64], predicted: &[f64], items: impl Iterator<Item = usize> + Clone) -> Option<f64> {
    let (mut n, mut sum) = (0.0, 0.0);
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for i in items.clone() {
        n += 1.0;
        sum += target[i];
        least = least.min(target[i]);
        most = most.max(target[i]);
    }
    if least >= most {
        return None;
    }
    let mean = sum / n;
    let (mut errors, mut spread) = (0.0, 0.0);
    for i in items {
        errors += (target[i] - predicted[i]).powi(2);
        spread += (target[i] - mean).powi(2);
    }
    Some(1.0 - errors / spread)
}

fn paired(want: usize, got: usize) -> Result<()> {
    if want != got {
        return Err(Error::LengthMismatch { what: "predictions", want, got });
    }
    if want == 0 {
        return Err(Error::TooFew { what: "items to score", need: 1, got: 0 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_counts() {
        assert_eq!(accuracy(&[0, 1, 2, 2], &[0, 1, 1, 2]).unwrap(), 0.75);
        assert!(accuracy(&[], &[]).is_err());
        assert!(accuracy(&[1], &[]).is_err());
    }

    #[test]
    fn macro_f1_is_the_mean_over_the_classes_of_both_sides() {
        // By hand: F1 of class 0 is 4/5, of class 1 and class 2 zero.
        let got = macro_f1(&[0, 1, 2, 0, 1, 2], &[0, 2, 1, 0, 0, 1]).unwrap();
        assert!((got - (2.0 * 2.0 / 5.0) / 3.0).abs() < 1e-15, "{got}");
        // A class that is only predicted counts, with F1 zero.
        assert_eq!(macro_f1(&[0, 0], &[0, 5]).unwrap(), (2.0 / 3.0) / 2.0);
        assert_eq!(macro_f1(&[3], &[3]).unwrap(), 1.0);
        assert!(macro_f1(&[], &[]).is_err() && macro_f1(&[1], &[]).is_err());
    }

    #[test]
    fn r2_has_its_three_anchors() {
        let y = [1.0, 2.0, 3.0, 6.0];
        assert_eq!(r2(&y, &y).unwrap(), 1.0);
        assert_eq!(r2(&y, &[3.0; 4]).unwrap(), 0.0);
        // sklearn.metrics.r2_score([1, 2, 3, 6], [6, 3, 2, 1]) = 1 - 52 / 14
        assert!((r2(&y, &[6.0, 3.0, 2.0, 1.0]).unwrap() - (1.0 - 52.0 / 14.0)).abs() < 1e-15);
    }

    #[test]
    fn r2_refuses_what_it_cannot_judge() {
        assert_eq!(r2(&[0.1; 3], &[0.1; 3]).unwrap_err(), Error::ConstantTarget { what: "target" });
        assert_eq!(r2(&[1.0], &[1.0]).unwrap_err(), Error::ConstantTarget { what: "target" });
        assert_eq!(
            r2(&[1.0, 2.0], &[1.0, f64::NAN]).unwrap_err(),
            Error::NotFinite { what: "predictions", row: 1, column: 0 }
        );
    }
}

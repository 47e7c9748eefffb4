use super::ranks::{average_ranks, equal};
use crate::{Error, Result};

/// Linear correlation of two lists, in [-1, 1].
///
/// # Errors
/// Lists of different length, fewer than two items, a value that is not finite, a list of equal values.
pub fn pearson(a: &[f64], b: &[f64]) -> Result<f64> {
    check(a, b)?;
    correlation(a, b).ok_or_else(|| flat(a))
}

/// Rank correlation of two lists, in [-1, 1]: the linear one of their ranks, equal values sharing their mean rank.
///
/// # Errors
/// Lists of different length, fewer than two items, a value that is not finite, a list of equal values.
///
/// # Cost
/// Two sorts.
///
/// # Source
/// Spearman 1904; ties as in `scipy.stats.spearmanr`.
pub fn spearman(a: &[f64], b: &[f64]) -> Result<f64> {
    check(a, b)?;
    correlation(&average_ranks(a), &average_ranks(b)).ok_or_else(|| flat(a))
}

/// Linear correlation, `None` where either list does not vary.
pub(crate) fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if constant(a) || constant(b) {
        return None;
    }
    let (a, b) = (deviations(a)?, deviations(b)?);
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    Some((dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()).clamp(-1.0, 1.0))
}

/// Deviations from the mean over the largest of them, so that no square can underflow.
fn deviations(values: &[f64]) -> Option<Vec<f64>> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let most = values.iter().map(|v| (v - mean).abs()).fold(0.0, f64::max);
    (most > 0.0).then(|| values.iter().map(|v| (v - mean) / most).collect())
}

/// Whether all values are the same, by the data and not by a small variance: the rounded mean of equal values may differ from them.
pub(crate) fn constant(values: &[f64]) -> bool {
    values.iter().all(|v| equal(*v, values[0]))
}

/// Errs unless the lists can be correlated, their spread apart.
pub(super) fn check(a: &[f64], b: &[f64]) -> Result<()> {
    if a.len() != b.len() {
        return Err(Error::LengthMismatch { what: "values to correlate", want: a.len(), got: b.len() });
    }
    if a.len() < 2 {
        return Err(Error::TooFew { what: "values to correlate", need: 2, got: a.len() });
    }
    for (what, values) in [("first list", a), ("second list", b)] {
        if let Some(row) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what, row, column: 0 });
        }
    }
    Ok(())
}

pub(super) fn flat(a: &[f64]) -> Error {
    let what = if constant(a) { "first list" } else { "second list" };
    Error::NoSpread { what, measure: "a correlation" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scipy_with_and_without_ties() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        for case in ["free", "ties"] {
            let [a, b] = ["a", "b"].map(|side| file.f64s(&format!("correlation.{case}.{side}")));
            let want = file.f64s(&format!("correlation.{case}"));
            assert_close(pearson(&a, &b).unwrap(), want[0], 1e-12);
            assert_close(spearman(&a, &b).unwrap(), want[1], 1e-12);
        }
    }

    #[test]
    fn ranks_see_order_alone() {
        let a = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(spearman(&a, &a.map(f64::exp)).unwrap(), 1.0);
        assert_eq!(spearman(&a, &a.map(|v: f64| -v.powi(3))).unwrap(), -1.0);
        assert!(pearson(&a, &a.map(f64::exp)).unwrap() < 0.95);
        assert_close(pearson(&a.map(|v| v * 1e-200), &a).unwrap(), 1.0, 1e-12);
    }

    #[test]
    fn what_has_no_correlation_is_named() {
        assert_eq!(
            pearson(&[0.1; 3], &[1.0, 2.0, 3.0]).unwrap_err().to_string(),
            "first list: every value is the same, so a correlation is undefined; give values that vary"
        );
        assert_eq!(
            spearman(&[1.0, 2.0], &[0.5; 2]).unwrap_err(),
            Error::NoSpread { what: "second list", measure: "a correlation" }
        );
        assert!(pearson(&[1.0], &[1.0]).is_err());
        assert!(pearson(&[1.0, 2.0], &[1.0]).is_err());
        assert!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]).is_err());
    }
}

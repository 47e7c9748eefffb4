use super::ranks::average_ranks;
use super::sign_flip::{Alternative, PairedTest};
use crate::{Error, Result};

/// Wilcoxon's signed-rank test of paired differences: the ranks of their sizes, summed over the positive ones.
///
/// Differences of 0 are dropped; equal sizes share their mean rank. The distribution is exact for ties too: every sign pattern
/// of the ranks at hand is counted by dynamic programming, where others change to a normal approximation.
///
/// # Errors
/// A difference that is not finite, none that is not 0, more than 1000 of them.
///
/// # Cost
/// O(N^3).
///
/// # Source
/// Wilcoxon 1945; zeros as in the original and in `scipy.stats.wilcoxon`.
pub fn wilcoxon(differences: &[f64], alternative: Alternative) -> Result<PairedTest> {
    const MOST: usize = 1000;
    if let Some(row) = differences.iter().position(|d| !d.is_finite()) {
        return Err(Error::NotFinite { what: "paired differences", row, column: 0 });
    }
    let kept: Vec<f64> = differences.iter().copied().filter(|d| d.abs() > 0.0).collect();
    let n = kept.len();
    if n == 0 {
        return Err(Error::TooFew { what: "paired differences other than 0", need: 1, got: 0 });
    }
    if n > MOST {
        return Err(Error::Setting { name: "paired differences", got: n as f64, want: "at most 1000; use SignFlip" });
    }
    let ranks = average_ranks(&kept.iter().map(|d| d.abs()).collect::<Vec<_>>());
    let statistic: f64 = kept.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, r)| r).sum();
    // Mean ranks are halves: twice them are whole numbers, and so are places in the table of chances.
    let double = |rank: f64| whole(2.0 * rank);
    let total = n * (n + 1);
    let mut chance = vec![0.0; total + 1];
    chance[0] = 1.0;
    let mut reach = 0;
    for rank in ranks.iter().map(|&r| double(r)) {
        reach += rank;
        for sum in (0..=reach).rev() {
            let with = if sum >= rank { chance[sum - rank] } else { 0.0 };
            chance[sum] = 0.5 * (chance[sum] + with);
        }
    }
    let place = double(statistic);
    let at_most: f64 = chance[..=place].iter().sum();
    let at_least: f64 = chance[place..].iter().sum();
    let p = match alternative {
        Alternative::TwoSided => 2.0 * at_most.min(at_least),
        Alternative::Greater => at_least,
        Alternative::Less => at_most,
    };
    let patterns = u32::try_from(n).ok().and_then(|n| 1usize.checked_shl(n)).unwrap_or(usize::MAX);
    Ok(PairedTest { statistic, p: p.min(1.0), patterns, exact: true })
}

#[expect(clippy::cast_possible_truncation, reason = "twice a mean rank of at most 1000 items: a small whole number")]
fn whole(v: f64) -> usize {
    v as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scipy_without_ties_and_all_patterns_with_them() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        for case in ["differences", "tied"] {
            let d = file.f64s(&format!("paired.{case}"));
            let want = file.f64s(&format!("paired.{case}.wilcoxon"));
            for (i, alternative) in
                [Alternative::TwoSided, Alternative::Greater, Alternative::Less].into_iter().enumerate()
            {
                let got = wilcoxon(&d, alternative).unwrap();
                assert_close(got.statistic, want[0], 1e-12);
                assert_close(got.p, want[i + 1], 1e-12);
            }
        }
    }

    #[test]
    fn small_cases_by_hand() {
        // Ranks 1, 2, 3 all positive: one pattern of eight is as high.
        let got = wilcoxon(&[0.5, 2.0, 0.0, 1.0], Alternative::Greater).unwrap();
        assert_eq!((got.statistic, got.p, got.patterns), (6.0, 0.125, 8));
        assert_eq!(wilcoxon(&[-1.0, 1.0], Alternative::TwoSided).unwrap().p, 1.0);
        assert!(wilcoxon(&[0.0; 3], Alternative::TwoSided).is_err());
        assert!(wilcoxon(&[1.0; 1001], Alternative::TwoSided).is_err());
    }
}

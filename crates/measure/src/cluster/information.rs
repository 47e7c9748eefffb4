use super::contingency::{Contingency, entropy};
use crate::Result;
use serde::{Deserialize, Serialize};

/// What mutual information is divided by to end at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normaliser {
    /// Half the sum of the two entropies: scikit-learn's default, also called the V-measure.
    #[default]
    Arithmetic,
    /// Root of the product of the two entropies (Strehl and Ghosh 2002).
    Geometric,
}

impl Normaliser {
    fn mean(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Arithmetic => 0.5 * (a + b),
            Self::Geometric => (a * b).sqrt(),
        }
    }
}

/// Mutual information of two groupings in nats: sum_ab p_ab ln(p_ab / (p_a p_b)), the plug-in estimate.
///
/// # Errors
/// Lists of different length, or empty ones.
pub fn mutual_information(first: &[u32], second: &[u32]) -> Result<f64> {
    Ok(Contingency::new(first, second)?.mutual_information())
}

/// Normalised mutual information of two groupings, in [0, 1]; names of groups do not matter.
///
/// I(a; b) divided by the mean of H(a) and H(b). Two groupings of one group each agree: 1. One of them alone: 0.
///
/// # Errors
/// Lists of different length, or empty ones.
///
/// # Source
/// scikit-learn's `normalized_mutual_info_score`, whose default was the geometric mean until version 0.22.
pub fn normalised_mutual_information(first: &[u32], second: &[u32], by: Normaliser) -> Result<f64> {
    let table = Contingency::new(first, second)?;
    let [a, b] = [&table.first, &table.second].map(|sizes| entropy(sizes, table.n));
    if table.first.len() == 1 && table.second.len() == 1 {
        return Ok(1.0);
    }
    let scale = by.mean(a, b);
    Ok(if scale > 0.0 { table.mutual_information() / scale } else { 0.0 })
}

/// Mutual information corrected for chance: 0 on average for random groupings of the same sizes, 1 for equal ones.
///
/// (I - E I) / (mean(H(a), H(b)) - E I), the expectation E over all permutations of the items. Two groupings of one group each,
/// or of one item each, agree: 1.
///
/// # Errors
/// Lists of different length, or empty ones.
///
/// # Cost
/// O(A B N) for A and B groups.
///
/// # Source
/// Vinh, Epps and Bailey 2010 (J. Mach. Learn. Res. 11).
pub fn adjusted_mutual_information(first: &[u32], second: &[u32], by: Normaliser) -> Result<f64> {
    let table = Contingency::new(first, second)?;
    let (groups, n) = ((table.first.len(), table.second.len()), table.n);
    if groups == (1, 1) || groups == (n, n) {
        return Ok(1.0);
    }
    let expected = expected_information(&table);
    let [a, b] = [&table.first, &table.second].map(|sizes| entropy(sizes, n));
    let room = by.mean(a, b) - expected;
    // With all items apart in one grouping chance reaches the mean itself; the sign is kept as in scikit-learn.
    let room = if room < 0.0 { room.min(-f64::EPSILON) } else { room.max(f64::EPSILON) };
    Ok((table.mutual_information() - expected) / room)
}

/// Mean mutual information under the hypergeometric model: the items permuted, the group sizes kept.
fn expected_information(table: &Contingency) -> f64 {
    let n = table.n;
    let mut factorial = vec![0.0; n + 1]; // ln k!
    for k in 1..=n {
        factorial[k] = factorial[k - 1] + (k as f64).ln();
    }
    let mut sum = 0.0;
    for &a in &table.first {
        for &b in &table.second {
            let fixed = factorial[a] + factorial[b] + factorial[n - a] + factorial[n - b] - factorial[n];
            for both in (a + b).saturating_sub(n).max(1)..=a.min(b) {
                let share = both as f64 / n as f64;
                let gain = (n as f64 * both as f64 / (a as f64 * b as f64)).ln();
                let ways = factorial[both] + factorial[a - both] + factorial[b - both] + factorial[n + both - a - b];
                sum += share * gain * (fixed - ways).exp();
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_learn() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        for case in ["plain", "uneven", "apart", "single"] {
            let [a, b] = ["a", "b"].map(|side| file.labels(&format!("cluster.{case}.{side}")));
            let want = file.f64s(&format!("cluster.{case}.information"));
            assert_close(mutual_information(&a, &b).unwrap(), want[0], 1e-9);
            for (by, place) in [(Normaliser::Arithmetic, 1), (Normaliser::Geometric, 2)] {
                assert_close(normalised_mutual_information(&a, &b, by).unwrap(), want[place], 1e-9);
                assert_close(adjusted_mutual_information(&a, &b, by).unwrap(), want[place + 2], 1e-9);
            }
        }
    }

    #[test]
    fn names_do_not_matter_and_independence_is_zero() {
        let by = Normaliser::Arithmetic;
        assert_close(normalised_mutual_information(&[0, 0, 1, 1], &[9, 9, 3, 3], by).unwrap(), 1.0, 1e-15);
        assert_close(normalised_mutual_information(&[0, 0, 1, 1], &[0, 1, 0, 1], by).unwrap(), 0.0, 1e-15);
        // Two items against two items by chance: below zero once corrected. sklearn.metrics.adjusted_mutual_info_score: -0.5
        assert_close(adjusted_mutual_information(&[0, 0, 1, 1], &[0, 1, 0, 1], by).unwrap(), -0.5, 1e-12);
    }

    #[test]
    fn one_item_agrees_and_none_is_refused() {
        for by in [Normaliser::Arithmetic, Normaliser::Geometric] {
            assert_eq!(normalised_mutual_information(&[3], &[5], by).unwrap(), 1.0);
            assert_eq!(adjusted_mutual_information(&[3], &[5], by).unwrap(), 1.0);
            assert_eq!(normalised_mutual_information(&[1, 1], &[0, 1], by).unwrap(), 0.0);
            assert!(normalised_mutual_information(&[], &[], by).is_err());
        }
        assert!(mutual_information(&[1], &[1, 2]).is_err());
    }
}

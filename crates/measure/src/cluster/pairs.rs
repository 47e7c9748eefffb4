use super::contingency::Contingency;
use crate::Result;

/// Agreement of two groupings on pairs of items, corrected for chance: 1 for equal groupings, 0 on average for random ones.
///
/// With t pairs together in both, f only in the first, g only in the second and s in neither:
/// 2 (t s - f g) / ((t + f)(f + s) + (t + g)(g + s)). Groupings that agree on every pair, one item included, score 1.
///
/// # Errors
/// Lists of different length, or empty ones.
///
/// # Source
/// Hubert and Arabie 1985; the form is that of scikit-learn's `adjusted_rand_score`.
pub fn adjusted_rand_index(first: &[u32], second: &[u32]) -> Result<f64> {
    let table = Contingency::new(first, second)?;
    let pairs = |count: usize| count as f64 * (count as f64 - 1.0) / 2.0;
    let together: f64 = table.cells.iter().map(|c| pairs(c.2)).sum();
    let [in_first, in_second] = [&table.first, &table.second].map(|sizes| sizes.iter().map(|&s| pairs(s)).sum::<f64>());
    let (only_first, only_second) = (in_first - together, in_second - together);
    if only_first <= 0.0 && only_second <= 0.0 {
        return Ok(1.0);
    }
    let apart = pairs(table.n) - together - only_first - only_second;
    let scale = in_first * (only_first + apart) + in_second * (only_second + apart);
    Ok(2.0 * (together * apart - only_first * only_second) / scale)
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
            let want = file.f64s(&format!("cluster.{case}.agreement"))[0];
            assert_close(adjusted_rand_index(&a, &b).unwrap(), want, 1e-12);
        }
    }

    #[test]
    fn the_worst_is_below_zero_and_one_item_agrees() {
        // t = 0, f = g = 2, s = 2: 2 (0 - 4) / (2 * 4 + 2 * 4).
        assert_eq!(adjusted_rand_index(&[0, 0, 1, 1], &[0, 1, 0, 1]).unwrap(), -0.5);
        assert_eq!(adjusted_rand_index(&[0, 0, 1, 1], &[5, 5, 2, 2]).unwrap(), 1.0);
        assert_eq!(adjusted_rand_index(&[0], &[7]).unwrap(), 1.0);
        assert!(adjusted_rand_index(&[], &[]).is_err());
    }
}

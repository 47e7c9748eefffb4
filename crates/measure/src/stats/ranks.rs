/// Ranks from 1; equal values share the mean of the ranks they span.
pub(crate) fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for same in order.chunk_by(|&a, &b| equal(values[a], values[b])) {
        let rank = below as f64 + (same.len() + 1) as f64 / 2.0;
        same.iter().for_each(|&i| ranks[i] = rank);
        below += same.len();
    }
    ranks
}

/// Equal as numbers: unlike their bits, -0 and 0 are.
pub(crate) fn equal(a: f64, b: f64) -> bool {
    a <= b && b <= a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_mean_rank() {
        // scipy.stats.rankdata([3, 1, 3, -2, 3, 1])
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, -2.0, 3.0, 1.0]), [5.0, 2.5, 5.0, 1.0, 5.0, 2.5]);
        assert_eq!(average_ranks(&[-0.0, 0.0]), [1.5, 1.5]);
        assert!(average_ranks(&[]).is_empty());
    }
}

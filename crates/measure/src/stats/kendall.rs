use super::correlation::{check, flat};
use super::ranks::equal;
use crate::Result;

/// Kendall's tau-b of two lists, in [-1, 1]: pairs in the same order minus pairs in opposite order, corrected for ties.
///
/// (C - D) / sqrt((P - A)(P - B)) with P all pairs and A, B those tied in either list.
///
/// # Errors
/// Lists of different length, fewer than two items, a value that is not finite, a list of equal values.
///
/// # Cost
/// O(N log N).
///
/// # Source
/// Kendall 1945; counted by merging as in Knight 1966.
pub fn kendall(a: &[f64], b: &[f64]) -> Result<f64> {
    check(a, b)?;
    let mut order: Vec<usize> = (0..a.len()).collect();
    // Adding 0 turns -0 into 0, which it equals.
    let compare = |x: f64, y: f64| (x + 0.0).total_cmp(&(y + 0.0));
    order.sort_by(|&i, &j| compare(a[i], a[j]).then(compare(b[i], b[j])));
    let pairs = |n: usize| n as f64 * (n as f64 - 1.0) / 2.0;
    let tied = |order: &[usize], same: &dyn Fn(usize, usize) -> bool| -> f64 {
        order.chunk_by(|&i, &j| same(i, j)).map(|run| pairs(run.len())).sum()
    };
    let tied_a = tied(&order, &|i, j| equal(a[i], a[j]));
    let tied_both = tied(&order, &|i, j| equal(a[i], a[j]) && equal(b[i], b[j]));
    let mut sorted: Vec<f64> = order.iter().map(|&i| b[i]).collect();
    let opposite = inversions(&mut sorted);
    order.sort_by(|&i, &j| compare(b[i], b[j]));
    let tied_b = tied(&order, &|i, j| equal(b[i], b[j]));
    let all = pairs(a.len());
    let scale = (all - tied_a).sqrt() * (all - tied_b).sqrt();
    if scale <= 0.0 {
        return Err(flat(a));
    }
    let agreement = all - tied_a - tied_b + tied_both - 2.0 * opposite as f64;
    Ok((agreement / scale).clamp(-1.0, 1.0))
}

/// Sorts by merging and counts the pairs that stood in strictly falling order.
fn inversions(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len().div_euclid(2));
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let mut i = 0;
    for &r in right.iter() {
        while i < left.len() && left[i] <= r {
            merged.push(left[i]);
            i += 1;
        }
        count += (left.len() - i) as u64;
        merged.push(r);
    }
    merged.extend_from_slice(&left[i..]);
    values.copy_from_slice(&merged);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::unit;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scipy_with_and_without_ties() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        for case in ["free", "ties"] {
            let [a, b] = ["a", "b"].map(|side| file.f64s(&format!("correlation.{case}.{side}")));
            assert_close(kendall(&a, &b).unwrap(), file.f64s(&format!("correlation.{case}"))[2], 1e-12);
        }
    }

    #[test]
    fn inversions_are_the_pairs_out_of_order() {
        let mut values: Vec<f64> = (0..97).map(|i| (20.0 * unit(1, 2, i)).floor()).collect();
        let plain =
            (0..97).flat_map(|i| (i + 1..97).map(move |j| (i, j))).filter(|&(i, j)| values[i] > values[j]).count();
        assert_eq!(inversions(&mut values), plain as u64);
        assert!(values.is_sorted());
    }

    #[test]
    fn order_reversed_is_minus_one_and_equal_values_are_refused() {
        assert_eq!(kendall(&[1.0, 2.0, 5.0], &[9.0, 4.0, 1.0]).unwrap(), -1.0);
        assert!(kendall(&[1.0, 1.0], &[0.0, 3.0]).is_err());
        // -0 and 0 are one value, so the second list is flat.
        assert!(kendall(&[1.0, 2.0], &[-0.0, 0.0]).is_err());
    }
}

use crate::Features;
use crate::cluster::contingency::{Contingency, Places, places};
use rayon::prelude::*;

/// Bins of equal width between the least and the greatest value of a code, 0 for the first; a constant code has one bin.
///
/// The edges are those of `numpy.histogram`; a value on an edge belongs to the bin above, the greatest to the last.
pub(super) fn histogram(x: &Features, code: usize, bins: u32) -> Vec<u32> {
    let values = x.column(code);
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let width = (high - low) / f64::from(bins);
    // Inner edges only: whatever is above the last of them is in the last bin.
    let edges: Vec<f64> = (1..bins).map(|b| f64::from(b) * width + low).collect();
    let bin = |v: &f64| if width > 0.0 { edges.partition_point(|edge| edge <= v) } else { 0 };
    values.iter().map(|v| u32::try_from(bin(v)).unwrap_or(u32::MAX)).collect()
}

/// The values of a code that was quantised, as names: equal numbers have equal names.
pub(super) fn levels(x: &Features, code: usize) -> Vec<u32> {
    // Adding 0 turns -0 into 0, which it equals.
    x.values().iter().skip(code).step_by(x.d()).map(|&v| (v + 0.0).to_bits()).collect()
}

/// Mutual information in nats of every code, named by `discretise`, with every factor: `[D][F]`.
pub(super) fn information(
    d: usize,
    factors: &[Places],
    discretise: &(dyn Fn(usize) -> Vec<u32> + Sync),
) -> Vec<Vec<f64>> {
    let of_code = |j: usize| {
        let code = places(&discretise(j));
        factors.iter().map(|factor| Contingency::of(&code, factor).mutual_information()).collect()
    };
    (0..d).into_par_iter().map(of_code).collect()
}

/// The two largest of some values; 0 for what is not there.
pub(super) fn top_two(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((0.0, 0.0), |(first, second), v| if v > first { (v, first) } else { (first, f64::max(second, v)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::assert_close;

    #[test]
    fn bins_are_numpys() {
        // np.digitize(x, np.histogram(x, 4)[1][:-1]) - 1 for x = [0, 0.9, 1, 2.5, 4, -0.0]
        let x = Features::new(1, vec![0.0, 0.9, 1.0, 2.5, 4.0, -0.0]).unwrap();
        assert_eq!(histogram(&x, 0, 4), [0, 0, 1, 2, 3, 0]);
        assert_eq!(histogram(&Features::new(1, vec![0.3; 3]).unwrap(), 0, 20), [0; 3]);
        assert_eq!(levels(&x, 0)[0], levels(&x, 0)[5]);
    }

    #[test]
    fn a_copy_knows_all_and_a_constant_nothing() {
        let x = Features::new(2, vec![0.0, 5.0, 1.0, 5.0, 0.0, 5.0, 1.0, 5.0]).unwrap();
        let factors = [places(&[3, 4, 3, 4])];
        let got = information(2, &factors, &|j| histogram(&x, j, 20));
        assert_close(got[0][0], 2f64.ln(), 1e-15);
        assert_eq!(got[1][0], 0.0);
        assert_eq!(top_two([0.2, 0.9, 0.5].into_iter()), (0.9, 0.5));
        assert_eq!(top_two([0.2].into_iter()), (0.2, 0.0));
    }
}

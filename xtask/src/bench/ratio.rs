//! The estimator: the median of paired ratios, with an interval that assumes nothing of their distribution.

/// Two-sided error of the interval.
const ERROR: f64 = 0.05;

/// A median and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Half of the interval's width on the log scale: 0.03 is 3 % either way.
    pub fn half_width(&self) -> f64 {
        (self.high / self.low).ln() * 0.5
    }
}

/// Median of positive numbers (on the log scale between the middle two), and the interval between order statistics that
/// holds the true median with at least 95 %: the sign test turned round. None for fewer than six numbers, where no such
/// interval exists.
pub fn interval(ratios: &[f64]) -> Option<Interval> {
    let k = cut(ratios.len())?;
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Interval { median: median(ratios)?, low: sorted[k], high: sorted[sorted.len() - 1 - k] })
}

/// Median on the log scale; None of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let (a, b) = (sorted.get(n.checked_sub(1)? >> 1)?, sorted.get(n >> 1)?);
    Some((a * b).sqrt())
}

/// How many numbers are cut off at each end: the largest k with 2 P(Binomial(n, 1/2) < k + 1) <= 5 %.
fn cut(n: usize) -> Option<usize> {
    let mut term = 0.5_f64.powi(i32::try_from(n).ok()?); // C(n, i) / 2^n
    let (mut below, mut k) = (0.0, None);
    for i in 0..n {
        below += term;
        if 2.0 * below > ERROR {
            break;
        }
        k = Some(i);
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    k
}

/// Geometric mean; None of nothing.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the sign test (Conover, Practical Nonparametric Statistics, binomial tables): two-sided 5 %.
    #[test]
    fn the_cut_is_that_of_the_sign_test() {
        let expected = [(5, None), (6, Some(0)), (8, Some(0)), (9, Some(1)), (12, Some(2)), (15, Some(3))];
        let more = [(17, Some(4)), (20, Some(5)), (25, Some(7)), (40, Some(13))];
        for (n, k) in expected.into_iter().chain(more) {
            assert_eq!(cut(n), k, "{n}");
        }
        assert_eq!((cut(0), median(&[])), (None, None));
    }

    #[test]
    fn small_cases_are_exact() {
        let six = interval(&[4.0, 1.0, 2.0, 8.0, 0.5, 0.25]).unwrap();
        assert!((six.median - 2.0_f64.sqrt()).abs() < 1e-12, "{six:?}");
        assert_eq!((six.low.to_bits(), six.high.to_bits()), (0.25_f64.to_bits(), 8.0_f64.to_bits()));
        assert!((six.half_width() - 32.0_f64.ln() / 2.0).abs() < 1e-12);
        let nine = interval(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]).unwrap();
        assert_eq!(format!("{nine:?}"), "Interval { median: 5.0, low: 2.0, high: 8.0 }");
        assert_eq!(interval(&[1.0; 5]), None);
    }

    /// Swapping the sides turns the ratio and its interval over.
    #[test]
    fn the_interval_does_not_care_which_side_is_which() {
        let ratios: Vec<f64> = (1..=14).map(|i| 0.8 + 0.05 * f64::from(i * i % 11)).collect();
        let turned: Vec<f64> = ratios.iter().map(|r| 1.0 / r).collect();
        let (a, b) = (interval(&ratios).unwrap(), interval(&turned).unwrap());
        for (x, y) in [(a.median, b.median), (a.low, b.high), (a.high, b.low)] {
            assert!((x * y - 1.0).abs() < 1e-12);
        }
    }

    /// Coverage over all 2^12 sign patterns of 12 numbers: the interval misses the median in at most 5 % of them.
    #[test]
    fn the_interval_covers_as_promised() {
        let n = 12;
        let missed = (0..1_u32 << n)
            .filter(|signs| {
                // Distinct numbers above or below the true median 1.
                let ratio = |i: u32| if signs >> i & 1 == 1 { 1.1 + f64::from(i) } else { 0.9 / f64::from(i + 1) };
                let ratios: Vec<f64> = (0..n).map(ratio).collect();
                let i = interval(&ratios).unwrap();
                i.low > 1.0 || i.high < 1.0
            })
            .count();
        // 2 (C(12,0) + C(12,1) + C(12,2)) = 158 of 4096.
        assert_eq!(missed, 158);
    }

    #[test]
    fn the_geometric_mean_is_that_of_logarithms() {
        assert!((geometric_mean(&[1.0, 4.0, 2.0]).unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}

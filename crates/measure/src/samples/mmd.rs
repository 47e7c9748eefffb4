use super::pairs::{across, within};
use crate::neighbours::{Metric, Points};
use crate::{Error, Features, Result, draw};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Squared maximum mean discrepancy of two sets under some kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discrepancy {
    /// Unbiased estimate: pairs of an item with itself are left out. About 0, and as often below as above, for equal distributions.
    pub unbiased: f64,
    /// The discrepancy of the two sets themselves, never below 0: it overstates that of their distributions by O(1/N).
    pub biased: f64,
    /// Standard error of `unbiased`, to first order in 1/N; too large where the distributions are equal.
    pub standard_error: f64,
    /// Items of both sets.
    pub n: [usize; 2],
}

/// Width of the Gaussian kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bandwidth {
    /// This width, in units of the features.
    Given(f64),
    /// The median distance between two different items of the two sets together; of 2000 addressed items where there are more.
    Median,
}

/// Squared maximum mean discrepancy with the Gaussian kernel exp(-|x - y|^2 / 2 s^2), and the width s that was used.
///
/// MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over pairs x != x', y != y'. It is zero only for equal distributions.
///
/// # Errors
/// Different widths, fewer than two items on a side, a bandwidth that is not above 0 (the median is 0 where most items are copies).
///
/// # Cost
/// O((N + M)^2 D).
///
/// # Source
/// Gretton et al. 2012, J. Mach. Learn. Res. 13, eq. 3 and lemma 6.
pub fn gaussian_mmd(a: &Features, b: &Features, bandwidth: Bandwidth) -> Result<(Discrepancy, f64)> {
    b.want_columns("columns of the second features", a.d())?;
    let s = match bandwidth {
        Bandwidth::Given(s) => s,
        Bandwidth::Median => median_distance(a, b)?,
    };
    if !(s > 0.0 && s.is_finite()) {
        return Err(Error::Setting { name: "bandwidth", got: s, want: "above 0 and finite" });
    }
    let scale = 0.5 / (s * s);
    let kernel = move |minus_square: f64| (minus_square * scale).exp();
    Ok((discrepancy(a, b, Metric::Euclidean, &kernel)?, s))
}

/// Squared maximum mean discrepancy with the polynomial kernel (x . y / D + 1)^3: the kernel inception distance of all items at
/// once, without subsets.
///
/// # Errors
/// Different widths, fewer than two items on a side.
///
/// # Cost
/// O((N + M)^2 D).
///
/// # Source
/// Binkowski et al. 2018 (arXiv 1801.01401), section 4.
pub fn polynomial_mmd(a: &Features, b: &Features) -> Result<Discrepancy> {
    discrepancy(a, b, Metric::Inner, &cubic(a.d()))
}

/// (v / D + 1)^3.
pub(crate) fn cubic(d: usize) -> impl Fn(f64) -> f64 + Sync {
    let scale = 1.0 / d as f64;
    move |product| (product * scale + 1.0).powi(3)
}

/// Discrepancy under a kernel that is a function of the similarity.
///
/// The standard error is that of the mean of the items' own terms, h(x) = mean k(x, x') - mean k(x, y) and its mirror image:
/// 4 var h(x) / N + 4 var h(y) / M. The next term, of order 1/N^2, is left out.
pub(crate) fn discrepancy(
    a: &Features,
    b: &Features,
    metric: Metric,
    kernel: &(dyn Fn(f64) -> f64 + Sync),
) -> Result<Discrepancy> {
    b.want_columns("columns of the second features", a.d())?;
    for (what, x) in [("items of the first set", a), ("items of the second set", b)] {
        if x.n() < 2 {
            return Err(Error::TooFew { what, need: 2, got: x.n() });
        }
    }
    let (pa, pb) = (Points::new(a, metric), Points::new(b, metric));
    let (n, m) = (a.n() as f64, b.n() as f64);
    let (in_a, in_b, cross) = (within(&pa, kernel), within(&pb, kernel), across(&pa, &pb, kernel));
    let (sum_a, sum_b, mean_cross) = (in_a.iter().sum::<f64>(), in_b.iter().sum::<f64>(), cross.total() / (n * m));
    let (own_a, own_b) = (with_itself(&pa, kernel), with_itself(&pb, kernel));
    let terms = |within: &[f64], cross: &[f64], n: f64, m: f64| {
        variance(within.iter().zip(cross).map(|(w, c)| w / (n - 1.0) - c / m)) / n
    };
    let first_order = terms(&in_a, &cross.rows, n, m) + terms(&in_b, &cross.columns, m, n);
    Ok(Discrepancy {
        unbiased: sum_a / (n * (n - 1.0)) + sum_b / (m * (m - 1.0)) - 2.0 * mean_cross,
        // Never negative but for rounding.
        biased: ((sum_a + own_a) / (n * n) + (sum_b + own_b) / (m * m) - 2.0 * mean_cross).max(0.0),
        standard_error: 2.0 * first_order.sqrt(),
        n: [a.n(), b.n()],
    })
}

/// Sum of the kernel of each item with itself.
fn with_itself(points: &Points, kernel: &dyn Fn(f64) -> f64) -> f64 {
    (0..points.n()).map(|i| kernel(points.with_itself(i))).sum()
}

/// Unbiased variance of at least two values, from deviations.
fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    values.map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)
}

/// Median distance of the different pairs of (at most 2000 of) the items of both sets.
fn median_distance(a: &Features, b: &Features) -> Result<f64> {
    const MOST: usize = 2000;
    // Draws of these addresses serve nothing else.
    const SEED: u64 = 0x6261_6e64;
    let all = a.n() + b.n();
    let items: Vec<usize> = match NonZeroUsize::new(all) {
        Some(n) if all > MOST => draw::distinct(SEED, 0, n, MOST),
        _ => (0..all).collect(),
    };
    let row = |&i: &usize| if i < a.n() { a.row(i) } else { b.row(i - a.n()) };
    let pool = Features::new(a.d(), items.iter().flat_map(row).copied().collect())?;
    let points = Points::new(&pool, Metric::Euclidean);
    let later = points.map(&points, &|i, near| near[i + 1..].iter().map(|s| (-s).sqrt()).collect::<Vec<f64>>());
    let mut distances: Vec<f64> = later.into_iter().flatten().collect();
    let middle = distances.len() >> 1;
    let even = distances.len().is_multiple_of(2);
    if distances.is_empty() {
        return Err(Error::TooFew { what: "items of both sets for a median distance", need: 2, got: pool.n() });
    }
    let (below, &mut upper, _) = distances.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().fold(0.0, f64::max);
    Ok(if even { 0.5 * (lower + upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    fn line(values: &[f32]) -> Features {
        Features::new(1, values.to_vec()).unwrap()
    }

    #[test]
    fn equals_the_plain_loops_and_scikit_learns_kernels() {
        let file = Fixture::open("measure_samples/features.safetensors");
        for case in file.cases() {
            let [a, b] = ["a", "b"].map(|side| file.features(&format!("{case}.{side}")));
            if a.n() < 2 || b.n() < 2 {
                assert!(gaussian_mmd(&a, &b, Bandwidth::Given(1.5)).is_err() && polynomial_mmd(&a, &b).is_err());
                continue;
            }
            let numbers = |name: &str| file.f64s(&format!("{case}.{name}"));
            let (got, _) = gaussian_mmd(&a, &b, Bandwidth::Given(1.5)).unwrap();
            [got.unbiased, got.biased].iter().zip(numbers("gaussian")).for_each(|(g, w)| assert_close(*g, w, 1e-11));
            let got = polynomial_mmd(&a, &b).unwrap();
            [got.unbiased, got.biased].iter().zip(numbers("polynomial")).for_each(|(g, w)| assert_close(*g, w, 1e-11));
            if numbers("median")[0] > 0.0 {
                let (_, s) = gaussian_mmd(&a, &b, Bandwidth::Median).unwrap();
                assert_close(s, numbers("median")[0], 1e-12);
            }
        }
    }

    #[test]
    fn two_points_a_side_by_hand() {
        // k(x, x') = e^-2, k(y, y') = e^-2; cross distances 0, 2, 2, 0.
        let x = line(&[0.0, 2.0]);
        let (got, s) = gaussian_mmd(&x, &x, Bandwidth::Given(1.0)).unwrap();
        let k = (-2.0f64).exp();
        assert_close(got.unbiased, 2.0 * k - (1.0 + k), 1e-15);
        assert_eq!((got.biased, s), (0.0, 1.0));
    }

    #[test]
    fn a_shift_has_its_closed_form() {
        // Unit normals a shift t apart in D = 1, kernel width s: MMD^2 = 2 s / sqrt(s^2 + 2) (1 - exp(-t^2 / (2 s^2 + 4))).
        let (s, t, n) = (0.8f64, 0.7f64, 4000);
        let a = line(&normals(1, n));
        let b = line(&normals(2, n).iter().map(|v| v + t as f32).collect::<Vec<_>>());
        let want = 2.0 * s / (s * s + 2.0).sqrt() * (1.0 - (-t * t / (2.0 * s * s + 4.0)).exp());
        let (got, _) = gaussian_mmd(&a, &b, Bandwidth::Given(s)).unwrap();
        assert!((got.unbiased - want).abs() < 3.0 * got.standard_error, "{got:?} against {want}");
        assert!(got.standard_error < 0.1 * want, "{got:?}");
    }

    #[test]
    fn the_standard_error_is_the_spread_over_repeated_draws() {
        let draws: Vec<Discrepancy> = (0..200)
            .map(|seed| {
                let a = Features::new(2, normals(2 * seed, 160)).unwrap();
                let b = Features::new(2, normals(2 * seed + 1, 240).iter().map(|v| v + 0.8).collect()).unwrap();
                gaussian_mmd(&a, &b, Bandwidth::Given(1.0)).unwrap().0
            })
            .collect();
        let spread = variance(draws.iter().map(|d| d.unbiased)).sqrt();
        let said = draws.iter().map(|d| d.standard_error).sum::<f64>() / 200.0;
        // A standard deviation of 200 draws is known to 5 %.
        assert!((said / spread - 1.0).abs() < 0.2, "{said} against {spread}");
    }

    #[test]
    fn equal_distributions_are_on_both_sides_of_zero() {
        let values: Vec<f64> = (0..60)
            .map(|seed| {
                let [a, b] = [1000 + 2 * seed, 1001 + 2 * seed].map(|s| Features::new(3, normals(s, 120)).unwrap());
                gaussian_mmd(&a, &b, Bandwidth::Given(1.0)).unwrap().0.unbiased
            })
            .collect();
        let (mean, sd) = (values.iter().sum::<f64>() / 60.0, variance(values.iter().copied()).sqrt());
        assert!(mean.abs() < 3.0 * sd / 60f64.sqrt() && values.iter().any(|v| *v < 0.0), "{mean} {sd}");
    }

    #[test]
    fn copies_have_no_median_bandwidth() {
        let x = line(&[1.0; 5]);
        let said = gaussian_mmd(&x, &x, Bandwidth::Median).unwrap_err().to_string();
        assert_eq!(said, "bandwidth = 0; it must be above 0 and finite");
        let (got, _) = gaussian_mmd(&x, &x, Bandwidth::Given(1.0)).unwrap();
        assert_eq!((got.unbiased, got.biased, got.standard_error), (0.0, 0.0, 0.0));
        assert!(gaussian_mmd(&x, &Features::new(2, vec![0.0; 4]).unwrap(), Bandwidth::Median).is_err());
    }

    #[test]
    fn the_median_of_many_items_is_that_of_an_addressed_part() {
        let [a, b] = [1, 2].map(|s| Features::new(2, normals(s, 6000)).unwrap());
        let s = median_distance(&a, &b).unwrap();
        // Median of |N(0, 2 I_2)|: sqrt(2) * sqrt(2 ln 2).
        assert!((s - 2.0 * std::f64::consts::LN_2.sqrt()).abs() < 0.03, "{s}");
        assert_eq!(s, median_distance(&a, &b).unwrap());
    }
}

use super::mmd::cubic;
use super::pairs::{across, within};
use crate::neighbours::{Metric, Points};
use crate::{Error, Features, Result, draw};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// How a kernel inception distance is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KidConfig {
    /// Pairs of subsets that are averaged, at least 1.
    pub subsets: usize,
    /// Items of a subset, at least 2 and at most those of the smaller set.
    pub subset_size: usize,
    /// Key of the draws.
    pub seed: u64,
}

impl Default for KidConfig {
    /// torch-fidelity's: 100 subsets of 1000.
    fn default() -> Self {
        Self { subsets: 100, subset_size: 1000, seed: 0 }
    }
}

/// Kernel inception distance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kid {
    /// Mean of the unbiased estimates over the subsets.
    pub value: f64,
    /// Their standard deviation (divisor: number of subsets), as papers print behind the mean.
    pub sd: f64,
    /// Pairs of subsets.
    pub subsets: usize,
    /// Items of each subset.
    pub subset_size: usize,
    /// Items of both sets.
    pub n: [usize; 2],
}

/// Kernel inception distance: the squared maximum mean discrepancy under (x . y / D + 1)^3, averaged over random subsets.
///
/// Unbiased at any number of items, unlike a Frechet distance. Item k of subset s is a function of (seed, s, k) alone, and no item
/// is twice in a subset. [`polynomial_mmd`](crate::polynomial_mmd) takes all items at once instead.
///
/// # Errors
/// Different widths, no subsets, a subset of fewer than two items or of more than there are.
///
/// # Cost
/// O(subsets * subset_size^2 * D).
///
/// # Source
/// Binkowski et al. 2018 (arXiv 1801.01401), section 4; the averaging follows torch-fidelity.
pub fn kid(a: &Features, b: &Features, config: &KidConfig) -> Result<Kid> {
    let size = config.subset_size;
    if size < 2 {
        return Err(Error::TooFew { what: "items of a subset", need: 2, got: size });
    }
    let draw = |x: &Features, what, side: u64| {
        let n = NonZeroUsize::new(x.n()).filter(|n| n.get() >= size);
        let n = n.ok_or(Error::TooFew { what, need: size, got: x.n() })?;
        Ok(move |s: u64| draw::distinct(config.seed, 2 * s + side, n, size))
    };
    let first = draw(a, "items of the first set for a subset", 0)?;
    let second = draw(b, "items of the second set for a subset", 1)?;
    let pairs: Vec<[Vec<usize>; 2]> =
        (0..config.subsets as u64).into_par_iter().map(|s| [first(s), second(s)]).collect();
    over_subsets(a, b, &pairs)
}

/// Mean and spread over given subsets, pairs of equal size.
fn over_subsets(a: &Features, b: &Features, pairs: &[[Vec<usize>; 2]]) -> Result<Kid> {
    b.want_columns("columns of the second features", a.d())?;
    let subset_size = pairs.first().map(|[of_a, _]| of_a.len());
    let subset_size = subset_size.ok_or(Error::TooFew { what: "subsets", need: 1, got: 0 })?;
    let values = pairs
        .par_iter()
        .map(|[of_a, of_b]| Ok(unbiased(&a.select(of_a)?, &b.select(of_b)?)))
        .collect::<Result<Vec<f64>>>()?;
    let count = values.len() as f64;
    let value = values.iter().sum::<f64>() / count;
    let sd = (values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / count).sqrt();
    Ok(Kid { value, sd, subsets: pairs.len(), subset_size, n: [a.n(), b.n()] })
}

fn unbiased(a: &Features, b: &Features) -> f64 {
    let kernel = cubic(a.d());
    let (pa, pb) = (Points::new(a, Metric::Inner), Points::new(b, Metric::Inner));
    let (n, m) = (a.n() as f64, b.n() as f64);
    let own = |points: &Points, n: f64| within(points, &kernel).iter().sum::<f64>() / (n * (n - 1.0));
    own(&pa, n) + own(&pb, m) - 2.0 * across(&pa, &pb, &kernel).total() / (n * m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};
    use crate::polynomial_mmd;

    #[test]
    fn equals_torch_fidelity_on_its_own_subsets() {
        let file = Fixture::open("measure_samples/features.safetensors");
        for case in file.cases() {
            let [a, b] = ["a", "b"].map(|side| file.features(&format!("{case}.{side}")));
            if a.n() < 2 || b.n() < 2 {
                assert!(kid(&a, &b, &KidConfig { subset_size: 2, ..Default::default() }).is_err());
                continue;
            }
            let size = file.shape(&format!("{case}.kid.a"))[1];
            let subsets = |side: &str| {
                let items = file.labels(&format!("{case}.kid.{side}"));
                items.chunks(size).map(|s| s.iter().map(|&i| i as usize).collect()).collect::<Vec<Vec<usize>>>()
            };
            let pairs: Vec<_> = subsets("a").into_iter().zip(subsets("b")).map(|(a, b)| [a, b]).collect();
            let got = over_subsets(&a, &b, &pairs).unwrap();
            let want = file.f64s(&format!("{case}.kid"));
            assert_close(got.value, want[0], 1e-9);
            assert_close(got.sd, want[1], 1e-9);
        }
    }

    #[test]
    fn subsets_of_everything_are_the_estimate_of_everything() {
        let [a, b] = [1, 2].map(|seed| Features::new(4, normals(seed, 200)).unwrap());
        let got = kid(&a, &b, &KidConfig { subsets: 3, subset_size: 50, seed: 9 }).unwrap();
        assert_close(got.value, polynomial_mmd(&a, &b).unwrap().unbiased, 1e-12);
        assert!(got.sd < 1e-12, "{got:?}");
    }

    #[test]
    fn addressed_subsets_estimate_the_whole_within_their_spread() {
        let a = Features::new(6, normals(1, 6 * 900)).unwrap();
        let b = Features::new(6, normals(2, 6 * 700).iter().map(|v| 1.2 * v + 0.2).collect()).unwrap();
        let config = KidConfig { subsets: 200, subset_size: 60, seed: 3 };
        let (got, whole) = (kid(&a, &b, &config).unwrap(), polynomial_mmd(&a, &b).unwrap());
        assert!((got.value - whole.unbiased).abs() < 3.0 * got.sd / 200f64.sqrt(), "{got:?} {whole:?}");
        assert_eq!(got, kid(&a, &b, &config).unwrap());
        assert_ne!(got, kid(&a, &b, &KidConfig { seed: 4, ..config }).unwrap());
        // The first subsets are the same however many follow.
        let one = |s| draw::distinct(3, s, NonZeroUsize::new(900).unwrap(), 60);
        let mut sorted = one(0);
        sorted.sort_unstable();
        sorted.dedup();
        assert!(sorted.len() == 60 && one(0) != one(2));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let x = Features::new(2, normals(1, 20)).unwrap();
        let said = kid(&x, &x, &KidConfig::default()).unwrap_err().to_string();
        assert_eq!(said, "items of the first set for a subset: 10 found, at least 1000 are needed; give more");
        assert!(kid(&x, &x, &KidConfig { subset_size: 1, ..Default::default() }).is_err());
        assert!(kid(&x, &x, &KidConfig { subsets: 0, subset_size: 5, seed: 0 }).is_err());
        let wide = Features::new(4, normals(1, 40)).unwrap();
        assert!(kid(&x, &wide, &KidConfig { subset_size: 5, ..Default::default() }).is_err());
    }
}

use crate::neighbours::Points;
use rayon::prelude::*;

/// Panels of queries whose column sums are held at once: what bounds the memory, whatever the number of threads.
const PANELS_AT_ONCE: usize = 32;

/// Sums of a function of pairs over the other item of each pair.
pub(crate) struct PairSums {
    /// For each item of the first set: `[N]`.
    pub(crate) rows: Vec<f64>,
    /// For each item of the second set: `[M]`.
    pub(crate) columns: Vec<f64>,
}

impl PairSums {
    pub(crate) fn total(&self) -> f64 {
        self.rows.iter().sum()
    }
}

/// Sums of f(similarity) over all pairs of an item of `a` and an item of `b`.
///
/// # Cost
/// O(N M D) and 32 rows of M numbers.
pub(crate) fn across(a: &Points, b: &Points, f: &(dyn Fn(f64) -> f64 + Sync)) -> PairSums {
    panels(a, b, false, f)
}

/// For each item, the sum of f(similarity) over all *other* items of its set: `[N]`.
///
/// # Cost
/// Half of [`across`]: each pair is met once.
pub(crate) fn within(a: &Points, f: &(dyn Fn(f64) -> f64 + Sync)) -> Vec<f64> {
    let PairSums { rows, columns } = panels(a, a, true, f);
    rows.iter().zip(columns).map(|(r, c)| r + c).collect()
}

/// With `above`, only pairs whose second item has the higher number.
fn panels(a: &Points, b: &Points, above: bool, f: &(dyn Fn(f64) -> f64 + Sync)) -> PairSums {
    let step = a.rows_at_once();
    let starts: Vec<usize> = (0..a.n()).step_by(step).collect();
    let mut sums = PairSums { rows: Vec::with_capacity(a.n()), columns: vec![0.0; b.n()] };
    for group in starts.chunks(PANELS_AT_ONCE) {
        let parts: Vec<(usize, PairSums)> = group
            .par_iter()
            .map_init(Vec::new, |near, &start| {
                let queries = start..(start + step).min(a.n());
                let first = if above { start } else { 0 };
                a.tile(queries.clone(), b, first..b.n(), near);
                let mut columns = vec![0.0; b.n() - first];
                let row = |(near, i): (&[f64], usize)| {
                    let skip = if above { i + 1 - first } else { 0 };
                    let mut sum = 0.0;
                    for (near, column) in near.iter().zip(&mut columns).skip(skip) {
                        let value = f(*near);
                        sum += value;
                        *column += value;
                    }
                    sum
                };
                let rows = near.chunks(b.n() - first).zip(queries).map(row).collect();
                (first, PairSums { rows, columns })
            })
            .collect();
        // In order of the panels, so that the sums are the same bits on any number of threads.
        for (first, part) in parts {
            sums.rows.extend(part.rows);
            sums.columns[first..].iter_mut().zip(part.columns).for_each(|(sum, c)| *sum += c);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::assert_close;
    use crate::{Features, Metric};

    #[test]
    fn sums_are_the_plain_loops_across_panels_and_groups() {
        let (a, b) = (Features::new(2, normals(1, 2 * 2200)).unwrap(), Features::new(2, normals(2, 2 * 90)).unwrap());
        let (pa, pb) = (Points::new(&a, Metric::Inner), Points::new(&b, Metric::Inner));
        let f = |v: f64| (v + 1.0).powi(3);
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let got = across(&pa, &pb, &f);
        for i in [0, 63, 64, 2199] {
            assert_close(got.rows[i], (0..90).map(|j| f(dot(a.row(i), b.row(j)))).sum(), 1e-11);
        }
        for j in [0, 64, 89] {
            assert_close(got.columns[j], (0..2200).map(|i| f(dot(a.row(i), b.row(j)))).sum(), 1e-11);
        }
        let got = within(&pa, &f);
        for i in [0, 1, 64, 2047, 2048, 2199] {
            let others = (0..2200).filter(|&j| j != i);
            assert_close(got[i], others.map(|j| f(dot(a.row(i), a.row(j)))).sum(), 1e-11);
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_threads() {
        let x = Points::new(&Features::new(3, normals(5, 3 * 3000)).unwrap(), Metric::Euclidean);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| within(&x, &f64::exp))
        };
        assert_eq!(run(1), run(3));
    }
}

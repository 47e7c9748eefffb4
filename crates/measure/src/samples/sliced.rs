use crate::gram::block_rows;
use crate::{Error, Features, Result, draw};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Power p of a Wasserstein distance, (inf E |x - y|^p)^1/p.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// p = 1: the earth mover's distance.
    One,
    /// p = 2.
    Two,
}

/// How a sliced Wasserstein distance is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlicedConfig {
    /// Directions onto which both sets are projected, at least 2.
    pub projections: usize,
    /// The power.
    pub order: Order,
    /// Key of the directions.
    pub seed: u64,
}

impl Default for SlicedConfig {
    fn default() -> Self {
        Self { projections: 1000, order: Order::Two, seed: 0 }
    }
}

/// Sliced Wasserstein distance of two sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlicedWasserstein {
    /// The distance, in units of the features.
    pub value: f64,
    /// Its standard error over the directions; how far the sets stray from their distributions is not in it.
    pub standard_error: f64,
    /// Number of directions.
    pub projections: usize,
    /// Items of both sets.
    pub n: [usize; 2],
}

/// Sliced Wasserstein distance: the mean over random directions t of the distance between the projected sets,
/// (E_t W_p(x . t, y . t)^p)^1/p.
///
/// Directions are uniform on the sphere; direction k is a function of (seed, k) alone. The distance on a line is exact, also
/// for sets of unequal size.
///
/// # Errors
/// Different widths, fewer than two directions.
///
/// # Cost
/// O(projections * ((N + M) D + N log N + M log M)) and, per thread, 16 projections of both sets.
///
/// # Source
/// Rabin et al. 2011, SSVM; Bonneel et al. 2015, J. Math. Imaging Vis. 51.
pub fn sliced_wasserstein(a: &Features, b: &Features, config: &SlicedConfig) -> Result<SlicedWasserstein> {
    const TOGETHER: usize = 16;
    b.want_columns("columns of the second features", a.d())?;
    if config.projections < 2 {
        return Err(Error::TooFew { what: "projections", need: 2, got: config.projections });
    }
    let numbers: Vec<usize> = (0..config.projections).collect();
    let powers: Vec<f64> = numbers
        .par_chunks(TOGETHER)
        .flat_map_iter(|numbers| {
            let directions: Vec<f64> = numbers.iter().flat_map(|&k| direction(config.seed, k as u64, a.d())).collect();
            let (mut pa, mut pb) = (project(a, &directions), project(b, &directions));
            (0..numbers.len()).map(move |k| {
                let [pa, pb] = [&mut pa, &mut pb].map(|p| p.col_as_slice_mut(k));
                pa.sort_unstable_by(f64::total_cmp);
                pb.sort_unstable_by(f64::total_cmp);
                transport(pa, pb, config.order)
            })
        })
        .collect();
    let count = powers.len() as f64;
    let mean = powers.iter().sum::<f64>() / count;
    let variance = powers.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let of_mean = (variance / count).sqrt();
    let (value, standard_error) = match config.order {
        Order::One => (mean, of_mean),
        // The slope of the root; at 0 all directions agree.
        Order::Two if mean > 0.0 => (mean.sqrt(), 0.5 * of_mean / mean.sqrt()),
        Order::Two => (0.0, 0.0),
    };
    Ok(SlicedWasserstein { value, standard_error, projections: config.projections, n: [a.n(), b.n()] })
}

/// Wasserstein distance of two samples on a line, exact for any two sizes: quantiles are matched in order.
///
/// # Errors
/// An empty sample or a value that is not finite.
///
/// # Cost
/// Two sorts.
pub fn wasserstein_1d(a: &[f64], b: &[f64], order: Order) -> Result<f64> {
    let sorted = |what, values: &[f64]| {
        if values.is_empty() {
            return Err(Error::TooFew { what, need: 1, got: 0 });
        }
        if let Some(row) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what, row, column: 0 });
        }
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        Ok(values)
    };
    let power = transport(&sorted("first sample", a)?, &sorted("second sample", b)?, order);
    Ok(match order {
        Order::One => power,
        Order::Two => power.sqrt(),
    })
}

/// W_p^p of sorted samples. An item of `a` weighs as many units as `b` has items and the reverse, so that masses are whole numbers.
fn transport(a: &[f64], b: &[f64], order: Order) -> f64 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    let (mut left_a, mut left_b) = (b.len(), a.len());
    while i < a.len() && j < b.len() {
        let moved = left_a.min(left_b);
        let gap = (a[i] - b[j]).abs();
        sum += moved as f64
            * match order {
                Order::One => gap,
                Order::Two => gap * gap,
            };
        left_a -= moved;
        left_b -= moved;
        if left_a == 0 {
            (i, left_a) = (i + 1, b.len());
        }
        if left_b == 0 {
            (j, left_b) = (j + 1, a.len());
        }
    }
    sum / (a.len() as f64 * b.len() as f64)
}

/// Direction `k`: a normal vector scaled to unit length.
fn direction(seed: u64, k: u64, d: usize) -> Vec<f64> {
    let mut t: Vec<f64> = (0..d.div_ceil(2) as u64).flat_map(|c| draw::normal_pair(seed, k, c)).take(d).collect();
    // Guards the division in the one draw in 2^53 that has no length.
    let length = t.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    t.iter_mut().for_each(|v| *v /= length);
    t
}

/// Projections of all items: `[N, directions]`, one contiguous column a direction.
fn project(x: &Features, directions: &[f64]) -> Mat<f64> {
    let (d, step) = (x.d(), block_rows(x.d()));
    let count = directions.chunks(d).len();
    let directions = MatRef::from_row_major_slice(directions, count, d);
    let mut out = Mat::zeros(x.n(), count);
    let mut wide = Vec::new();
    for (b, rows) in x.values().chunks(step * d).enumerate() {
        wide.clear();
        wide.extend(rows.iter().map(|&v| f64::from(v)));
        let n = rows.chunks(d).len();
        let part = out.as_mut().subrows_mut(b * step, n);
        matmul(part, Accum::Replace, MatRef::from_row_major_slice(&wide, n, d), directions.transpose(), 1.0, Par::Seq);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn the_line_equals_scipy_with_ties_and_unequal_sizes() {
        let file = Fixture::open("measure_samples/features.safetensors");
        let (a, b) = (file.f64s("line.a"), file.f64s("line.b"));
        assert!(a.len() != b.len());
        assert_close(wasserstein_1d(&a, &b, Order::One).unwrap(), file.f64s("line.wasserstein")[0], 1e-12);
        assert_close(wasserstein_1d(&a, &b, Order::Two).unwrap(), file.f64s("line.wasserstein")[1], 1e-9);
    }

    #[test]
    fn small_cases_by_hand() {
        // Half of the mass moves by 1, half by 3.
        assert_eq!(wasserstein_1d(&[0.0], &[3.0, 1.0], Order::One).unwrap(), 2.0);
        assert_eq!(wasserstein_1d(&[0.0], &[3.0, 1.0], Order::Two).unwrap(), 5f64.sqrt());
        // Thirds against halves: 0, 0, 6 and 0, 6: a sixth moves from 0 to 6.
        assert_close(wasserstein_1d(&[6.0, 0.0, 0.0], &[0.0, 6.0], Order::One).unwrap(), 1.0, 1e-15);
        assert_eq!(wasserstein_1d(&[1.0, 2.0], &[2.0, 1.0], Order::Two).unwrap(), 0.0);
        assert_eq!(
            wasserstein_1d(&[], &[1.0], Order::One).unwrap_err(),
            Error::TooFew { what: "first sample", need: 1, got: 0 }
        );
        assert!(wasserstein_1d(&[1.0], &[f64::NAN], Order::One).is_err());
    }

    #[test]
    fn many_directions_of_another_generator_agree_within_the_interval() {
        let file = Fixture::open("measure_samples/features.safetensors");
        for case in file.cases() {
            let [a, b] = ["a", "b"].map(|side| file.features(&format!("{case}.{side}")));
            for (order, name) in [(Order::One, "sliced.1"), (Order::Two, "sliced.2")] {
                let got = sliced_wasserstein(&a, &b, &SlicedConfig { order, ..Default::default() }).unwrap();
                let want = file.f64s(&format!("{case}.{name}")); // value, standard error
                let allowed = 3.5 * got.standard_error.hypot(want[1]) + 1e-12;
                assert!((got.value - want[0]).abs() <= allowed, "{case} {name}: {got:?} against {want:?}");
            }
        }
    }

    #[test]
    fn one_column_is_the_line_and_a_shift_is_its_mean_square_projection() {
        let (a, b) = (Features::new(1, normals(1, 30)).unwrap(), Features::new(1, normals(2, 21)).unwrap());
        let wide = |x: &Features| x.values().iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        for order in [Order::One, Order::Two] {
            let got = sliced_wasserstein(&a, &b, &SlicedConfig { projections: 20, order, seed: 1 }).unwrap();
            assert_close(got.value, wasserstein_1d(&wide(&a), &wide(&b), order).unwrap(), 1e-12);
            assert!(got.standard_error < 1e-12);
        }
        // W_2 along t of a set and itself moved by m is |m . t|, whose mean square is |m|^2 / D.
        let x = Features::new(4, normals(3, 4 * 70)).unwrap();
        let moved = Features::new(4, x.values().iter().map(|v| v + 0.5).collect()).unwrap();
        let got = sliced_wasserstein(&x, &moved, &SlicedConfig { projections: 4000, ..Default::default() }).unwrap();
        assert!((got.value - 0.5).abs() < 3.0 * got.standard_error && got.standard_error < 0.01, "{got:?}");
    }

    #[test]
    fn directions_are_addressed_and_have_unit_length() {
        for d in [1, 2, 5] {
            let t = direction(4, 9, d);
            assert_eq!(t.len(), d);
            assert_close(t.iter().map(|v| v * v).sum(), 1.0, 1e-14);
        }
        assert_ne!(direction(4, 9, 3), direction(4, 10, 3));
        let x = Features::new(3, normals(1, 300)).unwrap();
        let y = Features::new(3, normals(2, 240)).unwrap();
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let run = |n| pool(n).install(|| sliced_wasserstein(&x, &y, &SlicedConfig::default()).unwrap());
        assert_eq!(run(1), run(3));
        assert_eq!(sliced_wasserstein(&x, &x, &SlicedConfig::default()).unwrap().value, 0.0);
        let few = SlicedConfig { projections: 1, ..Default::default() };
        assert!(sliced_wasserstein(&x, &y, &few).is_err());
    }
}

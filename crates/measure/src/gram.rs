//! Sums over items of products of centred features, in f64 from rows stored in f32.
//!
//! Work is cut into pieces that depend on the shape alone and partial sums are added in order, so results are the same bits on
//! any number of threads.

use crate::Features;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Values per block of rows that are widened to f64 at a time: half a megabyte, so that a block stays in the second-level cache.
const BLOCK_VALUES: usize = 1 << 16;

/// Rows per block for rows of `d` values.
pub(crate) fn block_rows(d: usize) -> usize {
    BLOCK_VALUES.div_ceil(d).clamp(8, 1024)
}

/// Mean of each column: `[D]`.
pub(crate) fn means(x: &Features) -> Vec<f64> {
    let mut sums = vec![0.0; x.d()];
    for row in x.values().chunks(x.d()) {
        sums.iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v));
    }
    sums.iter_mut().for_each(|s| *s /= x.n() as f64);
    sums
}

/// Widens `rows` (row-major, as many columns as `means`) to f64 and takes the means off, into `out`.
pub(crate) fn centre(rows: &[f32], means: &[f64], out: &mut Vec<f64>) {
    out.clear();
    rows.chunks(means.len()).for_each(|row| out.extend(row.iter().zip(means).map(|(&v, &m)| f64::from(v) - m)));
}

/// As [`centre`], with a constant 1 at the end of each row.
pub(crate) fn centre_with_one(rows: &[f32], means: &[f64], out: &mut Vec<f64>) {
    out.clear();
    for row in rows.chunks(means.len()) {
        out.extend(row.iter().zip(means).map(|(&v, &m)| f64::from(v) - m));
        out.push(1.0);
    }
}

/// Scatter matrix sum_i (x_i - m)(x_i - m)^T: `[D, D]`.
///
/// # Cost
/// O(N D^2) and one D x D matrix.
pub(crate) fn scatter(x: &Features, means: &[f64]) -> Mat<f64> {
    self_product(x, x.d(), |_, rows, out| centre(rows, means, out))
}

/// sum_i w_i u_i u_i^T with u_i = (x_i - m, 1): `[D + 1, D + 1]`, for non-negative weights `[N]`.
///
/// # Cost
/// O(N D^2) and one D x D matrix.
pub(crate) fn weighted_scatter(x: &Features, means: &[f64], weights: &[f64]) -> Mat<f64> {
    self_product(x, x.d() + 1, |first, rows, out| {
        out.clear();
        for (row, weight) in rows.chunks(means.len()).zip(&weights[first..]) {
            let root = weight.sqrt();
            out.extend(row.iter().zip(means).map(|(&v, &m)| root * (f64::from(v) - m)));
            out.push(root);
        }
    })
}

/// A^T A for the rows A that `fill(index of the first, features, out)` makes, `width` values each.
fn self_product(x: &Features, width: usize, fill: impl Fn(usize, &[f32], &mut Vec<f64>) + Sync) -> Mat<f64> {
    const PANEL: usize = 128;
    let (d, step) = (x.d(), block_rows(x.d()));
    let panels: Vec<(usize, Mat<f64>)> = (0..width)
        .into_par_iter()
        .step_by(PANEL)
        .map(|start| {
            let columns = PANEL.min(width - start);
            let mut panel = Mat::zeros(width - start, columns);
            let mut block = Vec::new();
            for (b, rows) in x.values().chunks(step * d).enumerate() {
                fill(b * step, rows, &mut block);
                let block = MatRef::from_row_major_slice(&block, rows.chunks(d).len(), width);
                let left = block.subcols(start, width - start).transpose();
                matmul(&mut panel, Accum::Add, left, block.subcols(start, columns), 1.0, Par::Seq);
            }
            (start, panel)
        })
        .collect();
    let mut out = Mat::zeros(width, width);
    for (start, panel) in panels {
        for j in 0..panel.ncols() {
            for i in j..panel.nrows() {
                out[(start + i, start + j)] = panel[(i, j)];
                out[(start + j, start + i)] = panel[(i, j)];
            }
        }
    }
    out
}

/// A matrix `[n, n]` by panels of columns on all threads: `fill(first column, panel)`, a panel `[n, columns]` of zeros.
pub(crate) fn by_panels(n: usize, fill: impl Fn(usize, MatMut<'_, f64>) + Sync) -> Mat<f64> {
    const PANEL: usize = 64;
    let mut values = vec![0.0; n * n];
    values.par_chunks_mut(PANEL * n).enumerate().for_each(|(p, out)| {
        let columns = out.chunks(n).len();
        fill(p * PANEL, MatMut::from_column_major_slice_mut(out, n, columns));
    });
    MatRef::from_column_major_slice(&values, n, n).to_owned()
}

/// Inner products of the centred items with each other: `[N, N]`.
///
/// # Cost
/// O(N^2 D); keeps the items in f64.
pub(crate) fn inner(x: &Features, means: &[f64]) -> Mat<f64> {
    let (n, d) = (x.n(), x.d());
    let mut rows = Vec::with_capacity(n * d);
    centre(x.values(), means, &mut rows);
    let all = MatRef::from_row_major_slice(&rows, n, d);
    by_panels(n, |start, out| {
        let some = all.subrows(start, out.ncols()).transpose();
        matmul(out, Accum::Replace, all, some, 1.0, Par::Seq);
    })
}

/// sum_i v_i (x_i - m): `[D]` for `v`: `[N]`.
pub(crate) fn transpose_times(x: &Features, means: &[f64], v: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; x.d()];
    for (row, &v) in x.values().chunks(x.d()).zip(v) {
        for ((s, &value), m) in sums.iter_mut().zip(row).zip(means) {
            *s += v * (f64::from(value) - m);
        }
    }
    sums
}

/// x_i . w + b for every item: `[N]` for `w`: `[D]`.
pub(crate) fn times(x: &Features, w: &[f64], b: f64) -> Vec<f64> {
    x.values().par_chunks(x.d()).map(|row| b + row.iter().zip(w).map(|(&v, w)| f64::from(v) * w).sum::<f64>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::assert_close;

    #[test]
    fn products_are_the_plain_sums() {
        // 150 columns: two panels, the last one short; 700 rows: two blocks, the last one short.
        let (n, d) = (700, 150);
        let x = Features::new(d, normals(1, n * d).iter().map(|v| v + 3.0).collect()).unwrap();
        let m = means(&x);
        let s = scatter(&x, &m);
        let entry = |i: usize, j: usize| {
            (0..n).map(|r| (f64::from(x.row(r)[i]) - m[i]) * (f64::from(x.row(r)[j]) - m[j])).sum::<f64>()
        };
        for (i, j) in [(0, 0), (149, 0), (0, 149), (64, 63), (70, 140), (149, 149)] {
            assert_close(s[(i, j)], entry(i, j), 1e-10);
        }
        let weights: Vec<f64> = (0..n).map(|r| r as f64 / n as f64).collect();
        let s = weighted_scatter(&x, &m, &weights);
        let centred = |r: usize, j: usize| if j == d { 1.0 } else { f64::from(x.row(r)[j]) - m[j] };
        for (i, j) in [(0, 0), (d, 0), (0, d), (d, d), (64, 127)] {
            assert_close(s[(i, j)], (0..n).map(|r| weights[r] * centred(r, i) * centred(r, j)).sum(), 1e-10);
        }

        let few = x.select(&(0..100).collect::<Vec<_>>()).unwrap();
        let k = inner(&few, &m);
        let pair = |a: usize, b: usize| {
            (0..d).map(|j| (f64::from(x.row(a)[j]) - m[j]) * (f64::from(x.row(b)[j]) - m[j])).sum::<f64>()
        };
        for (a, b) in [(0, 0), (99, 1), (1, 99), (63, 64)] {
            assert_close(k[(a, b)], pair(a, b), 1e-10);
        }
    }

    #[test]
    fn vector_products_are_the_plain_sums() {
        let x = Features::new(2, vec![1.0, 2.0, 3.0, 6.0]).unwrap();
        assert_eq!(means(&x), [2.0, 4.0]);
        assert_eq!(transpose_times(&x, &[2.0, 4.0], &[1.0, 10.0]), [9.0, 18.0]);
        assert_eq!(times(&x, &[2.0, -1.0], 0.5), [0.5, 0.5]);
    }
}

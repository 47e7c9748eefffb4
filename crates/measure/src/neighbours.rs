//! All distances between two sets of items, a block of queries at a time.

use crate::gram::block_rows;
use crate::{Error, Features, Result};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How near two items are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Cosine of the angle between the two rows; 0 where a row is all zeros.
    Cosine,
    /// Minus the squared Euclidean distance.
    Euclidean,
    /// Inner product of the two rows.
    Inner,
}

/// Items widened to f64 and, for the cosine, scaled to unit length.
#[derive(Clone)]
pub(crate) struct Points {
    n: usize,
    d: usize,
    metric: Metric,
    values: Vec<f64>,
    /// Squared length of each row.
    squares: Vec<f64>,
}

impl Points {
    pub(crate) fn new(x: &Features, metric: Metric) -> Self {
        let mut values: Vec<f64> = x.values().iter().map(|&v| f64::from(v)).collect();
        let square = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>();
        if metric == Metric::Cosine {
            values.par_chunks_mut(x.d()).for_each(|row| {
                let length = square(row).sqrt();
                if length > 0.0 {
                    row.iter_mut().for_each(|v| *v /= length);
                }
            });
        }
        let squares = values.chunks(x.d()).map(square).collect();
        Self { n: x.n(), d: x.d(), metric, values, squares }
    }

    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// Similarity of an item to itself.
    pub(crate) fn with_itself(&self, i: usize) -> f64 {
        match self.metric {
            Metric::Euclidean => 0.0,
            Metric::Inner | Metric::Cosine => self.squares[i],
        }
    }

    /// Calls `visit(i, similarities of query i to every bank item)` for all queries; results in order of the queries.
    ///
    /// # Cost
    /// O(N M D) and, per thread, 64 rows of M numbers.
    pub(crate) fn map<T: Send>(&self, bank: &Points, visit: &(dyn Fn(usize, &mut [f64]) -> T + Sync)) -> Vec<T> {
        let step = self.rows_at_once();
        let starts: Vec<usize> = (0..self.n).step_by(step).collect();
        let blocks: Vec<Vec<T>> = starts
            .into_par_iter()
            .map_init(Vec::new, |near: &mut Vec<f64>, start| {
                let queries = start..(start + step).min(self.n);
                self.tile(queries.clone(), bank, 0..bank.n, near);
                near.chunks_mut(bank.n).zip(queries).map(|(near, i)| visit(i, near)).collect()
            })
            .collect();
        blocks.into_iter().flatten().collect()
    }

    /// Queries that are worked on together.
    pub(crate) fn rows_at_once(&self) -> usize {
        block_rows(self.d).min(64)
    }

    /// Similarities of some items to some bank items, into `near`: `[queries, of]`, row after row.
    pub(crate) fn tile(&self, queries: Range<usize>, bank: &Points, of: Range<usize>, near: &mut Vec<f64>) {
        assert_eq!((self.d, self.metric), (bank.d, bank.metric), "points of one kind");
        let rows = |range: &Range<usize>| range.start * self.d..range.end * self.d;
        near.resize(queries.len() * of.len(), 0.0);
        let out = MatMut::from_row_major_slice_mut(near, queries.len(), of.len());
        let left = MatRef::from_row_major_slice(&self.values[rows(&queries)], queries.len(), self.d);
        let right = MatRef::from_row_major_slice(&bank.values[rows(&of)], of.len(), self.d);
        matmul(out, Accum::Replace, left, right.transpose(), 1.0, Par::Seq);
        if self.metric == Metric::Euclidean {
            for (near, i) in near.chunks_mut(of.len()).zip(queries) {
                self.to_distances(i, bank, of.clone(), near);
            }
        }
    }

    /// Inner products to minus squared distances.
    fn to_distances(&self, i: usize, bank: &Points, of: Range<usize>, near: &mut [f64]) {
        // Below this share of the squared lengths |a|^2 + |b|^2 - 2 a.b has lost half its digits; differences keep copies at exactly 0.
        const CLOSE: f64 = 1e-8;
        let row = &self.values[i * self.d..(i + 1) * self.d];
        for (near, j) in near.iter_mut().zip(of) {
            let lengths = self.squares[i] + bank.squares[j];
            let mut square = lengths - 2.0 * *near;
            if square < CLOSE * lengths {
                let other = &bank.values[j * self.d..(j + 1) * self.d];
                square = row.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum();
            }
            *near = -square;
        }
    }
}

/// Errs unless `k` neighbours can be found among `available` items.
pub(crate) fn want_neighbours(k: usize, available: usize) -> Result<()> {
    if k == 0 || k > available { Err(Error::Neighbours { k, available }) } else { Ok(()) }
}

/// Places of the k largest similarities, rising, `skip` left out; of equal ones the earlier.
pub(crate) fn nearest(similarities: &[f64], k: usize, skip: Option<usize>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..similarities.len()).filter(|j| skip != Some(*j)).collect();
    order.select_nth_unstable_by(k - 1, |&a, &b| similarities[b].total_cmp(&similarities[a]).then(a.cmp(&b)));
    order.truncate(k);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::assert_close;

    #[test]
    fn distances_are_the_plain_ones_across_blocks() {
        let a = Features::new(3, normals(1, 3 * 130)).unwrap();
        let b = Features::new(3, normals(2, 3 * 70)).unwrap();
        let (pa, pb) = (Points::new(&a, Metric::Euclidean), Points::new(&b, Metric::Euclidean));
        let rows = pa.map(&pb, &|i, near| (i, near.to_vec()));
        assert_eq!(rows.len(), 130);
        for (i, row) in rows {
            for (j, got) in row.into_iter().enumerate() {
                let want: f64 =
                    a.row(i).iter().zip(b.row(j)).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
                assert_close(got, -want, 1e-12);
            }
        }
    }

    #[test]
    fn the_earlier_of_equals_is_nearer() {
        assert_eq!(nearest(&[0.5, 0.9, 0.5, 0.1, 0.5], 3, None), [0, 1, 2]);
        assert_eq!(nearest(&[0.5, 0.9, 0.5, 0.1, 0.5], 3, Some(1)), [0, 2, 4]);
    }

    #[test]
    fn copies_are_at_distance_zero_far_from_the_origin() {
        let x = Features::new(5, normals(3, 50).iter().map(|v| v + 1e4).collect()).unwrap();
        let p = Points::new(&x, Metric::Euclidean);
        assert!(p.map(&p, &|i, near| near[i]).iter().all(|&v| v == 0.0));
    }

    #[test]
    fn cosines_ignore_length_and_zero_rows_are_near_nothing() {
        let q = Features::new(2, vec![3.0, 0.0, 0.0, 0.0]).unwrap();
        let bank = Features::new(2, vec![0.5, 0.0, 1.0, 1.0, -2.0, 0.0]).unwrap();
        let near = Points::new(&q, Metric::Cosine).map(&Points::new(&bank, Metric::Cosine), &|_, near| near.to_vec());
        near[0].iter().zip([1.0, 0.5f64.sqrt(), -1.0]).for_each(|(g, w)| assert_close(*g, w, 1e-15));
        assert_eq!(near[1], [0.0; 3]);
    }
}

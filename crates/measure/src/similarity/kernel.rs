use crate::neighbours::{Metric, Points};
use crate::{Error, Features, Result};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How near two items are, as an inner product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// x . y.
    #[default]
    Linear,
    /// exp(-|x - y|^2 / 2 s^2).
    Rbf(KernelLength),
}

/// The length s of a Gaussian kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelLength {
    /// In units of the features.
    Absolute(f64),
    /// As a multiple of the median distance between two different items, so that scale does not matter (Kornblith et al. use
    /// 0.2 to 0.8).
    OfMedian(f64),
}

/// Kernel values of all pairs of items, `[N, N]`, symmetric.
pub(super) struct Gram {
    pub(super) n: usize,
    pub(super) values: Vec<f64>,
}

/// Errs unless both representations are of the same items, at least `need` of them.
pub(super) fn want_same_items(a: &Features, b: &Features, need: usize) -> Result<()> {
    if a.n() != b.n() {
        return Err(Error::LengthMismatch { what: "items of the second representation", want: a.n(), got: b.n() });
    }
    if a.n() < need {
        return Err(Error::TooFew { what: "items of the representations", need, got: a.n() });
    }
    Ok(())
}

impl Gram {
    /// All values of a kernel.
    ///
    /// # Cost
    /// O(N^2 D) and N^2 numbers.
    pub(super) fn new(x: &Features, kernel: Kernel) -> Result<Self> {
        match kernel {
            Kernel::Linear => Ok(Self::linear(x)),
            Kernel::Rbf(bandwidth) => Self::rbf(x, bandwidth),
        }
    }

    /// Inner products of the items as they are.
    pub(super) fn linear(x: &Features) -> Self {
        const PANEL: usize = 64;
        let (n, d) = (x.n(), x.d());
        let wide: Vec<f64> = x.values().iter().map(|&v| f64::from(v)).collect();
        let all = MatRef::from_row_major_slice(&wide, n, d);
        let mut values = vec![0.0; n * n];
        values.par_chunks_mut(PANEL * n).enumerate().for_each(|(p, out)| {
            let rows = out.chunks(n).len();
            let out = MatMut::from_row_major_slice_mut(out, rows, n);
            matmul(out, Accum::Replace, all.subrows(p * PANEL, rows), all.transpose(), 1.0, Par::Seq);
        });
        Self { n, values }
    }

    fn rbf(x: &Features, bandwidth: KernelLength) -> Result<Self> {
        let (KernelLength::Absolute(given) | KernelLength::OfMedian(given)) = bandwidth;
        if !(given > 0.0 && given.is_finite()) {
            return Err(Error::Setting { name: "bandwidth", got: given, want: "positive and finite" });
        }
        let n = x.n();
        let points = Points::new(x, Metric::Euclidean);
        let mut values = points.map(&points, &|_, near| near.to_vec()).concat(); // minus squared distances
        let length = match bandwidth {
            KernelLength::Absolute(s) => s,
            KernelLength::OfMedian(share) => share * median_distance(&values, n)?,
        };
        let scale = 0.5 / (length * length);
        values.par_iter_mut().for_each(|v| *v = (scale * *v).exp());
        Ok(Self { n, values })
    }

    /// The values with rows and columns summing to 0: H K H, H = I - 1/N.
    pub(super) fn centred(&self) -> Self {
        let n = self.n;
        let means: Vec<f64> = self.values.par_chunks(n).map(|row| row.iter().sum::<f64>() / n as f64).collect();
        let mean = means.iter().sum::<f64>() / n as f64;
        let mut values = self.values.clone();
        values.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
            row.iter_mut().zip(&means).for_each(|(v, m)| *v -= means[i] + m - mean);
        });
        Self { n, values }
    }

    /// sum_ij K_ij L_ij, added row by row.
    pub(super) fn product(&self, other: &Self) -> f64 {
        let rows = self.values.par_chunks(self.n).zip(other.values.par_chunks(self.n));
        let sums: Vec<f64> = rows.map(|(a, b)| a.iter().zip(b).map(|(x, y)| x * y).sum()).collect();
        sums.iter().sum()
    }
}

/// Median distance of the pairs above the diagonal; the lower of the two in the middle.
fn median_distance(negative_squares: &[f64], n: usize) -> Result<f64> {
    let mut squares: Vec<f64> =
        (0..n).flat_map(|i| negative_squares[i * n + i + 1..(i + 1) * n].iter().map(|v| -v)).collect();
    if squares.is_empty() {
        return Err(Error::TooFew { what: "items for a median distance", need: 2, got: n });
    }
    let middle = (squares.len() - 1).div_euclid(2);
    let median = *squares.select_nth_unstable_by(middle, f64::total_cmp).1;
    if median > 0.0 {
        Ok(median.sqrt())
    } else {
        Err(Error::NoSpread { what: "distances of half the pairs", measure: "a bandwidth from their median" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::assert_close;

    #[test]
    fn values_by_hand() {
        let x = Features::new(2, vec![0.0, 1.0, 3.0, 1.0, 0.0, -3.0]).unwrap();
        assert_eq!(Gram::new(&x, Kernel::Linear).unwrap().values, [1.0, 1.0, -3.0, 1.0, 10.0, -3.0, -3.0, -3.0, 9.0]);
        // Distances 3, 4, 5: the median is 4.
        let got = Gram::new(&x, Kernel::Rbf(KernelLength::OfMedian(0.5))).unwrap();
        let same = Gram::new(&x, Kernel::Rbf(KernelLength::Absolute(2.0))).unwrap();
        assert_eq!(got.values, same.values);
        assert_close(got.values[1], (-9.0f64 / 8.0).exp(), 1e-14);
        assert_eq!(got.values[0], 1.0);
    }

    #[test]
    fn centred_rows_sum_to_nothing() {
        let x = Features::new(1, vec![1.0, 5.0, 9.0]).unwrap();
        let got = Gram::linear(&x).centred();
        // The Gram matrix of -4, 0, 4.
        got.values
            .iter()
            .zip([16.0, 0.0, -16.0, 0.0, 0.0, 0.0, -16.0, 0.0, 16.0])
            .for_each(|(g, w)| assert_close(*g, w, 1e-12));
        assert_close(got.product(&got), 4.0 * 256.0, 1e-12);
    }

    #[test]
    fn bandwidths_need_a_length() {
        let same = Features::new(1, vec![2.0; 3]).unwrap();
        assert!(Gram::new(&same, Kernel::Rbf(KernelLength::OfMedian(1.0))).is_err());
        assert!(Gram::new(&same, Kernel::Rbf(KernelLength::Absolute(0.0))).is_err());
        assert!(Gram::new(&same.select(&[0]).unwrap(), Kernel::Rbf(KernelLength::OfMedian(1.0))).is_err());
    }
}

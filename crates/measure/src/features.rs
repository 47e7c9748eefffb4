use crate::{Error, Result};

/// Features of N items: a matrix `[N, D]`, row-major, all values finite, N and D at least 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    n: usize,
    d: usize,
    values: Vec<f32>,
}

impl Features {
    /// Takes `values` as rows of `d` columns.
    ///
    /// # Shapes
    /// - `values`: `[N * d]`, row after row
    ///
    /// # Errors
    /// No rows or columns, a last row that is cut short, a value that is not finite.
    pub fn new(d: usize, values: Vec<f32>) -> Result<Self> {
        if d == 0 {
            return Err(Error::TooFew { what: "columns of the features", need: 1, got: 0 });
        }
        if values.is_empty() {
            return Err(Error::TooFew { what: "rows of the features", need: 1, got: 0 });
        }
        let n = values.chunks(d).len();
        if n * d != values.len() {
            return Err(Error::LengthMismatch { what: "values of the features", want: n * d, got: values.len() });
        }
        if let Some(row) = values.chunks(d).position(|row| row.iter().any(|v| !v.is_finite())) {
            let column = values[row * d..].iter().position(|v| !v.is_finite()).unwrap_or(0);
            return Err(Error::NotFinite { what: "features", row, column });
        }
        Ok(Self { n, d, values })
    }

    /// Number of items (rows).
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of features (columns).
    pub fn d(&self) -> usize {
        self.d
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The features of item `i`.
    ///
    /// # Panics
    /// When `i` is not below `n`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.d..(i + 1) * self.d]
    }

    /// Feature `j` of all items, in f64: `[N]`.
    ///
    /// # Panics
    /// When `j` is not below `d`.
    pub fn column(&self, j: usize) -> Vec<f64> {
        assert!(j < self.d, "column {j} of {}", self.d);
        self.values.iter().skip(j).step_by(self.d).map(|&v| f64::from(v)).collect()
    }

    /// The rows named by `items`, in that order.
    ///
    /// # Errors
    /// `items` is empty.
    ///
    /// # Panics
    /// When an item is not below `n`.
    pub fn select(&self, items: &[usize]) -> Result<Self> {
        Self::new(self.d, items.iter().flat_map(|&i| self.row(i)).copied().collect())
    }

    /// Errs unless this has as many columns as what it is used with.
    pub(crate) fn want_columns(&self, what: &'static str, want: usize) -> Result<()> {
        if self.d == want { Ok(()) } else { Err(Error::LengthMismatch { what, want, got: self.d }) }
    }

    /// Errs unless there is one target per row.
    pub(crate) fn want_targets(&self, what: &'static str, got: usize) -> Result<()> {
        if self.n == got { Ok(()) } else { Err(Error::LengthMismatch { what, want: self.n, got }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_rows() {
        let x = Features::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!((x.n(), x.d()), (3, 2));
        assert_eq!(x.row(1), [3.0, 4.0]);
        assert_eq!(x.column(1), [2.0, 4.0, 6.0]);
        assert_eq!(x.select(&[2, 0]).unwrap().values(), [5.0, 6.0, 1.0, 2.0]);
    }

    #[test]
    fn bad_features_are_named() {
        assert_eq!(
            Features::new(2, vec![0.0; 3]).unwrap_err().to_string(),
            "values of the features: 3 found where 4 are needed; give one for each"
        );
        assert_eq!(
            Features::new(2, vec![0.0, 1.0, 2.0, f32::NAN]).unwrap_err(),
            Error::NotFinite { what: "features", row: 1, column: 1 }
        );
        assert_eq!(
            Features::new(0, vec![]).unwrap_err(),
            Error::TooFew { what: "columns of the features", need: 1, got: 0 }
        );
        assert_eq!(
            Features::new(3, vec![]).unwrap_err(),
            Error::TooFew { what: "rows of the features", need: 1, got: 0 }
        );
    }
}

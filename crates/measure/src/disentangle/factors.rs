use crate::cluster::contingency::{Places, places};
use crate::{Error, Features, Result};

/// True factors of variation of N items: a matrix `[N, F]` of discrete values, row-major, N and F at least 1.
///
/// Values are names: only sorting into equal and different counts, except where a measure says that it reads them as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factors {
    n: usize,
    f: usize,
    values: Vec<u32>,
}

impl Factors {
    /// Takes `values` as rows of `f` factors.
    ///
    /// # Errors
    /// No rows or factors, a last row that is cut short.
    pub fn new(f: usize, values: Vec<u32>) -> Result<Self> {
        if f == 0 || values.is_empty() {
            return Err(Error::TooFew { what: "factor values", need: 1, got: 0 });
        }
        let n = values.chunks(f).len();
        if n * f != values.len() {
            return Err(Error::LengthMismatch { what: "factor values", want: n * f, got: values.len() });
        }
        Ok(Self { n, f, values })
    }

    /// Factors given as numbers, a column each: every value is a name, but a factor of more than `most` values is cut into `parts`
    /// of equal count. Returns how many were cut, too.
    ///
    /// # Errors
    /// No columns or rows, columns of different lengths.
    pub fn of_numbers(columns: &[&[f64]], most: usize, parts: usize) -> Result<(Self, usize)> {
        let n = columns.first().map_or(0, |c| c.len());
        if let Some(other) = columns.iter().find(|c| c.len() != n) {
            return Err(Error::LengthMismatch { what: "values of a factor", want: n, got: other.len() });
        }
        if n == 0 {
            return Err(Error::TooFew { what: "factor values", need: 1, got: 0 });
        }
        let mut cut = 0;
        let each: Vec<Vec<u32>> = columns
            .iter()
            .map(|values| {
                let mut sorted = values.to_vec();
                sorted.sort_by(f64::total_cmp);
                // A value's name is the number of edges that it has reached.
                let mut edges = sorted.clone();
                edges.dedup();
                edges.remove(0);
                if edges.len() >= most {
                    cut += 1;
                    edges = (1..parts).map(|part| sorted[(part * n).div_euclid(parts)]).collect();
                }
                let name = |v: &f64| u32::try_from(edges.partition_point(|edge| edge <= v)).unwrap_or(u32::MAX);
                values.iter().map(name).collect()
            })
            .collect();
        let rows = (0..n).flat_map(|i| each.iter().map(move |column| column[i]));
        Ok((Self::new(columns.len(), rows.collect())?, cut))
    }

    /// Some of the items.
    ///
    /// # Errors
    /// None of them.
    ///
    /// # Panics
    /// An item that is not there.
    pub fn select(&self, items: &[usize]) -> Result<Self> {
        let rows = items.iter().flat_map(|&i| self.values[i * self.f..(i + 1) * self.f].iter().copied());
        Self::new(self.f, rows.collect())
    }

    /// Number of items.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of factors.
    pub fn f(&self) -> usize {
        self.f
    }

    /// The values of factor `k` of all items.
    ///
    /// # Panics
    /// When `k` is not below `f`.
    pub fn column(&self, k: usize) -> Vec<u32> {
        assert!(k < self.f, "factor {k} of {}", self.f);
        self.values.iter().skip(k).step_by(self.f).copied().collect()
    }

    /// Errs unless there is one row of factors per row of codes.
    pub(super) fn want_codes(&self, codes: &Features) -> Result<()> {
        codes.want_targets("rows of factors", self.n)
    }

    /// Errs unless there are at least two factors for a measure that sets them against each other.
    pub(super) fn want_two(&self) -> Result<()> {
        if self.f < 2 { Err(Error::TooFew { what: "factors", need: 2, got: self.f }) } else { Ok(()) }
    }

    /// Items of each value of each factor; errs where a factor has one value only.
    pub(super) fn groups(&self, measure: &'static str) -> Result<Vec<Places>> {
        let all: Vec<Places> = (0..self.f).map(|k| places(&self.column(k))).collect();
        if all.iter().any(|p| p.sizes.len() < 2) {
            return Err(Error::NoSpread { what: "a factor", measure });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_named_in_order_and_long_factors_cut_evenly() {
        let few: &[f64] = &[0.5, -1.0, 0.5, 2.0];
        let (named, cut) = Factors::of_numbers(&[few, &[7.0; 4]], 32, 10).unwrap();
        assert_eq!((named.column(0), named.column(1), cut), (vec![1, 0, 1, 2], vec![0; 4], 0));
        assert_eq!(named.select(&[3, 0]).unwrap().column(0), [2, 1]);
        let many: Vec<f64> = (0..100).map(|i| f64::from((i * 37) % 100)).collect();
        let (parts, cut) = Factors::of_numbers(&[&many], 32, 10).unwrap();
        let column = parts.column(0);
        let sizes: Vec<usize> = (0..10).map(|p| column.iter().filter(|v| **v == p).count()).collect();
        assert_eq!((cut, sizes), (1, vec![10; 10]));
        assert!(
            (0..100).all(|i| (0..100).all(|j| many[i] >= many[j] || column[i] <= column[j])),
            "parts keep the order"
        );
        assert!(Factors::of_numbers(&[], 32, 10).is_err() && Factors::of_numbers(&[few, &[1.0]], 32, 10).is_err());
        assert!(Factors::of_numbers(&[&[]], 32, 10).is_err());
    }

    #[test]
    fn columns_are_factors() {
        let factors = Factors::new(2, vec![1, 7, 2, 7, 1, 9]).unwrap();
        assert_eq!((factors.n(), factors.f()), (3, 2));
        assert_eq!(factors.column(1), [7, 7, 9]);
        let groups = factors.groups("a test").unwrap();
        assert_eq!((&groups[1].of[..], &groups[1].sizes[..]), (&[0, 0, 1][..], &[2, 1][..]));
    }

    #[test]
    fn bad_factors_are_named() {
        assert!(Factors::new(0, vec![]).is_err() && Factors::new(2, vec![1, 2, 3]).is_err());
        let flat = Factors::new(2, vec![1, 7, 1, 8]).unwrap();
        let Err(error) = flat.groups("a gap") else { panic!("a constant factor") };
        assert_eq!(
            error.to_string(),
            "a factor: every value is the same, so a gap is undefined; give values that vary"
        );
    }
}

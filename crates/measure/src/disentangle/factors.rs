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

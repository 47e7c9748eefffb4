use crate::{Error, Result};
use rayon::prelude::*;

/// N pictures of one size, or the feature maps of a layer for N pictures: `[N, C, H, W]`, row-major, all values finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Pictures {
    shape: [usize; 3],
    values: Vec<f32>,
}

impl Pictures {
    /// Takes `values` as pictures of one shape `[C, H, W]`.
    ///
    /// # Errors
    /// No pictures, an empty shape, a last picture that is cut short, a value that is not finite.
    pub fn new(shape: [usize; 3], values: Vec<f32>) -> Result<Self> {
        let each: usize = shape.iter().product();
        if each == 0 || values.is_empty() {
            return Err(Error::TooFew { what: "values of the pictures", need: 1, got: 0 });
        }
        let n = values.chunks(each).len();
        if n * each != values.len() {
            return Err(Error::LengthMismatch { what: "values of the pictures", want: n * each, got: values.len() });
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let row = at.div_euclid(each);
            return Err(Error::NotFinite { what: "pictures", row, column: at - row * each });
        }
        Ok(Self { shape, values })
    }

    /// Number of pictures.
    pub fn n(&self) -> usize {
        self.values.chunks(self.each()).len()
    }

    /// Channels, height and width of a picture.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// All values: `[N, C, H, W]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    fn each(&self) -> usize {
        self.shape.iter().product()
    }

    /// Errs unless `other` has as many pictures of the same shape.
    pub(crate) fn want_same(&self, what: &'static str, other: &Self) -> Result<()> {
        let whole = |p: &Self| [&[p.n()], &p.shape[..]].concat();
        if whole(self) == whole(other) {
            Ok(())
        } else {
            Err(Error::ShapeMismatch { what, want: whole(self), got: whole(other) })
        }
    }

    /// Calls `measure` with the values of each pair, on all cores; results in order.
    pub(crate) fn with(&self, other: &Self, measure: &(dyn Fn(&[f32], &[f32]) -> f64 + Sync)) -> Vec<f64> {
        let each = self.each();
        self.values.par_chunks(each).zip(other.values.par_chunks(each)).map(|(a, b)| measure(a, b)).collect()
    }
}

/// Errs unless a range of values is usable.
pub(crate) fn want_range(range: f64) -> Result<()> {
    if range > 0.0 && range.is_finite() {
        Ok(())
    } else {
        Err(Error::Setting { name: "range", got: range, want: "above 0 and finite: 255, 1 or 2 for usual pictures" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_pictures_are_named() {
        let shape = [1, 2, 2];
        assert_eq!(Pictures::new(shape, vec![0.0; 8]).unwrap().n(), 2);
        assert!(Pictures::new(shape, vec![]).is_err() && Pictures::new([0, 2, 2], vec![1.0]).is_err());
        let short = Error::LengthMismatch { what: "values of the pictures", want: 8, got: 7 };
        assert_eq!(Pictures::new(shape, vec![0.0; 7]).unwrap_err(), short);
        let mut values = vec![0.0; 8];
        values[6] = f32::INFINITY;
        let bad = Error::NotFinite { what: "pictures", row: 1, column: 2 };
        assert_eq!(Pictures::new(shape, values).unwrap_err(), bad);
        let (a, b) = (Pictures::new(shape, vec![0.0; 8]).unwrap(), Pictures::new([1, 1, 2], vec![0.0; 4]).unwrap());
        let said = a.want_same("second pictures", &b).unwrap_err().to_string();
        assert_eq!(
            said,
            "second pictures: shape [2, 1, 1, 2] found where [2, 1, 2, 2] is needed; bring both to one size"
        );
        assert!(want_range(0.0).is_err() && want_range(f64::NAN).is_err() && want_range(255.0).is_ok());
    }
}

//! Numbers out of tensors, how far two are apart, rows as directions: what pages report with and exact checks are made of.

use tch::Tensor;

/// The one number of a tensor.
pub fn value(t: &Tensor) -> f64 {
    t.double_value(&[])
}

/// The largest size of an entry.
pub fn largest(t: &Tensor) -> f64 {
    value(&t.abs().max())
}

/// The largest distance between entries that belong together; infinite where shapes differ, since numbers that are repeated to fit
/// hide what is missing.
pub fn gap(a: &Tensor, b: &Tensor) -> f64 {
    if a.size() == b.size() { largest(&(a - b)) } else { f64::INFINITY }
}

/// Rows over their length, along the last axis; a row of zeros stays.
pub fn unit_rows(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2, [-1].as_slice(), true).clamp_min(1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_differ_are_infinitely_apart() {
        let x = Tensor::from_slice(&[3.0, -4.0]);
        assert_eq!((largest(&x), gap(&x, &(&x + 0.5))), (4.0, 0.5));
        assert_eq!(gap(&x, &x.view([2, 1])), f64::INFINITY);
    }

    #[test]
    fn rows_become_directions_and_zeros_stay() {
        let x = Tensor::from_slice(&[3.0, -4.0, 0.0, 0.0]).view([2, 2]);
        assert_eq!(unit_rows(&x), Tensor::from_slice(&[0.6, -0.8, 0.0, 0.0]).view([2, 2]));
    }
}

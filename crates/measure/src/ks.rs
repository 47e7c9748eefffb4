use crate::{Error, Result};

/// Two-sample Kolmogorov-Smirnov distance: the largest gap between the two empirical distribution functions, in [0, 1].
///
/// Ties, within a sample or across, are stepped over together: the gap is taken only between distinct values.
///
/// # Errors
/// An empty sample or a value that is not finite.
///
/// # Cost
/// Two sorts.
pub fn kolmogorov_smirnov(a: &[f32], b: &[f32]) -> Result<f64> {
    let (a, b) = (sorted("first sample", a)?, sorted("second sample", b)?);
    let (mut i, mut j, mut gap) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        let here = a[i].min(b[j]);
        i += a[i..].iter().take_while(|&&v| v <= here).count();
        j += b[j..].iter().take_while(|&&v| v <= here).count();
        gap = gap.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    Ok(gap)
}

fn sorted(what: &'static str, values: &[f32]) -> Result<Vec<f32>> {
    if values.is_empty() {
        return Err(Error::TooFew { what, need: 1, got: 0 });
    }
    if let Some(row) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::NotFinite { what, row, column: 0 });
    }
    let mut values = values.to_vec();
    values.sort_unstable_by(f32::total_cmp);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn small_cases_by_hand() {
        assert_eq!(kolmogorov_smirnov(&[1.0, 2.0, 3.0], &[3.0, 1.0, 2.0]).unwrap(), 0.0);
        assert_eq!(kolmogorov_smirnov(&[1.0, 2.0], &[3.0]).unwrap(), 1.0);
        // After 0: 1/2 against 0; after 1: 1 against 3/4.
        assert_eq!(kolmogorov_smirnov(&[0.0, 1.0], &[1.0, 1.0, 1.0, 2.0]).unwrap(), 0.5);
        // -0 and 0 are the same value.
        assert_eq!(kolmogorov_smirnov(&[-0.0], &[0.0]).unwrap(), 0.0);
    }

    #[test]
    fn equals_scipy_with_and_without_ties() {
        let file = Fixture::open("measure/numbers.safetensors");
        for name in ["ks.free", "ks.ties"] {
            let got = kolmogorov_smirnov(&file.f32s(&format!("{name}.a")), &file.f32s(&format!("{name}.b"))).unwrap();
            assert_close(got, file.f64s(name)[0], 1e-12);
        }
    }

    #[test]
    fn refuses_empty_and_nan() {
        assert_eq!(
            kolmogorov_smirnov(&[], &[1.0]).unwrap_err(),
            Error::TooFew { what: "first sample", need: 1, got: 0 }
        );
        assert_eq!(
            kolmogorov_smirnov(&[1.0], &[1.0, f32::NAN]).unwrap_err(),
            Error::NotFinite { what: "second sample", row: 1, column: 0 }
        );
    }
}

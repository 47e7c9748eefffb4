use crate::neighbours::{Metric, Points};
use crate::{Error, Features, Result};

/// How evenly items cover the sphere: ln of the mean of exp(-t |x - y|^2) over pairs of items scaled to unit length; lower is more even.
///
/// 0 when all are the same; on the sphere of many dimensions the even spread reaches about -2 t. The paper uses t = 2. Pairs of
/// an item with itself do not count. An item of zeros stays where it is.
///
/// # Errors
/// Fewer than two items; `t` not positive and finite.
///
/// # Cost
/// O(N^2 D).
///
/// # Source
/// Wang and Isola 2020 (arXiv 2005.10242), section 4.1; pairs as in their released code.
pub fn uniformity(x: &Features, t: f64) -> Result<f64> {
    if x.n() < 2 {
        return Err(Error::TooFew { what: "items for a uniformity", need: 2, got: x.n() });
    }
    if !(t > 0.0 && t.is_finite()) {
        return Err(Error::Setting { name: "t", got: t, want: "positive and finite" });
    }
    let points = Points::new(x, Metric::Cosine);
    let zero = |i: usize| x.row(i).iter().all(|v| v.abs() <= 0.0);
    let lengths: Vec<f64> = (0..x.n()).map(|i| if zero(i) { 0.0 } else { 1.0 }).collect();
    let sums = points.map(&points, &|i, near| {
        let later = near.iter().zip(&lengths).skip(i + 1);
        later.map(|(cosine, l)| (-t * (lengths[i] + l - 2.0 * cosine).max(0.0)).exp()).sum::<f64>()
    });
    let pairs = 0.5 * x.n() as f64 * (x.n() - 1) as f64;
    Ok((sums.iter().sum::<f64>() / pairs).ln())
}

/// How near the two views of an item are: mean of |x - y|^power over rows of `a` and `b` scaled to unit length; lower is nearer.
///
/// The paper uses a power of 2.
///
/// # Errors
/// Different shapes; a power that is not positive and finite.
///
/// # Source
/// Wang and Isola 2020 (arXiv 2005.10242), section 4.1.
pub fn alignment(a: &Features, b: &Features, power: f64) -> Result<f64> {
    b.want_columns("columns of the second views", a.d())?;
    if a.n() != b.n() {
        return Err(Error::LengthMismatch { what: "second views", want: a.n(), got: b.n() });
    }
    if !(power > 0.0 && power.is_finite()) {
        return Err(Error::Setting { name: "power", got: power, want: "positive and finite" });
    }
    let unit = |row: &[f32]| -> Vec<f64> {
        let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|&v| if length > 0.0 { f64::from(v) / length } else { 0.0 }).collect()
    };
    let distance = |i: usize| {
        let (x, y) = (unit(a.row(i)), unit(b.row(i)));
        x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().powf(0.5 * power)
    };
    Ok((0..a.n()).map(distance).sum::<f64>() / a.n() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_formula_in_numpy() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let x = file.features("shape.tall");
        let want = file.f64s("shape.sphere");
        assert_close(uniformity(&x, 2.0).unwrap(), want[0], 1e-9);
        assert_close(alignment(&x, &file.features("shape.tall.moved"), 2.0).unwrap(), want[1], 1e-9);
        assert_close(alignment(&x, &file.features("shape.tall.moved"), 1.0).unwrap(), want[2], 1e-9);
    }

    #[test]
    fn the_ends_are_known() {
        // Opposite ends: |x - y|^2 = 4; right angles: 2.
        let opposite = Features::new(2, vec![3.0, 0.0, -0.5, 0.0]).unwrap();
        assert_close(uniformity(&opposite, 2.0).unwrap(), -8.0, 1e-12);
        assert_close(uniformity(&Features::new(2, vec![0.3; 8]).unwrap(), 2.0).unwrap(), 0.0, 1e-12);
        let wide = Features::new(256, normals(1, 256 * 60)).unwrap();
        assert!((uniformity(&wide, 2.0).unwrap() + 4.0).abs() < 0.1);
        assert_eq!(alignment(&opposite, &opposite, 2.0).unwrap(), 0.0);
        let turned = Features::new(2, vec![0.0, 9.0, 0.0, 2.0]).unwrap();
        assert_close(alignment(&opposite, &turned, 2.0).unwrap(), 2.0, 1e-12);
        assert!(uniformity(&opposite.select(&[0]).unwrap(), 2.0).is_err());
        assert!(alignment(&opposite, &wide, 2.0).is_err());
        assert!(uniformity(&opposite, 0.0).is_err() && alignment(&opposite, &turned, f64::NAN).is_err());
    }
}

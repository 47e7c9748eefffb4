use super::stack::{Pictures, want_range};
use crate::Result;

/// Peak signal-to-noise ratio of each pair of pictures in decibels: 10 log10 (range^2 / mean squared difference).
///
/// Infinite for equal pictures. The mean runs over all channels, rows and columns of a picture; the ratio of a batch is usually
/// reported as the mean of these values, not as the ratio of the mean squared difference.
///
/// # Shapes
/// - `a`, `b`: `[N, C, H, W]`
/// - returns: `[N]`
///
/// # Errors
/// Different shapes, a range that is not above 0.
pub fn psnr(a: &Pictures, b: &Pictures, range: f64) -> Result<Vec<f64>> {
    a.want_same("second pictures", b)?;
    want_range(range)?;
    Ok(a.with(b, &|x, y| {
        let sum: f64 = x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
        10.0 * (range * range / (sum / x.len() as f64)).log10()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_image_and_torchmetrics() {
        let file = Fixture::open("measure_pictures/numbers.safetensors");
        for case in ["colour", "grey", "flat"] {
            let [a, b] = ["a", "b"].map(|side| file.pictures(&format!("{case}.{side}")));
            let want = file.f64s(&format!("{case}.psnr"));
            psnr(&a, &b, 255.0).unwrap().iter().zip(want).for_each(|(g, w)| assert_close(*g, w, 1e-9));
        }
    }

    #[test]
    fn a_tenth_of_the_range_is_twenty_decibels_and_nothing_is_infinite() {
        let picture = |v: f32| Pictures::new([3, 2, 2], vec![v; 12]).unwrap();
        assert_close(psnr(&picture(0.0), &picture(25.5), 255.0).unwrap()[0], 20.0, 1e-12);
        assert_eq!(psnr(&picture(0.5), &picture(0.5), 1.0).unwrap(), [f64::INFINITY]);
        assert!(psnr(&picture(0.5), &picture(0.5), -1.0).is_err());
        let two = Pictures::new([3, 2, 2], vec![0.0; 24]).unwrap();
        assert!(psnr(&picture(0.5), &two, 1.0).is_err());
    }
}

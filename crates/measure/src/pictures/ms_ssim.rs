use super::ssim::{compare, wide};
use super::stack::{Pictures, want_range};
use super::window::Window;
use crate::{Error, Result};

/// Exponents of the five scales, finest first, as the paper measured them on observers.
const SCALES: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
/// Shortest side whose fifth scale still holds the window: 16 (11 - 1) + 1.
const SHORTEST: usize = 161;

/// Multi-scale structural similarity of each pair of pictures, in [0, 1], 1 for equal pictures.
///
/// prod_s cs_s^e_s * ssim_5^e_5 over four halvings by 2 x 2 averages, where cs is the contrast and structure factor of
/// [`ssim`](crate::ssim) under the Gaussian window; for each channel, then averaged. A negative factor counts as 0, so that the
/// power is defined.
///
/// A side of odd length is given a row of zeros before it is halved, and channels are averaged after the product, both as in
/// pytorch-msssim, whose numbers the compression literature reports.
///
/// # Shapes
/// - `a`, `b`: `[N, C, H, W]`, H and W at least 161
/// - returns: `[N]`
///
/// # Errors
/// Different shapes, a side under 161 pixels, a range that is not above 0.
///
/// # Source
/// Wang, Simoncelli, Bovik 2003, Asilomar, eq. 7; weights of section 3.2.
pub fn ms_ssim(a: &Pictures, b: &Pictures, range: f64) -> Result<Vec<f64>> {
    a.want_same("second pictures", b)?;
    want_range(range)?;
    let [c, h, w] = a.shape();
    if h.min(w) < SHORTEST {
        let got = h.min(w);
        return Err(Error::TooFew { what: "pixels along the shorter side for five scales", need: SHORTEST, got });
    }
    let one = |x: &[f32], y: &[f32]| {
        let planes = x.chunks(h * w).zip(y.chunks(h * w));
        planes.map(|(x, y)| plane(wide(x), wide(y), w, range)).sum::<f64>() / c as f64
    };
    Ok(a.with(b, &one))
}

fn plane(mut x: Vec<f64>, mut y: Vec<f64>, mut w: usize, range: f64) -> f64 {
    let mut product = 1.0;
    for (scale, exponent) in SCALES.into_iter().enumerate() {
        let similarity = compare(&x, &y, w, range, Window::Gaussian);
        if scale + 1 == SCALES.len() {
            return product * similarity.ssim.max(0.0).powf(exponent);
        }
        product *= similarity.contrast.max(0.0).powf(exponent);
        (x, y) = (halve(&x, w), halve(&y, w));
        w = w.div_ceil(2);
    }
    product
}

/// Averages of 2 x 2 pixels; an odd side has a row of zeros before its first.
fn halve(plane: &[f64], w: usize) -> Vec<f64> {
    let h = plane.chunks(w).len();
    let (odd_h, odd_w) = (h % 2, w % 2);
    let at = |i: usize, j: usize| match (i.checked_sub(odd_h), j.checked_sub(odd_w)) {
        (Some(i), Some(j)) => plane[i * w + j],
        _ => 0.0,
    };
    let pixel = |i: usize, j: usize| 0.25 * (at(i, j) + at(i, j + 1) + at(i + 1, j) + at(i + 1, j + 1));
    (0..h).step_by(2).flat_map(|i| (0..w).step_by(2).map(move |j| pixel(i, j))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_pytorch_msssim_on_even_and_odd_sides() {
        let file = Fixture::open("measure_pictures/numbers.safetensors");
        for case in ["large", "odd"] {
            let [a, b] = ["a", "b"].map(|side| file.pictures(&format!("{case}.{side}")));
            let want = file.f64s(&format!("{case}.ms_ssim"));
            ms_ssim(&a, &b, 255.0).unwrap().iter().zip(want).for_each(|(g, w)| assert_close(*g, w, 1e-9));
            ms_ssim(&a, &a, 255.0).unwrap().iter().for_each(|g| assert_close(*g, 1.0, 1e-12));
        }
    }

    #[test]
    fn halving_averages_and_pads_odd_sides_in_front() {
        assert_eq!(halve(&[1.0, 3.0, 5.0, 7.0], 2), [4.0]);
        // F.avg_pool2d(torch.arange(1., 10).view(1, 1, 3, 3), 2, padding=1)
        assert_eq!(halve(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 3), [0.25, 1.25, 2.75, 7.0]);
        assert_close(SCALES.iter().sum(), 1.0, 1e-3);
    }

    #[test]
    fn opposite_structure_is_zero_and_small_pictures_are_refused() {
        let side = 161;
        let wave = |sign: f32| {
            let pixel =
                |i: usize| 0.5 + sign * 0.4 * if (i + i.div_euclid(side)).is_multiple_of(2) { 1.0 } else { -1.0 };
            Pictures::new([1, side, side], (0..side * side).map(pixel).collect()).unwrap()
        };
        assert_eq!(ms_ssim(&wave(1.0), &wave(-1.0), 1.0).unwrap(), [0.0]);
        let small = Pictures::new([1, 160, 161], vec![0.0; 160 * 161]).unwrap();
        let said = ms_ssim(&small, &small, 1.0).unwrap_err().to_string();
        let want = "pixels along the shorter side for five scales: 160 found, at least 161 are needed; give more";
        assert_eq!(said, want);
    }
}

use super::stack::{Pictures, want_range};
use super::window::{Window, filter};
use crate::{Error, Result};

/// Stabilisers of the paper: C1 = (0.01 range)^2, C2 = (0.03 range)^2.
const K: [f64; 2] = [0.01, 0.03];

/// Structural similarity of each pair of pictures, in [-1, 1], 1 for equal pictures.
///
/// (2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2)) with local means m and (co)variances s, averaged over
/// all places where the window fits and then over channels.
///
/// Places where the window would leave the picture do not count, as in the paper, in scikit-image and in pytorch-msssim;
/// torchmetrics fills in reflected pixels there and averages over them too, which gives other numbers.
///
/// # Shapes
/// - `a`, `b`: `[N, C, H, W]`
/// - returns: `[N]`
///
/// # Errors
/// Different shapes, a side that is shorter than the window, a range that is not above 0.
///
/// # Source
/// Wang, Bovik, Sheikh, Simoncelli 2004, IEEE Trans. Image Process. 13, eq. 13.
pub fn ssim(a: &Pictures, b: &Pictures, range: f64, window: Window) -> Result<Vec<f64>> {
    a.want_same("second pictures", b)?;
    want_range(range)?;
    let [c, h, w] = a.shape();
    let weights = window.weights();
    if h.min(w) < weights.len() {
        return Err(Error::TooFew { what: "pixels along the shorter side", need: weights.len(), got: h.min(w) });
    }
    let one = |x: &[f32], y: &[f32]| {
        let planes = x.chunks(h * w).zip(y.chunks(h * w)).map(|(x, y)| compare(&wide(x), &wide(y), w, range, window));
        planes.map(|p| p.ssim).sum::<f64>() / c as f64
    };
    Ok(a.with(b, &one))
}

/// Means over a plane.
pub(crate) struct Similarity {
    pub(crate) ssim: f64,
    /// Of the second factor alone, contrast and structure.
    pub(crate) contrast: f64,
}

pub(crate) fn wide(plane: &[f32]) -> Vec<f64> {
    plane.iter().map(|&v| f64::from(v)).collect()
}

/// Compares two planes of width `w`.
pub(crate) fn compare(x: &[f64], y: &[f64], w: usize, range: f64, window: Window) -> Similarity {
    let (weights, scale) = (window.weights(), window.covariance_scale());
    let [c1, c2] = K.map(|k| (k * range).powi(2));
    let products = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f64>>();
    let [mx, my] = [x, y].map(|plane| filter(plane, w, &weights));
    let [xx, yy, xy] = [(x, x), (y, y), (x, y)].map(|(a, b)| filter(&products(a, b), w, &weights));
    let (mut ssim, mut contrast) = (0.0, 0.0);
    for i in 0..mx.len() {
        let (mx, my) = (mx[i], my[i]);
        let [vx, vy, vxy] = [xx[i] - mx * mx, yy[i] - my * my, xy[i] - mx * my].map(|v| scale * v);
        let second = (2.0 * vxy + c2) / (vx + vy + c2);
        contrast += second;
        ssim += second * (2.0 * mx * my + c1) / (mx * mx + my * my + c1);
    }
    let n = mx.len() as f64;
    Similarity { ssim: ssim / n, contrast: contrast / n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_image_under_both_windows() {
        let file = Fixture::open("measure_pictures/numbers.safetensors");
        for case in ["colour", "grey", "flat"] {
            let [a, b] = ["a", "b"].map(|side| file.pictures(&format!("{case}.{side}")));
            for (window, name) in [(Window::Gaussian, "gaussian"), (Window::Uniform, "uniform")] {
                let want = file.f64s(&format!("{case}.ssim.{name}"));
                let got = ssim(&a, &b, 255.0, window).unwrap();
                got.iter().zip(want).for_each(|(g, w)| assert_close(*g, w, 1e-9));
            }
        }
        // The other convention is told apart by the tolerance above.
        let ours = file.f64s("colour.ssim.gaussian")[0];
        assert!((file.f64s("colour.ssim.torchmetrics")[0] - ours).abs() > 1e-4);
    }

    #[test]
    fn flat_pictures_have_the_luminance_term_alone() {
        let flat = |v: f32| Pictures::new([1, 11, 11], vec![v; 121]).unwrap();
        let (x, y, c1) = (0.25, 0.75, 1e-4);
        let want = (2.0 * x * y + c1) / (x * x + y * y + c1);
        assert_close(ssim(&flat(0.25), &flat(0.75), 1.0, Window::Gaussian).unwrap()[0], want, 1e-12);
        assert_close(ssim(&flat(0.25), &flat(0.25), 1.0, Window::Uniform).unwrap()[0], 1.0, 1e-12);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let small = Pictures::new([1, 10, 30], vec![0.0; 300]).unwrap();
        let said = ssim(&small, &small, 1.0, Window::Gaussian).unwrap_err().to_string();
        assert_eq!(said, "pixels along the shorter side: 10 found, at least 11 are needed; give more");
        assert!(ssim(&small, &small, 1.0, Window::Uniform).is_ok());
        let turned = Pictures::new([1, 30, 10], vec![0.0; 300]).unwrap();
        assert!(ssim(&small, &turned, 1.0, Window::Uniform).is_err());
        assert!(ssim(&small, &small, 0.0, Window::Uniform).is_err());
    }
}

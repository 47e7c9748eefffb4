use serde::{Deserialize, Serialize};

/// The window over which SSIM compares two pictures locally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// 11 x 11 Gaussian of width 1.5 with the covariance of the weights themselves: the paper's.
    Gaussian,
    /// 7 x 7 average with the unbiased covariance (48 for 49): what scikit-image does unless told otherwise.
    Uniform,
}

impl Window {
    /// Weights along one side; they sum to 1.
    pub(crate) fn weights(self) -> Vec<f64> {
        match self {
            Self::Gaussian => {
                let weight = |i: i32| (-f64::from(i * i) / (2.0 * 1.5 * 1.5)).exp();
                let sum: f64 = (-5..=5).map(weight).sum();
                (-5..=5).map(|i| weight(i) / sum).collect()
            }
            Self::Uniform => vec![1.0 / 7.0; 7],
        }
    }

    /// What a window's covariance is multiplied with.
    pub(crate) fn covariance_scale(self) -> f64 {
        match self {
            Self::Gaussian => 1.0,
            Self::Uniform => 49.0 / 48.0,
        }
    }
}

/// A plane of height `h` and width `w`, filtered along both sides wherever the window fits.
///
/// # Shapes
/// - `plane`: `[h, w]`, both at least as long as `weights`
/// - returns: `[h - k + 1, w - k + 1]` for k weights
pub(crate) fn filter(plane: &[f64], w: usize, weights: &[f64]) -> Vec<f64> {
    let inner = w + 1 - weights.len();
    let across: Vec<f64> = plane
        .chunks(w)
        .flat_map(|row| {
            row.windows(weights.len()).map(|part| part.iter().zip(weights).map(|(v, k)| v * k).sum::<f64>())
        })
        .collect(); // [h, inner]
    let rows: Vec<&[f64]> = across.chunks(inner).collect();
    let mut out = Vec::with_capacity((rows.len() + 1 - weights.len()) * inner);
    for part in rows.windows(weights.len()) {
        let start = out.len();
        out.resize(start + inner, 0.0);
        for (row, k) in part.iter().zip(weights) {
            out[start..].iter_mut().zip(*row).for_each(|(sum, v)| *sum += k * v);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::assert_close;

    #[test]
    fn weights_sum_to_one_and_a_filter_is_the_plain_sum() {
        for window in [Window::Gaussian, Window::Uniform] {
            assert_close(window.weights().iter().sum(), 1.0, 1e-15);
        }
        // np.exp(-np.arange(-5, 6)**2 / 4.5); [5] / sum
        assert_close(Window::Gaussian.weights()[5], 0.266_011_724_861_794_1, 1e-13);
        let plane: Vec<f64> = (0..12).map(|i| f64::from(i * i)).collect(); // [3, 4]
        let got = filter(&plane, 4, &[0.5, 0.25]);
        assert_eq!(got.len(), 2 * 3);
        let want = |i: usize, j: usize| {
            let at = |i: usize, j: usize| plane[4 * i + j];
            0.25 * at(i, j) + 0.125 * (at(i, j + 1) + at(i + 1, j)) + 0.0625 * at(i + 1, j + 1)
        };
        (0..6).for_each(|k| assert_close(got[k], want(k.div_euclid(3), k % 3), 1e-15));
    }
}

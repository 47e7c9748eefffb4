use crate::Prediction;
use crate::choice::{Choices, by_name, checked};
use pentimento_core::Error;
use serde::{Deserialize, Serialize};

/// How much each noise level counts in the loss.
///
/// As text: `plain`, `min_snr(gamma)`, `edm(sigma_data)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Weighting {
    /// Squared error of the prediction in which the loss is measured, weight 1.
    #[default]
    Plain,
    /// The error of x0 counts min(SNR, gamma): min(SNR, gamma)/SNR on noise and, at alpha^2 + sigma^2 = 1,
    /// min(SNR, gamma)/(SNR + 1) on v (Hang et al. 2023, arXiv 2303.09556, section 3.4).
    MinSnr {
        /// The cap; 5 in the paper.
        gamma: f64,
    },
    /// The error of x0 counts (s^2 + sd^2)/(s sd)^2 = SNR + 1/sd^2 (Karras et al. 2022, arXiv 2206.00364, table 1).
    Edm {
        /// Standard deviation of the data; 0.5 in the paper.
        sigma_data: f64,
    },
}

impl Weighting {
    const CHOICES: Choices =
        Choices { what: "weighting", list: &[("plain", &[]), ("min_snr", &[5.0]), ("edm", &[0.5])] };

    fn build(place: usize, n: &[f64]) -> Result<Self, Error> {
        Ok(match place {
            0 => Self::Plain,
            1 => Self::MinSnr { gamma: checked("gamma of min_snr", n[0], n[0] > 0.0, "above 0")? },
            _ => Self::Edm { sigma_data: checked("sigma_data of edm", n[0], n[0] > 0.0, "above 0")? },
        })
    }

    fn parts(self) -> (usize, Vec<f64>) {
        match self {
            Self::Plain => (0, vec![]),
            Self::MinSnr { gamma } => (1, vec![gamma]),
            Self::Edm { sigma_data } => (2, vec![sigma_data]),
        }
    }

    /// Weight of the squared error of a prediction. Finite wherever that prediction's weight has a limit: noise at
    /// alpha = 0, data at sigma = 0 under min-SNR.
    pub fn of(self, space: Prediction, alpha: f64, sigma: f64) -> f64 {
        // An error of x0 is (sigma / |det|) times that of the prediction, so a weight w of the former becomes
        // w (sigma / det)^2; written with SNR (sigma / det)^2 = (alpha / det)^2 to stay finite at the ends.
        let det = space.determinant(alpha, sigma);
        let (data, noise) = match space {
            Prediction::Epsilon => (1.0, sigma / alpha),
            Prediction::Sample => (alpha / sigma, 1.0),
            Prediction::VPrediction | Prediction::Velocity => (alpha / det, sigma / det),
        };
        match self {
            Self::Plain => 1.0,
            Self::MinSnr { gamma } if alpha * alpha <= gamma * sigma * sigma => data * data,
            Self::MinSnr { gamma } => gamma * noise * noise,
            Self::Edm { sigma_data } => data * data + noise * noise / (sigma_data * sigma_data),
        }
    }
}

by_name!(Weighting);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
    }

    #[test]
    fn min_snr_has_its_published_form_for_each_prediction() {
        let (w, vp) = (Weighting::MinSnr { gamma: 5.0 }, path::ALL[2]);
        for t in [0.01, 0.2, 0.5, 0.9] {
            let (a, s) = (vp.alpha(t), vp.sigma(t));
            let snr = (a / s).powi(2);
            assert!(close(w.of(Prediction::Epsilon, a, s), snr.min(5.0) / snr));
            assert!(close(w.of(Prediction::Sample, a, s), snr.min(5.0)));
            assert!(close(w.of(Prediction::VPrediction, a, s), snr.min(5.0) / (snr + 1.0)));
        }
    }

    /// gamma to infinity: the plain noise loss. gamma to 0, over gamma: the plain x0 loss. And the ends are finite.
    #[test]
    fn min_snr_limits() {
        for p in path::ALL {
            for t in [0.1, 0.6, 0.95] {
                let (a, s) = (p.alpha(t), p.sigma(t));
                assert!(close(Weighting::MinSnr { gamma: 1e30 }.of(Prediction::Epsilon, a, s), 1.0));
                assert!(close(Weighting::MinSnr { gamma: 1e-30 }.of(Prediction::Sample, a, s) * 1e30, 1.0));
            }
        }
        let w = Weighting::MinSnr { gamma: 5.0 };
        assert!(close(w.of(Prediction::Epsilon, 0.0, 1.0), 1.0));
        assert!(close(w.of(Prediction::Sample, 1.0, 0.0), 5.0));
    }

    #[test]
    fn edm_has_its_published_form() {
        let (w, s, sd) = (Weighting::Edm { sigma_data: 0.5 }, 3.0_f64, 0.5_f64);
        assert!(close(w.of(Prediction::Sample, 1.0, s), (s * s + sd * sd) / (s * sd).powi(2)));
    }
}

use crate::choice::{Choices, by_name};
use pentimento_core::{Error, Level};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What a network's output stands for. Each is a known mixture `p x0 + q eps`, so that together with
/// `xt = alpha x0 + sigma eps` any one determines all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Prediction {
    /// `epsilon`: the noise.
    Epsilon,
    /// `sample`: the clean data.
    Sample,
    /// `v_prediction`: v = alpha eps - sigma x0 (Salimans and Ho 2022, arXiv 2202.00512, appendix D).
    VPrediction,
    /// `flow`: eps - x0, the velocity d xt/dt of the straight flow. On other paths it is the same difference, which stays
    /// well conditioned at both ends.
    Velocity,
}

impl Prediction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Epsilon, Self::Sample, Self::VPrediction, Self::Velocity];

    const CHOICES: Choices = Choices {
        what: "prediction",
        list: &[("epsilon", &[]), ("sample", &[]), ("v_prediction", &[]), ("flow", &[])],
    };

    fn build(place: usize, _: &[f64]) -> Result<Self, Error> {
        Ok(Self::ALL[place])
    }

    fn parts(self) -> (usize, Vec<f64>) {
        (Self::ALL.iter().position(|p| *p == self).unwrap_or(0), vec![])
    }

    /// (p, q) of `p x0 + q eps`.
    pub fn mixture(self, alpha: f64, sigma: f64) -> (f64, f64) {
        match self {
            Self::Epsilon => (0.0, 1.0),
            Self::Sample => (1.0, 0.0),
            Self::VPrediction => (-sigma, alpha),
            Self::Velocity => (-1.0, 1.0),
        }
    }

    /// alpha q - sigma p, the determinant of the system (state, prediction) -> (x0, eps); 0 where the prediction says
    /// nothing that the state does not say: noise at alpha = 0, data at sigma = 0.
    pub fn determinant(self, alpha: f64, sigma: f64) -> f64 {
        match self {
            Self::Epsilon => alpha,
            Self::Sample => -sigma,
            Self::VPrediction => alpha * alpha + sigma * sigma,
            Self::Velocity => alpha + sigma,
        }
    }

    /// (a, b) such that prediction `to` = a xt + b (prediction `self`).
    ///
    /// Two named ends, where the determinant is 0: noise predicted at alpha = 0 is taken to come with x0 = 0, data
    /// predicted at sigma = 0 with eps = 0.
    pub fn affine(self, to: Self, alpha: f64, sigma: f64) -> (f64, f64) {
        let ((p1, q1), (p2, q2)) = (self.mixture(alpha, sigma), to.mixture(alpha, sigma));
        let (d1, d2) = (self.determinant(alpha, sigma), to.determinant(alpha, sigma));
        match self {
            _ if self == to => (0.0, 1.0),
            Self::Epsilon if d1 == 0.0 => (0.0, q2),
            Self::Sample if d1 == 0.0 => (0.0, p2),
            _ => ((p2 * q1 - q2 * p1) / d1, d2 / d1),
        }
    }

    /// The value of this prediction for known data and noise: what a network is trained on.
    ///
    /// # Shapes
    /// - `x0`, `eps`, returns: `[B, ...]`
    pub fn target(self, x0: &Tensor, eps: &Tensor, level: &Level) -> Tensor {
        match self {
            Self::Epsilon => eps.shallow_clone(),
            Self::Sample => x0.shallow_clone(),
            Self::VPrediction => Level::times(&level.alpha, eps) - Level::times(&level.sigma, x0),
            Self::Velocity => eps - x0,
        }
    }

    /// The same knowledge as another prediction.
    ///
    /// # Shapes
    /// - `value`, `xt`, returns: `[B, ...]`
    pub fn convert(self, to: Self, value: &Tensor, xt: &Tensor, level: &Level) -> Tensor {
        if self == to {
            return value.shallow_clone();
        }
        let a = level.map(|alpha, sigma| self.affine(to, alpha, sigma).0);
        let b = level.map(|alpha, sigma| self.affine(to, alpha, sigma).1);
        Level::times(&a, xt) + Level::times(&b, value)
    }

    /// The clean estimate that a value of this prediction implies.
    pub fn x0(self, value: &Tensor, xt: &Tensor, level: &Level) -> Tensor {
        self.convert(Self::Sample, value, xt, level)
    }

    /// The noise estimate that a value of this prediction implies.
    pub fn eps(self, value: &Tensor, xt: &Tensor, level: &Level) -> Tensor {
        self.convert(Self::Epsilon, value, xt, level)
    }

    /// grad ln p(xt) = -eps_hat / sigma that a value of this prediction implies; not finite at sigma = 0, where there
    /// is none.
    pub fn score(self, value: &Tensor, xt: &Tensor, level: &Level) -> Tensor {
        Level::times(&level.map(|_, s| -1.0 / s), &self.eps(value, xt, level))
    }
}

by_name!(Prediction);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;
    use pentimento_core::{Noise, Stream};
    use tch::{Device, Kind};

    fn normal(seed: u64) -> Tensor {
        Noise::new(seed, (0..5).collect()).normal(&[5, 3, 2], Device::Cpu, Stream::Own).to_kind(Kind::Double)
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn conversions_are_exact_and_round_trip_with_a_level_per_sample() {
        let (x0, eps) = (normal(1), normal(2));
        for p in path::ALL {
            let level = p.levels(&[0.02, 0.3, 0.5, 0.8, 0.97]);
            let xt = level.mix(&x0, &eps);
            for from in Prediction::ALL {
                let value = from.target(&x0, &eps, &level);
                // Noise says little about data where alpha is small, and the reverse: the tolerance follows.
                let worst =
                    level.map(|a, s| ((a + s) / from.determinant(a, s)).abs().max(1.0)).into_iter().fold(1.0, f64::max);
                assert!(gap(&from.x0(&value, &xt, &level), &x0) < 1e-14 * 80.0 * worst, "{p} {from}");
                assert!(gap(&from.eps(&value, &xt, &level), &eps) < 1e-14 * 80.0 * worst, "{p} {from}");
                for to in Prediction::ALL {
                    let there = from.convert(to, &value, &xt, &level);
                    let back = to.convert(from, &there, &xt, &level);
                    assert!(gap(&back, &value) < 1e-12 * worst.max(80.0), "{p} {from} {to}");
                }
            }
        }
    }

    #[test]
    fn the_ends_are_finite_and_named() {
        let (x0, eps) = (normal(3), normal(4));
        let (noise, data) = (Level::one(1.0, 0.0, 1.0), Level::one(0.0, 1.0, 0.0));
        assert!(gap(&Prediction::Epsilon.x0(&eps, &eps, &noise), &eps.zeros_like()) == 0.0);
        assert!(gap(&Prediction::Sample.eps(&x0, &x0, &data), &eps.zeros_like()) == 0.0);
        for (level, xt) in [(&noise, &eps), (&data, &x0)] {
            for from in [Prediction::VPrediction, Prediction::Velocity] {
                let value = from.target(&x0, &eps, level);
                assert!(gap(&from.x0(&value, xt, level), &x0) < 1e-14, "{from}");
                assert!(gap(&from.eps(&value, xt, level), &eps) < 1e-14, "{from}");
            }
        }
    }

    #[test]
    fn names_are_those_of_published_checkpoints() {
        let names: Vec<String> = Prediction::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["epsilon", "sample", "v_prediction", "flow"]);
        assert!(
            "velocity".parse::<Prediction>().unwrap_err().to_string().contains("epsilon, sample, v_prediction, flow")
        );
    }
}

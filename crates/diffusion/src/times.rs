use crate::Path;
use crate::choice::{Choices, by_name, checked};
use pentimento_core::{Draws, Error, Stream};
use serde::{Deserialize, Serialize};

/// Distribution of the noise levels met in training.
///
/// As text: `uniform`, `logit_normal(mean, std)`, `log_normal(mean, std)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Times {
    /// t uniform in [0, 1].
    #[default]
    Uniform,
    /// logit(t) normal (Esser et al. 2024, arXiv 2403.03206, eq. 19).
    LogitNormal {
        /// Mean of logit(t); 0 in the paper.
        mean: f64,
        /// Standard deviation of logit(t); 1 in the paper.
        std: f64,
    },
    /// ln(s) normal, s = sigma / alpha; levels beyond the path's end become its end
    /// (Karras et al. 2022, arXiv 2206.00364, table 1).
    LogNormal {
        /// Mean of ln s; -1.2 in the paper.
        mean: f64,
        /// Standard deviation of ln s; 1.2 in the paper.
        std: f64,
    },
}

/// How training levels are spread over a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Each sample by itself.
    #[default]
    Independent,
    /// Evenly over any run of consecutive samples, whatever the batch size: u_i = frac(u_0 + i / golden ratio), whose
    /// n values leave no gap above 1.9/n. The marginal law is the same; the loss varies less from batch to batch.
    Stratified,
}

impl Times {
    const CHOICES: Choices = Choices {
        what: "distribution of times",
        list: &[("uniform", &[]), ("logit_normal", &[0.0, 1.0]), ("log_normal", &[-1.2, 1.2])],
    };

    fn build(place: usize, n: &[f64]) -> Result<Self, Error> {
        let std = |what| checked(what, n[1], n[1] > 0.0, "above 0");
        Ok(match place {
            0 => Self::Uniform,
            1 => Self::LogitNormal { mean: n[0], std: std("std of logit_normal")? },
            _ => Self::LogNormal { mean: n[0], std: std("std of log_normal")? },
        })
    }

    fn parts(self) -> (usize, Vec<f64>) {
        match self {
            Self::Uniform => (0, vec![]),
            Self::LogitNormal { mean, std } => (1, vec![mean, std]),
            Self::LogNormal { mean, std } => (2, vec![mean, std]),
        }
    }

    /// The time below which a share u of all times lies.
    pub fn quantile(self, u: f64, path: &Path) -> f64 {
        match self {
            Self::Uniform => u,
            Self::LogitNormal { mean, std } => 1.0 / (1.0 + (-(mean + std * normal_quantile(u))).exp()),
            Self::LogNormal { mean, std } => path.t_of_s((mean + std * normal_quantile(u)).exp()),
        }
    }
}

by_name!(Times);

impl Spread {
    /// A number in (0, 1) for a sample.
    pub fn uniform(self, seed: u64, sample: u64, step: u32) -> f64 {
        let u = match self {
            Self::Independent => Draws::at(seed, sample, step, Stream::Time).uniform(),
            Self::Stratified => {
                // The multiples of 1/phi modulo 1, exactly, in 64-bit fixed point.
                let turn = sample.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let start = Draws::at(seed, 0, step, Stream::Time).uniform();
                (start + (turn >> 11) as f64 * 0.5_f64.powi(53)).fract()
            }
        };
        u.clamp(0.5_f64.powi(54), 1.0 - 0.5_f64.powi(53))
    }
}

/// Quantile of the standard normal: Acklam's rational approximation (relative error 1.2e-9), u in (0, 1).
pub fn normal_quantile(u: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    const TAIL: f64 = 0.02425;
    let poly = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, k| sum * x + k);
    let tail = |u: f64| {
        let q = (-2.0 * u.ln()).sqrt();
        poly(&C, q) / poly(&D, q)
    };
    if u < TAIL {
        tail(u)
    } else if u > 1.0 - TAIL {
        -tail(1.0 - u)
    } else {
        let q = u - 0.5;
        q * poly(&A, q * q) / poly(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python: statistics.NormalDist().inv_cdf(u)
    #[test]
    fn normal_quantiles_match_the_literature() {
        for (u, z) in [
            (0.5, 0.0),
            (0.975, 1.9599639845400536),
            (0.1, -1.2815515655446008),
            (0.001, -3.090232306167813),
            (0.99999, 4.26489079392281),
            (0.02425, -1.9729610406564816),
        ] {
            assert!((normal_quantile(u) - z).abs() < 2e-8, "{u}: {} {z}", normal_quantile(u));
        }
    }

    /// Kolmogorov-Smirnov distance of 4000 sampled values from a known distribution, against 1.95/sqrt(n) (p = 0.001).
    fn check(values: &mut [f64], cdf: impl Fn(f64) -> f64) {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let d = values
            .iter()
            .enumerate()
            .map(|(i, &v)| (cdf(v) - i as f64 / n).abs().max((cdf(v) - (i as f64 + 1.0) / n).abs()))
            .fold(0.0, f64::max);
        assert!(d < 1.95 / n.sqrt(), "distance {d}");
    }

    /// Phi by Simpson's rule, independent of the rational approximation.
    fn phi(z: f64) -> f64 {
        let n = 400;
        let h = z / f64::from(n);
        let f = |x: f64| (-0.5 * x * x).exp();
        let sum: f64 = (0..=n)
            .map(|i| {
                f64::from(if i == 0 || i == n {
                    1
                } else if i % 2 == 1 {
                    4
                } else {
                    2
                }) * f(f64::from(i) * h)
            })
            .sum();
        0.5 + sum * h / 3.0 / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn sampled_times_follow_their_distributions() {
        for spread in [Spread::Independent, Spread::Stratified] {
            let draw = |times: Times, path: Path| -> Vec<f64> {
                (0..4000).map(|i| times.quantile(spread.uniform(7, 1000 + i, 0), &path)).collect()
            };
            check(&mut draw(Times::Uniform, Path::Flow), |t| t);
            let logit = Times::LogitNormal { mean: -0.5, std: 0.8 };
            check(&mut draw(logit, Path::Flow), |t| phi(((t / (1.0 - t)).ln() + 0.5) / 0.8));
            let log = Times::LogNormal { mean: -1.2, std: 1.2 };
            for p in crate::path::ALL {
                // The straight flow and the cosine know all levels; the others are cut far out in the tail.
                check(&mut draw(log, p), |t| phi(((p.sigma(t) / p.alpha(t)).ln() + 1.2) / 1.2));
            }
        }
    }

    #[test]
    fn stratified_times_leave_no_gap_in_any_run_of_samples() {
        for first in [0, 12_345, 1 << 40] {
            let mut u: Vec<f64> = (0..64).map(|i| Spread::Stratified.uniform(3, first + i, 0)).collect();
            u.sort_by(f64::total_cmp);
            let gap = u.windows(2).map(|w| w[1] - w[0]).fold(u[0] + 1.0 - u[63], f64::max);
            assert!(gap < 1.9 / 64.0, "{gap}");
        }
        assert!((Spread::Stratified.uniform(3, 5, 0) - Spread::Stratified.uniform(4, 5, 0)).abs() > 1e-3);
    }

    #[test]
    fn names_round_trip() {
        for text in ["uniform", "logit_normal(0, 1)", "log_normal(-1.2, 1.2)"] {
            assert_eq!(text.parse::<Times>().unwrap().to_string(), text);
        }
        assert_eq!("logit_normal".parse::<Times>().unwrap(), Times::LogitNormal { mean: 0.0, std: 1.0 });
        assert!("logit_normal(0, 0)".parse::<Times>().unwrap_err().to_string().contains("above 0"));
    }
}

use crate::Betas;
use crate::choice::{Choices, by_name, checked};
use pentimento_core::{Error, Level};
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_PI_2, PI};

/// A noising process `xt = alpha(t) x0 + sigma(t) eps`, t from 0 (data) to 1 (noise).
///
/// As text, in recipes and on the command line: `flow`, `vp_linear(beta_min, beta_max)`, `vp_cosine(s)`, `edm`,
/// `table_linear(steps, first, last)`, `table_scaled_linear(steps, first, last)`, `table_cosine(steps)`,
/// `vp_inverse_cosine`; numbers may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Path {
    /// Straight flow: alpha = 1 - t, sigma = t (Liu et al. 2022, arXiv 2209.03003; Lipman et al. 2022, arXiv 2210.02747,
    /// with their time reversed).
    #[default]
    Flow,
    /// Variance preserving with beta(t) = beta_min + t (beta_max - beta_min):
    /// ln alpha = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2 (Song et al. 2021, arXiv 2011.13456, eq. 33).
    VpLinear {
        /// beta(0); 0.1 in the paper.
        beta_min: f64,
        /// beta(1); 20 in the paper.
        beta_max: f64,
    },
    /// Variance preserving with alpha = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s)) (Nichol and Dhariwal 2021,
    /// arXiv 2102.09672, eq. 17, where alpha-bar is its square); alpha(1) = 0.
    VpCosine {
        /// Offset that keeps sigma from rising too slowly; 0.008 in the paper.
        s: f64,
    },
    /// Variance exploding: alpha = 1, sigma = [`EDM_S_MAX`] t, so that a step in t is a step in the noise level s of
    /// Karras et al. 2022 (arXiv 2206.00364).
    Edm,
    /// The chain in discrete time that DDPM, ADM, DiT and Stable Diffusion were trained on, [`crate::DiscreteVp`]: index
    /// i lies at t = (i + 1)/steps. Between two levels of the table ln alpha is a straight line, so that every t has one.
    /// A level costs a walk along the table, some microseconds.
    Table {
        /// Noise of each step.
        betas: Betas,
        /// Length of the table.
        steps: usize,
    },
    /// Variance preserving with alpha^2 = 2/pi arccos(sqrt(t)), the inverse function of a cosine path's: steep at both ends
    /// and flat between, so that most times are those of medium noise (Hudson et al. 2023, arXiv 2311.17901; their offset s,
    /// which makes alpha^2 negative before t = 1, is 0, as in google-deepmind/hackable_diffusion).
    VpInverseCosine,
}

/// Noise level at the end of the EDM path (Karras et al. 2022, table 1).
pub const EDM_S_MAX: f64 = 80.0;

impl Path {
    const CHOICES: Choices = Choices {
        what: "path",
        list: &[
            ("flow", &[]),
            ("vp_linear", &[0.1, 20.0]),
            ("vp_cosine", &[0.008]),
            ("edm", &[]),
            ("table_linear", &[1000.0, 1e-4, 0.02]),
            ("table_scaled_linear", &[1000.0, 0.00085, 0.012]),
            ("table_cosine", &[1000.0]),
            ("vp_inverse_cosine", &[]),
        ],
    };

    fn build(place: usize, n: &[f64]) -> Result<Self, Error> {
        Ok(match place {
            0 => Self::Flow,
            1 => Self::VpLinear {
                beta_min: checked("beta_min of vp_linear", n[0], n[0] > 0.0, "above 0")?,
                beta_max: checked("beta_max of vp_linear", n[1], n[1] > n[0], "above beta_min")?,
            },
            2 => Self::VpCosine { s: checked("s of vp_cosine", n[0], (0.0..1.0).contains(&n[0]), "in [0, 1)")? },
            3 => Self::Edm,
            4 | 5 => {
                let first =
                    checked("the first beta of a table", n[1], n[1] > 0.0 && n[1] < 1.0, "above 0 and below 1")?;
                let last = checked(
                    "the last beta of a table",
                    n[2],
                    n[2] >= n[1] && n[2] < 1.0,
                    "at least the first and below 1",
                )?;
                let betas =
                    if place == 4 { Betas::Linear { first, last } } else { Betas::ScaledLinear { first, last } };
                Self::Table { betas, steps: steps_of(n[0])? }
            }
            6 => Self::Table { betas: Betas::Cosine, steps: steps_of(n[0])? },
            _ => Self::VpInverseCosine,
        })
    }

    fn parts(&self) -> (usize, Vec<f64>) {
        match *self {
            Self::Flow => (0, vec![]),
            Self::VpLinear { beta_min, beta_max } => (1, vec![beta_min, beta_max]),
            Self::VpCosine { s } => (2, vec![s]),
            Self::Edm => (3, vec![]),
            Self::Table { betas, steps } => match betas {
                Betas::Linear { first, last } => (4, vec![steps as f64, first, last]),
                Betas::ScaledLinear { first, last } => (5, vec![steps as f64, first, last]),
                Betas::Cosine => (6, vec![steps as f64]),
            },
            Self::VpInverseCosine => (7, vec![]),
        }
    }

    /// Coefficient of the data.
    pub fn alpha(&self, t: f64) -> f64 {
        match *self {
            Self::Flow => 1.0 - t,
            Self::VpLinear { beta_min, beta_max } => (-integral(beta_min, beta_max, t)).exp(),
            // sin of the complement: exactly 0 at t = 1, where cos(pi/2) is not.
            Self::VpCosine { s } => {
                if t <= 0.0 {
                    1.0
                } else {
                    (FRAC_PI_2 * (1.0 - t) / (1.0 + s)).sin() / offset(s).cos()
                }
            }
            Self::Edm => 1.0,
            Self::Table { betas, steps } => (0.5 * walked(betas, steps, t).0).exp(),
            Self::VpInverseCosine => (t.clamp(0.0, 1.0).sqrt().acos() / FRAC_PI_2).sqrt(),
        }
    }

    /// Coefficient of the noise.
    pub fn sigma(&self, t: f64) -> f64 {
        match *self {
            Self::Flow => t,
            Self::VpLinear { beta_min, beta_max } => (-(-2.0 * integral(beta_min, beta_max, t)).exp_m1()).sqrt(),
            // 1 - cos^2 b / cos^2 a = sin(b - a) sin(b + a) / cos^2 a: no cancellation at small t.
            Self::VpCosine { s } => {
                let (a, b) = (offset(s), FRAC_PI_2 * (t + s) / (1.0 + s));
                ((FRAC_PI_2 * t / (1.0 + s)).sin() * (a + b).sin()).max(0.0).sqrt() / a.cos()
            }
            Self::Edm => EDM_S_MAX * t,
            Self::Table { betas, steps } => (-walked(betas, steps, t).0.exp_m1()).max(0.0).sqrt(),
            // arcsin is the complement of arccos: no cancellation at small t.
            Self::VpInverseCosine => (t.clamp(0.0, 1.0).sqrt().asin() / FRAC_PI_2).sqrt(),
        }
    }

    /// d alpha / dt; of a table that of the line towards noise, of `vp_inverse_cosine` infinite at both ends.
    pub fn d_alpha(&self, t: f64) -> f64 {
        match *self {
            Self::Flow => -1.0,
            Self::VpLinear { beta_min, beta_max } => -0.5 * (beta_min + t * (beta_max - beta_min)) * self.alpha(t),
            Self::VpCosine { s } => {
                let rate = FRAC_PI_2 / (1.0 + s);
                -rate * (rate * (1.0 - t)).cos() / offset(s).cos()
            }
            Self::Edm => 0.0,
            Self::Table { betas, steps } => 0.5 * walked(betas, steps, t).1 * self.alpha(t),
            Self::VpInverseCosine => -rate_of_inverse_cosine(t) / self.alpha(t),
        }
    }

    /// d sigma / dt; infinite at t = 0 of the variance-preserving paths, where sigma grows like sqrt(t) (except
    /// `vp_cosine(0)`, whose sigma is a sine), and at t = 1 of `vp_inverse_cosine`.
    pub fn d_sigma(&self, t: f64) -> f64 {
        match *self {
            Self::Flow => 1.0,
            Self::Edm => EDM_S_MAX,
            Self::VpCosine { s: 0.0 } => FRAC_PI_2 * (FRAC_PI_2 * t).cos(),
            Self::VpInverseCosine => rate_of_inverse_cosine(t) / self.sigma(t),
            // alpha^2 + sigma^2 = 1
            Self::VpLinear { .. } | Self::VpCosine { .. } | Self::Table { .. } => {
                -self.alpha(t) * self.d_alpha(t) / self.sigma(t)
            }
        }
    }

    /// ln(alpha^2 / sigma^2); infinite where alpha or sigma is 0.
    pub fn logsnr(&self, t: f64) -> f64 {
        2.0 * (self.alpha(t).ln() - self.sigma(t).ln())
    }

    /// The time at which the path has a log-SNR; 0 or 1 for values beyond its ends.
    pub fn t_of_logsnr(&self, logsnr: f64) -> f64 {
        let t = match *self {
            Self::Flow => 1.0 / (1.0 + (0.5 * logsnr).exp()),
            Self::VpLinear { beta_min, beta_max } => {
                // -ln alpha = softplus(-logsnr) / 2 = (beta_max - beta_min) t^2 / 4 + beta_min t / 2, solved for 1/t.
                let a = 0.5 * softplus(-logsnr);
                let b = 0.5 * beta_min / a;
                2.0 / (b + (b * b + (beta_max - beta_min) / a).sqrt())
            }
            Self::VpCosine { s } => {
                let alpha = (-0.5 * softplus(-logsnr)).exp();
                if s == 0.0 {
                    (-0.5 * logsnr).exp().atan() / FRAC_PI_2
                } else {
                    1.0 - (alpha * offset(s).cos()).asin() * (1.0 + s) / FRAC_PI_2
                }
            }
            Self::Edm => (-0.5 * logsnr).exp() / EDM_S_MAX,
            Self::Table { betas, steps } => time_of(betas, steps, -softplus(-logsnr)),
            // alpha^2 is the logistic function of the log-SNR.
            Self::VpInverseCosine => (FRAC_PI_2 * (-softplus(-logsnr)).exp()).cos().powi(2),
        };
        t.clamp(0.0, 1.0)
    }

    /// The time at which sigma / alpha is s; 1 for values beyond the end.
    pub fn t_of_s(&self, s: f64) -> f64 {
        match self {
            // Exact at both ends, without a logarithm.
            Self::Flow if s.is_infinite() => 1.0,
            Self::Flow => s / (1.0 + s),
            Self::Edm => (s / EDM_S_MAX).min(1.0),
            _ if s <= 0.0 => 0.0,
            _ => self.t_of_logsnr(-2.0 * s.ln()),
        }
    }

    /// The level at a time, shared by a batch.
    pub fn level(&self, t: f64) -> Level {
        Level::one(t, self.alpha(t), self.sigma(t))
    }

    /// One level per sample.
    pub fn levels(&self, t: &[f64]) -> Level {
        Level {
            t: t.to_vec(),
            alpha: t.iter().map(|&t| self.alpha(t)).collect(),
            sigma: t.iter().map(|&t| self.sigma(t)).collect(),
        }
    }
}

by_name!(Path);

/// Length of a table as typed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a whole number in range")]
fn steps_of(n: f64) -> Result<usize, Error> {
    let whole = (2.0..=1e5).contains(&n) && n.fract() == 0.0;
    Ok(checked("the length of a table", n, whole, "a whole number in 2..=100000")? as usize)
}

/// ln alpha^2 of a table at time t, the sum of ln(1 - beta) so far, and its slope there.
fn walked(betas: Betas, steps: usize, t: f64) -> (f64, f64) {
    let mut left = t.clamp(0.0, 1.0) * steps as f64;
    let (mut sum, mut slope) = (0.0, 0.0);
    for i in 0..steps {
        slope = (-betas.of(i, steps)).ln_1p();
        if left < 1.0 {
            return (sum + left * slope, slope * steps as f64);
        }
        sum += slope;
        left -= 1.0;
    }
    (sum, slope * steps as f64)
}

/// The time at which ln alpha^2 has fallen to `sum`; 1 where the table ends before.
fn time_of(betas: Betas, steps: usize, sum: f64) -> f64 {
    let mut so_far = 0.0;
    for i in 0..steps {
        let slope = (-betas.of(i, steps)).ln_1p();
        if so_far + slope < sum {
            return (i as f64 + (sum - so_far) / slope) / steps as f64;
        }
        so_far += slope;
    }
    1.0
}

/// Half the integral of beta from 0 to t.
fn integral(beta_min: f64, beta_max: f64, t: f64) -> f64 {
    0.25 * t * t * (beta_max - beta_min) + 0.5 * t * beta_min
}

/// Half of -d alpha^2 / dt = d sigma^2 / dt of the inverse cosine path.
fn rate_of_inverse_cosine(t: f64) -> f64 {
    0.5 / (PI * (t * (1.0 - t)).sqrt())
}

fn offset(s: f64) -> f64 {
    FRAC_PI_2 * s / (1.0 + s)
}

/// ln(1 + e^x) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
pub(crate) const ALL: [Path; 5] = [
    Path::Flow,
    Path::VpLinear { beta_min: 0.1, beta_max: 20.0 },
    Path::VpCosine { s: 0.008 },
    Path::Edm,
    Path::VpInverseCosine,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_agree_with_differences_and_inverses_invert() {
        for p in ALL {
            for i in 1..20 {
                let (t, h) = (f64::from(i) / 20.0, 1e-6);
                let da = (p.alpha(t + h) - p.alpha(t - h)) / (2.0 * h);
                let ds = (p.sigma(t + h) - p.sigma(t - h)) / (2.0 * h);
                assert!((da - p.d_alpha(t)).abs() < 1e-7 && (ds - p.d_sigma(t)).abs() < 1e-6, "{p} at {t}");
                assert!((p.t_of_logsnr(p.logsnr(t)) - t).abs() < 1e-12, "{p} at {t}");
                assert!((p.t_of_s(p.sigma(t) / p.alpha(t)) - t).abs() < 1e-12, "{p} at {t}");
            }
        }
    }

    #[test]
    fn paths_start_at_the_data_and_end_at_the_noise() {
        for p in ALL {
            assert!(p.sigma(0.0) == 0.0 && (p.alpha(0.0) - 1.0).abs() < 1e-15, "{p}");
            let end = p.level(1.0);
            match p {
                Path::Flow | Path::VpCosine { .. } | Path::VpInverseCosine => {
                    assert!(end.alpha[0] == 0.0 && (end.sigma[0] - 1.0).abs() < 1e-15, "{p}");
                }
                // python: math.exp(-0.25*19.9 - 0.05) = 0.0065715...
                Path::VpLinear { .. } => assert!((end.alpha[0] - (-5.025_f64).exp()).abs() < 1e-15),
                Path::Edm => assert!((end.sigma[0] - 80.0).abs() < 1e-12),
                Path::Table { .. } => panic!("tables have tests of their own"),
            }
            assert!((p.t_of_logsnr(f64::NEG_INFINITY) - 1.0).abs() < 1e-12, "{p}");
            assert!(p.t_of_logsnr(f64::INFINITY).abs() < 1e-12, "{p}");
        }
    }

    #[test]
    fn preserving_paths_preserve_variance_down_to_tiny_times() {
        for p in [ALL[1], ALL[2], ALL[4]] {
            for t in [1e-12, 1e-6, 0.1, 0.5, 0.999] {
                let (a, s) = (p.alpha(t), p.sigma(t));
                assert!((a * a + s * s - 1.0).abs() < 1e-14, "{p} at {t}");
                assert!(s > 0.0);
            }
        }
    }

    #[test]
    fn names_round_trip_and_errors_list_the_choices() {
        for p in ALL {
            assert_eq!(p.to_string().parse::<Path>().unwrap(), p);
        }
        assert_eq!("vp_linear".parse::<Path>().unwrap(), ALL[1]);
        assert_eq!("vp_cosine( 0 )".parse::<Path>().unwrap(), Path::VpCosine { s: 0.0 });
        let e = "cosine".parse::<Path>().unwrap_err().to_string();
        assert!(
            e.starts_with("unknown path \"cosine\"; choose one of flow, vp_linear(0.1, 20), vp_cosine(0.008), edm, ")
        );
        assert!("vp_linear(1, 0.5)".parse::<Path>().unwrap_err().to_string().contains("beta_max"));
        assert!("flow(1)".parse::<Path>().is_err() && "vp_cosine(x)".parse::<Path>().is_err());
    }

    /// alpha^2 of one undoes alpha^2 of the other. Half of all times lie where alpha^2 is between 1/3 and 2/3; on the cosine path
    /// a fifth of them.
    #[test]
    fn the_inverse_cosine_inverts_the_cosine_and_dwells_in_the_middle() {
        let (p, cosine) = (Path::VpInverseCosine, Path::VpCosine { s: 0.0 });
        for i in 0..=20 {
            let t = f64::from(i) / 20.0;
            assert!((p.alpha(cosine.alpha(t).powi(2)).powi(2) - t).abs() < 1e-7, "{t}");
        }
        let share = |p: Path| {
            let time = |square: f64| p.t_of_logsnr((square / (1.0 - square)).ln());
            time(1.0 / 3.0) - time(2.0 / 3.0)
        };
        assert!((share(p) - 0.5).abs() < 1e-12, "cos^2(pi/6) - cos^2(pi/3)");
        assert!((share(cosine) - 0.216_346_895_938_785_5).abs() < 1e-12, "(acos(sqrt(1/3)) - acos(sqrt(2/3))) 2/pi");
    }

    const TABLES: [Path; 3] = [
        Path::Table { betas: Betas::Linear { first: 1e-4, last: 0.02 }, steps: 1000 },
        Path::Table { betas: Betas::ScaledLinear { first: 0.00085, last: 0.012 }, steps: 1000 },
        Path::Table { betas: Betas::Cosine, steps: 50 },
    ];

    #[test]
    fn tables_have_the_levels_of_the_chain_at_its_times() {
        for p in TABLES {
            let Path::Table { betas, steps } = p else { unreachable!() };
            let chain = crate::DiscreteVp::new(betas, steps);
            for i in 0..steps {
                let (want, got) = (chain.level(i), p.level((i as f64 + 1.0) / steps as f64));
                assert!((want.alpha[0] / got.alpha[0] - 1.0).abs() < 1e-10, "{p} {i}");
                // The chain's own 1 - abar loses digits where abar is near 1.
                assert!((want.sigma[0] / got.sigma[0] - 1.0).abs() < 1e-9, "{p} {i}");
            }
            assert_eq!((p.alpha(0.0), p.sigma(0.0)), (1.0, 0.0));
        }
    }

    #[test]
    fn tables_go_straight_between_and_invert() {
        for p in TABLES {
            let Path::Table { steps, .. } = p else { unreachable!() };
            for i in [0, 1, 17, steps - 1] {
                // Inside an interval: the slope jumps at its ends.
                let (t, h) = ((i as f64 + 0.4) / steps as f64, 1e-7 / steps as f64);
                let difference = |f: &dyn Fn(f64) -> f64| (f(t + h) - f(t - h)) / (2.0 * h);
                let (da, ds) = (difference(&|t| p.alpha(t)), difference(&|t| p.sigma(t)));
                assert!((da - p.d_alpha(t)).abs() < 1e-5 * da.abs().max(1.0), "{p} {i}: {da}");
                assert!((ds - p.d_sigma(t)).abs() < 1e-5 * ds.abs().max(1.0), "{p} {i}: {ds}");
                assert!((p.t_of_logsnr(p.logsnr(t)) - t).abs() < 1e-9, "{p} {i}");
                assert!((p.t_of_s(p.sigma(t) / p.alpha(t)) - t).abs() < 1e-9, "{p} {i}");
                let ends = [0.0, 1.0].map(|e| 2.0 * p.alpha((i as f64 + e) / steps as f64).ln());
                assert!((2.0 * p.alpha(t).ln() - (0.6 * ends[0] + 0.4 * ends[1])).abs() < 1e-12, "{p} {i}");
            }
            assert_eq!((p.t_of_logsnr(f64::NEG_INFINITY), p.t_of_logsnr(f64::INFINITY)), (1.0, 0.0));
        }
    }

    #[test]
    fn tables_are_written_by_name() {
        for p in TABLES {
            assert_eq!(p.to_string().parse::<Path>().unwrap(), p);
        }
        assert_eq!("table_linear".parse::<Path>().unwrap(), TABLES[0]);
        assert_eq!(TABLES[2].to_string(), "table_cosine(50)");
        for (text, why) in [("table_cosine(1.5)", "whole number"), ("table_linear(10, 0.5, 0.1)", "at least the first")]
        {
            assert!(text.parse::<Path>().unwrap_err().to_string().contains(why));
        }
    }
}

use super::{Ancestral, Ddim, Dpmpp2m, Euler, Heun, ReverseVariance, Step};
use crate::choice::{Choices, by_name, checked};
use pentimento_core::Error;
use serde::{Deserialize, Serialize};

/// The samplers by the names users know.
///
/// As text: `euler`, `heun`, `ddim(eta)`, `ancestral`, `euler_a`, `dpmpp_2m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sampler {
    /// [`Euler`].
    Euler,
    /// [`Heun`].
    #[default]
    Heun,
    /// [`Ddim`].
    Ddim {
        /// Share of fresh noise, 0 to 1.
        eta: f64,
    },
    /// [`Ancestral`] with the predicted variance, where there is one.
    Ancestral,
    /// [`Ancestral`] with the variance of the posterior.
    EulerA,
    /// [`Dpmpp2m`].
    Dpmpp2m,
}

impl Sampler {
    /// One of each.
    pub const ALL: [Self; 6] =
        [Self::Euler, Self::Heun, Self::Ddim { eta: 0.0 }, Self::Ancestral, Self::EulerA, Self::Dpmpp2m];

    const CHOICES: Choices = Choices {
        what: "sampler",
        list: &[
            ("euler", &[]),
            ("heun", &[]),
            ("ddim", &[0.0]),
            ("ancestral", &[]),
            ("euler_a", &[]),
            ("dpmpp_2m", &[]),
        ],
    };

    fn build(place: usize, n: &[f64]) -> Result<Self, Error> {
        Ok(match place {
            2 => Self::Ddim { eta: checked("eta of ddim", n[0], (0.0..=1.0).contains(&n[0]), "in [0, 1]")? },
            other => Self::ALL[other],
        })
    }

    fn parts(self) -> (usize, Vec<f64>) {
        match self {
            Self::Euler => (0, vec![]),
            Self::Heun => (1, vec![]),
            Self::Ddim { eta } => (2, vec![eta]),
            Self::Ancestral => (3, vec![]),
            Self::EulerA => (4, vec![]),
            Self::Dpmpp2m => (5, vec![]),
        }
    }

    /// The step.
    pub fn step(self) -> Box<dyn Step> {
        match self {
            Self::Euler => Box::new(Euler),
            Self::Heun => Box::new(Heun),
            Self::Ddim { eta } => Box::new(Ddim { eta }),
            Self::Ancestral => Box::new(Ancestral { variance: ReverseVariance::Predicted }),
            Self::EulerA => Box::new(Ancestral { variance: ReverseVariance::Small }),
            Self::Dpmpp2m => Box::new(Dpmpp2m),
        }
    }

    /// Evaluations of the denoiser in n steps, the last of which goes to sigma = 0.
    pub fn evaluations(self, n: usize) -> usize {
        if self == Self::Heun { (2 * n).saturating_sub(1) } else { n }
    }

    /// Whether the steps inject noise.
    pub fn is_random(self) -> bool {
        match self {
            Self::Euler | Self::Heun | Self::Dpmpp2m => false,
            Self::Ddim { eta } => eta > 0.0,
            Self::Ancestral | Self::EulerA => true,
        }
    }
}

by_name!(Sampler);

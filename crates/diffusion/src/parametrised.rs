use crate::{Path, Prediction};
use pentimento_core::{Condition, Denoised, Denoiser, Level, Network, Tap};
use tch::{Kind, Tensor};

/// The number that tells a network its noise level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeInput {
    /// 1000 t, for networks trained in continuous time.
    Thousand,
    /// ln(s) / 4 with s = sigma / alpha (Karras et al. 2022, arXiv 2206.00364, table 1). s is kept within
    /// [`C_NOISE_RANGE`], since a straight flow ends at infinity.
    CNoise,
    /// The index 0..steps of a [`crate::DiscreteVp`] table: t steps - 1.
    Index {
        /// Length of the table.
        steps: usize,
    },
}

/// Noise levels outside are told to the network as the nearest end.
pub const C_NOISE_RANGE: [f64; 2] = [1e-5, 1e5];

impl TimeInput {
    /// What goes with a path unless a checkpoint says otherwise.
    pub fn for_path(path: &Path) -> Self {
        match *path {
            Path::Edm => Self::CNoise,
            Path::Table { steps, .. } => Self::Index { steps },
            _ => Self::Thousand,
        }
    }

    /// One number per entry of a level.
    pub fn of(&self, level: &Level) -> Vec<f64> {
        match *self {
            Self::Thousand => level.t.iter().map(|t| 1000.0 * t).collect(),
            Self::CNoise => level.map(|a, s| (s / a).clamp(C_NOISE_RANGE[0], C_NOISE_RANGE[1]).ln() / 4.0),
            Self::Index { steps } => {
                let n = steps as f64;
                level.t.iter().map(|t| (t * n - 1.0).clamp(0.0, n - 1.0)).collect()
            }
        }
    }
}

/// What surrounds the network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Preconditioning {
    /// The network sees xt, and its output is the prediction.
    #[default]
    None,
    /// D = c_skip xt + c_out F(c_in xt), with input and target of F at unit variance:
    /// with m = alpha^2 sd^2 + sigma^2, c_in = 1/sqrt(m), c_skip = alpha sd^2/m, c_out = sigma sd/sqrt(m)
    /// (Karras et al. 2022, table 1, at alpha = 1; this form holds on every path). The prediction is ignored.
    Edm {
        /// Standard deviation of the data; 0.5 in the paper.
        sigma_data: f64,
    },
}

/// (c_in, c_skip, c_out) of [`Preconditioning::Edm`].
pub fn edm_coefficients(alpha: f64, sigma: f64, sigma_data: f64) -> (f64, f64, f64) {
    let root = (alpha * sigma_data).hypot(sigma);
    (1.0 / root, alpha * sigma_data * sigma_data / (root * root), sigma * sigma_data / root)
}

/// A network together with the meaning of its output: a [`Denoiser`].
///
/// A network with 2 C channels out predicts the variance of reverse steps too: the second half o gives the fraction (o + 1)/2 between
/// the two bounds (Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 15).
pub struct Parametrised {
    network: Box<dyn Network>,
    path: Path,
    prediction: Prediction,
    time: TimeInput,
    preconditioning: Preconditioning,
}

impl Parametrised {
    /// Without preconditioning, told the time as is usual on the path ([`TimeInput::for_path`]).
    pub fn new(network: Box<dyn Network>, path: Path, prediction: Prediction) -> Self {
        let (time, preconditioning) = (TimeInput::for_path(&path), Preconditioning::None);
        Self { network, path, prediction, time, preconditioning }
    }

    /// The same network, told the time in another way.
    #[must_use]
    pub fn timed(self, time: TimeInput) -> Self {
        Self { time, ..self }
    }

    /// The same network read under a preconditioning.
    #[must_use]
    pub fn preconditioned(self, preconditioning: Preconditioning) -> Self {
        Self { preconditioning, ..self }
    }

    /// The path on which it was trained.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The meaning of the output.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// What surrounds the network.
    pub fn preconditioning(&self) -> Preconditioning {
        self.preconditioning
    }

    /// The network.
    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    /// The network's input at a level: the scaled state and the time as `[B]`.
    pub fn input(&self, xt: &Tensor, level: &Level) -> (Tensor, Tensor) {
        let x = match self.preconditioning {
            Preconditioning::None => xt.shallow_clone(),
            Preconditioning::Edm { sigma_data } => {
                Level::times(&level.map(|a, s| edm_coefficients(a, s, sigma_data).0), xt)
            }
        };
        let kind = if xt.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let t = Tensor::from_slice(&self.time.of(level)).to_kind(kind).to_device(xt.device());
        (x, t.expand([xt.size()[0]], false))
    }

    /// The network's output as it comes, and the variance fraction if it predicts one.
    pub fn raw(&self, xt: &Tensor, level: &Level, c: &Condition) -> (Tensor, Option<Tensor>) {
        self.raw_with(xt, level, c, &mut |_, _| {})
    }

    /// As [`Parametrised::raw`], showing each block's activation to `tap`, gradients and all.
    pub fn raw_with(&self, xt: &Tensor, level: &Level, c: &Condition, tap: Tap<'_>) -> (Tensor, Option<Tensor>) {
        let (x, t) = self.input(xt, level);
        let out = self.network.forward_with(&x, &t, c, tap);
        let out = if xt.kind() == Kind::Double { out.to_kind(Kind::Double) } else { out.to_kind(Kind::Float) };
        let channels = xt.size()[1];
        if out.size()[1] == channels {
            return (out, None);
        }
        assert_eq!(
            out.size()[1],
            2 * channels,
            "a network gives {channels} channels, or twice as many with the variance"
        );
        let fraction = (out.narrow(1, channels, channels) + 1.0) * 0.5;
        (out.narrow(1, 0, channels), Some(fraction))
    }

    /// The output that would make the clean estimate exact.
    ///
    /// # Shapes
    /// - `x0`, `eps`, returns: `[B, ...]`
    pub fn raw_target(&self, x0: &Tensor, eps: &Tensor, level: &Level) -> Tensor {
        let Preconditioning::Edm { sigma_data: sd } = self.preconditioning else {
            return self.prediction.target(x0, eps, level);
        };
        // (x0 - c_skip xt) / c_out = (sigma x0 - alpha sd^2 eps) / (sd sqrt(m)): finite at sigma = 0.
        let root = |a: f64, s: f64| (a * sd).hypot(s);
        Level::times(&level.map(|a, s| s / (sd * root(a, s))), x0)
            - Level::times(&level.map(|a, s| a * sd / root(a, s)), eps)
    }

    /// (a, b) such that x0_hat = a xt + b (raw output).
    pub fn affine_x0(&self, alpha: f64, sigma: f64) -> (f64, f64) {
        match self.preconditioning {
            Preconditioning::None => self.prediction.affine(Prediction::Sample, alpha, sigma),
            Preconditioning::Edm { sigma_data } => {
                let (_, skip, out) = edm_coefficients(alpha, sigma, sigma_data);
                (skip, out)
            }
        }
    }

    /// The factor by which an error of the raw output appears in another prediction.
    pub fn gain(&self, to: Prediction, alpha: f64, sigma: f64) -> f64 {
        match self.preconditioning {
            Preconditioning::None => self.prediction.affine(to, alpha, sigma).1,
            Preconditioning::Edm { sigma_data: sd } => {
                // c_out det(to) / det(sample), without the common factor sigma.
                let over_sigma = -sd / (alpha * sd).hypot(sigma);
                over_sigma * to.determinant(alpha, sigma)
            }
        }
    }
}

impl Denoiser for Parametrised {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        let (raw, variance) = self.raw(x, level, c);
        let x0 = match self.preconditioning {
            Preconditioning::None => self.prediction.x0(&raw, x, level),
            Preconditioning::Edm { .. } => {
                let of = |alpha, sigma| self.affine_x0(alpha, sigma);
                Level::times(&level.map(|a, s| of(a, s).0), x) + Level::times(&level.map(|a, s| of(a, s).1), &raw)
            }
        };
        Denoised { x0, variance }
    }
}

/// A denoiser whose estimates are kept within [-bound, bound], as DDPM and ADM sample.
pub struct Clipped<D> {
    inner: D,
    bound: f64,
}

impl<D: Denoiser> Clipped<D> {
    /// Bounds the estimates of `inner`.
    pub fn new(inner: D, bound: f64) -> Self {
        Self { inner, bound }
    }
}

impl<D: Denoiser> Denoiser for Clipped<D> {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        let d = self.inner.denoise(x, level, c);
        Denoised { x0: d.x0.clamp(-self.bound, self.bound), ..d }
    }
}

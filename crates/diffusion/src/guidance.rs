use crate::compose::compose;
use pentimento_core::{Condition, Denoised, Denoiser, Level};
use tch::Tensor;

/// The levels between which guidance acts, ends included (Kynkaanniemi et al. 2024, arXiv 2404.07724).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interval {
    /// Bounds on time t.
    Time(f64, f64),
    /// Bounds on the noise level s = sigma / alpha.
    NoiseLevel(f64, f64),
}

impl Interval {
    /// Everywhere.
    pub const ALL: Self = Self::Time(0.0, 1.0);

    /// Per entry of a level, whether it lies inside.
    pub fn contains(self, level: &Level) -> Vec<bool> {
        let (values, lo, hi) = match self {
            Self::Time(lo, hi) => (level.t.clone(), lo, hi),
            Self::NoiseLevel(lo, hi) => (level.s(), lo, hi),
        };
        values.into_iter().map(|v| (lo..=hi).contains(&v)).collect()
    }
}

impl From<[f64; 2]> for Interval {
    fn from([lo, hi]: [f64; 2]) -> Self {
        Self::Time(lo, hi)
    }
}

/// Classifier-free guidance: x0_hat = u + scale (c - u), with c under the condition and u without
/// (Ho and Salimans 2022, arXiv 2207.12598, whose w is scale - 1).
///
/// The composition of one concept ([`crate::Composed`]). A predicted variance is that of the conditional half. Since x0_hat is
/// affine in every other prediction with coefficients that depend on the level only, guiding x0 is guiding noise, v or velocity.
///
/// # Cost
/// One evaluation of 2 B rows; one of B rows where the scale is 1 or 0, outside the interval, and without a condition.
pub struct ClassifierFree<D> {
    inner: D,
    scale: f64,
    interval: Interval,
}

impl<D: Denoiser> ClassifierFree<D> {
    /// Guides `inner` between the bounds of `interval` (an array of two times, or an [`Interval`]).
    pub fn new(inner: D, scale: f64, interval: impl Into<Interval>) -> Self {
        Self { inner, scale, interval: interval.into() }
    }
}

impl<D: Denoiser> Denoiser for ClassifierFree<D> {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        if !c.says_anything() {
            return self.inner.denoise(x, level, c);
        }
        let scales: Vec<f64> =
            self.interval.contains(level).into_iter().map(|inside| if inside { self.scale } else { 1.0 }).collect();
        compose(&self.inner, x, level, &c.dropped(), &[(&scales, c)])
    }
}

use crate::Level;
use tch::{Kind, Tensor};

/// The label of a sample that carries none.
pub const NO_LABEL: i64 = -1;

/// What a network is told besides the noisy state and its level.
#[derive(Debug, Default)]
pub struct Condition {
    /// Class per sample, `[B]` int64, [`NO_LABEL`] where dropped. None is the same as all dropped.
    pub y: Option<Tensor>,
    /// A vector or tokens per sample, `[B, D]` or `[B, T, D]`, zeros where dropped.
    pub c: Option<Tensor>,
}

impl Clone for Condition {
    fn clone(&self) -> Self {
        let share = |t: &Option<Tensor>| t.as_ref().map(Tensor::shallow_clone);
        Self { y: share(&self.y), c: share(&self.c) }
    }
}

impl Condition {
    /// No condition.
    pub fn none() -> Self {
        Self::default()
    }

    /// One class per sample.
    pub fn classes(y: &[i64]) -> Self {
        Self { y: Some(Tensor::from_slice(y)), ..Self::default() }
    }

    /// One vector per sample, `[B, D]`.
    pub fn vectors(c: Tensor) -> Self {
        Self { c: Some(c), ..Self::default() }
    }

    /// Whether it has a form at all; its entries may still be dropped.
    pub fn says_anything(&self) -> bool {
        self.y.is_some() || self.c.is_some()
    }

    /// The same shapes with everything dropped, for the unconditional half of guidance.
    #[must_use]
    pub fn dropped(&self) -> Self {
        Self { y: self.y.as_ref().map(|y| y.full_like(NO_LABEL)), c: self.c.as_ref().map(Tensor::zeros_like) }
    }

    /// This batch followed by another of the same form.
    ///
    /// # Panics
    /// When one carries what the other lacks.
    #[must_use]
    pub fn then(&self, other: &Self) -> Self {
        let cat = |a: &Option<Tensor>, b: &Option<Tensor>, what: &str| match (a, b) {
            (Some(a), Some(b)) => Some(Tensor::cat(&[a, b], 0)),
            (None, None) => None,
            _ => panic!("conditions differ in {what}"),
        };
        Self { y: cat(&self.y, &other.y, "y"), c: cat(&self.c, &other.c, "c") }
    }

    /// Class labels `[B]` with the null class `k` in place of dropped ones.
    pub fn labels(&self, batch: i64, k: i64, device: tch::Device) -> Tensor {
        match &self.y {
            Some(y) => {
                let y = y.to_device(device);
                y.where_self(&y.ge(0), &y.full_like(k))
            }
            None => Tensor::full([batch], k, (Kind::Int64, device)),
        }
    }
}

/// A denoiser's answer.
#[derive(Debug)]
pub struct Denoised {
    /// Estimate of the clean data, same shape as the noisy state.
    pub x0: Tensor,
    /// Variance of the reverse step per element, from networks that predict it: the fraction in [0, 1] that interpolates
    /// between the two bounds of Nichol and Dhariwal 2021 (arXiv 2102.09672, eq. 15).
    pub variance: Option<Tensor>,
}

/// Anything that maps a noisy state to an estimate of the clean one. Not `Send` by itself, so that guidance can wrap a
/// borrowed denoiser; one that owns its network is.
pub trait Denoiser {
    /// `x`: `[B, ...]` at `level` (one entry, or one per sample).
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised;
}

impl<D: Denoiser + ?Sized> Denoiser for &D {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        (**self).denoise(x, level, c)
    }
}

impl<D: Denoiser + ?Sized> Denoiser for Box<D> {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        (**self).denoise(x, level, c)
    }
}

/// A way to latents and back.
pub trait Codec: Send {
    /// Data to latents.
    fn encode(&self, x: &Tensor) -> Tensor;
    /// Latents to data.
    fn decode(&self, z: &Tensor) -> Tensor;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_labels_become_the_null_class() {
        let c = Condition::classes(&[2, NO_LABEL]);
        let both = c.then(&c.dropped()).labels(4, 10, tch::Device::Cpu);
        assert_eq!(Vec::<i64>::try_from(both).unwrap(), [2, 10, 10, 10]);
        assert_eq!(Vec::<i64>::try_from(Condition::none().labels(2, 7, tch::Device::Cpu)).unwrap(), [7, 7]);
    }
}

use tch::{Kind, Tensor};

/// Where a batch stands between data and noise: `xt = alpha * x0 + sigma * eps`.
///
/// One entry for the whole batch, or one per sample. Coefficients stay in f64 on the host, where they are computed, and
/// are cast once, when they meet a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Time, 0 = data, 1 = noise.
    pub t: Vec<f64>,
    /// Coefficient of the data.
    pub alpha: Vec<f64>,
    /// Coefficient of the noise.
    pub sigma: Vec<f64>,
}

impl Level {
    /// One level shared by the whole batch.
    pub fn one(t: f64, alpha: f64, sigma: f64) -> Self {
        Self { t: vec![t], alpha: vec![alpha], sigma: vec![sigma] }
    }

    /// Number of entries: 1 or B.
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// Never true of a level that came from a path.
    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    /// ln(alpha^2 / sigma^2) per entry; infinite at the ends of a path.
    pub fn logsnr(&self) -> Vec<f64> {
        self.map(|a, s| 2.0 * (a.ln() - s.ln()))
    }

    /// EDM noise level sigma / alpha per entry.
    pub fn s(&self) -> Vec<f64> {
        self.map(|a, s| s / a)
    }

    /// One number per entry from (alpha, sigma).
    pub fn map(&self, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        self.alpha.iter().zip(&self.sigma).map(|(&a, &s)| f(a, s)).collect()
    }

    /// The level of n copies of the batch, one after the other.
    #[must_use]
    pub fn repeat(&self, n: usize) -> Self {
        if self.len() == 1 {
            return self.clone();
        }
        Self { t: self.t.repeat(n), alpha: self.alpha.repeat(n), sigma: self.sigma.repeat(n) }
    }

    /// `x` times one coefficient per entry, broadcast over the batch axis.
    ///
    /// # Shapes
    /// - `c`: 1 or B numbers
    /// - `x`: `[B, ...]`
    pub fn times(c: &[f64], x: &Tensor) -> Tensor {
        if let [c] = c { x * *c } else { x * Self::column(c, x) }
    }

    /// One coefficient per sample as a tensor `[B, 1, ..., 1]` of x's kind and device (`[1, ..., 1]` for a shared level).
    pub fn column(c: &[f64], x: &Tensor) -> Tensor {
        let mut size = vec![1; x.dim()];
        size[0] = -1;
        let kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        Tensor::from_slice(c).to_kind(kind).to_device(x.device()).view(size.as_slice())
    }

    /// `alpha * x0 + sigma * eps`.
    pub fn mix(&self, x0: &Tensor, eps: &Tensor) -> Tensor {
        Self::times(&self.alpha, x0) + Self::times(&self.sigma, eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_level_equals_the_same_level_per_sample() {
        let x = Tensor::from_slice(&[1.0, -2.0, 3.0, 4.0]).view([2, 2]);
        let e = Tensor::from_slice(&[0.5, 0.5, -1.0, 2.0]).view([2, 2]);
        let one = Level::one(0.3, 0.7, 0.3);
        let two = Level { t: vec![0.3; 2], alpha: vec![0.7; 2], sigma: vec![0.3; 2] };
        assert_eq!(one.mix(&x, &e), two.mix(&x, &e));
        assert_eq!(two.repeat(2).len(), 4);
        assert!((one.logsnr()[0] - 2.0 * (0.7_f64 / 0.3).ln()).abs() < 1e-15);
    }
}

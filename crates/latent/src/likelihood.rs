use crate::{Gaussian, bernoulli};
use pentimento_core::{Noise, Stream};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The distribution of pictures that a decoder's outputs stand for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Likelihood {
    /// Pixels on or off, by logits; pictures are binarised.
    Bernoulli,
    /// Greys in [-1, 1] with a mean and a variance each.
    Gaussian,
}

impl Likelihood {
    /// Outputs of a decoder of D pixels.
    pub fn outputs(self, pixels: i64) -> i64 {
        match self {
            Self::Bernoulli => pixels,
            Self::Gaussian => 2 * pixels,
        }
    }

    /// Pictures `[B, C, H, W]` in [-1, 1] as what is modelled, `[B, D]`.
    pub fn data(self, x: &Tensor, noise: &Noise) -> Tensor {
        match self {
            Self::Bernoulli => bernoulli::binarise(x, noise),
            Self::Gaussian => x.flatten(1, -1),
        }
    }

    /// ln p(x) in nats, `[B]`; `x`: `[B, D]`, `out`: what the decoder gave.
    pub fn log_prob(self, x: &Tensor, out: &Tensor) -> Tensor {
        match self {
            Self::Bernoulli => bernoulli::log_prob(x, out),
            Self::Gaussian => Gaussian::from_moments(out).log_prob(x),
        }
    }

    /// A draw, `[B, D]`.
    pub fn draw(self, out: &Tensor, noise: &Noise) -> Tensor {
        match self {
            // Greys in [-1, 1] are what `binarise` takes.
            Self::Bernoulli => bernoulli::binarise(&(out.sigmoid() * 2.0 - 1.0), noise),
            Self::Gaussian => Gaussian::from_moments(out).sample(noise, Stream::Own),
        }
    }

    /// The mean as pictures `[B, C, H, W]` in [-1, 1].
    pub fn mean(self, out: &Tensor, [c, h, w]: [i64; 3]) -> Tensor {
        match self {
            Self::Bernoulli => bernoulli::greys(out, [c, h, w]),
            Self::Gaussian => Gaussian::from_moments(out).mean.view([-1, c, h, w]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::noise::init_normal;
    use tch::Kind;

    /// On average a draw is the mean, under either; and the density of a draw is the one that `log_prob` gives it.
    #[test]
    fn draws_follow_the_distribution_that_is_scored() {
        let n = 40_000;
        let noise = Noise::new(1, (0..40_000).collect());
        for likelihood in [Likelihood::Bernoulli, Likelihood::Gaussian] {
            let out = init_normal(3, "out", &[1, likelihood.outputs(4)]).repeat([n, 1]);
            let drawn = likelihood.draw(&out, &noise);
            assert_eq!(drawn.size(), [n, 4]);
            let mean = likelihood.mean(&out.narrow(0, 0, 1), [1, 2, 2]).view(-1);
            let found = drawn.mean_dim(0, false, Kind::Float);
            let found = if likelihood == Likelihood::Bernoulli { found * 2.0 - 1.0 } else { found };
            assert!((found - mean).abs().max().double_value(&[]) < 0.05, "{likelihood:?}");
            // E (x - mu)^2 / var = 1 makes -2 E ln p = D (1 + ln 2 pi) + sum ln var; a coin's entropy is its own sum.
            let entropy = -likelihood.log_prob(&drawn, &out).mean(Kind::Double).double_value(&[]);
            let want = match likelihood {
                Likelihood::Bernoulli => {
                    let p = out.get(0).sigmoid();
                    -(&p * p.log() + (1.0_f64 - &p) * p.neg().log1p()).sum(Kind::Double).double_value(&[])
                }
                Likelihood::Gaussian => {
                    let logvar = out.get(0).narrow(0, 4, 4).sum(Kind::Double).double_value(&[]);
                    0.5 * (4.0 * (1.0 + std::f64::consts::TAU.ln()) + logvar)
                }
            };
            assert!((entropy - want).abs() < 0.05, "{likelihood:?}: {entropy} {want}");
        }
    }
}

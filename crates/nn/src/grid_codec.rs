//! An autoencoder whose latents are a small standardised picture: the first stage of a latent diffusion model.

use crate::{Error, Grid, GridDecoder, GridEncoder, Input};
use pentimento_core::{Codec, Scope};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The settings of a [`GridCodec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GridCodecConfig {
    /// How many times both sides are halved.
    pub halvings: u32,
    /// Channels on the grid; half as many on the way there.
    pub hidden: i64,
    /// Residual blocks on either side.
    pub blocks: usize,
    /// Channels of the latents.
    pub latent: i64,
}

impl Default for GridCodecConfig {
    fn default() -> Self {
        Self { halvings: 2, hidden: 48, blocks: 1, latent: 4 }
    }
}

/// Pictures to latents and back. What is called raw is as the networks have it; [`Codec`] speaks of latents that were brought to
/// mean 0 and variance 1 in each channel ([`GridCodec::standardise`]), so that a noise path finds them at the scale it expects.
///
/// # Source
/// Rombach et al. 2022 (arXiv 2112.10752), sections 3.1 and G, who divide by one deviation for all channels.
#[derive(Debug)]
pub struct GridCodec {
    grid: Grid,
    encoder: GridEncoder,
    decoder: GridDecoder,
    /// Of each channel of raw latents, `[1, Z, 1, 1]`.
    mean: Tensor,
    std: Tensor,
}

impl GridCodecConfig {
    /// The networks with initial weights, parameters and the two moments below `root`.
    ///
    /// # Errors
    /// As [`Grid::check`].
    pub fn build(&self, root: &Scope, input: Input) -> Result<GridCodec, Error> {
        let Self { halvings, hidden, blocks, latent } = *self;
        let grid = Grid { input, halvings, hidden, blocks, latent };
        let twice = Grid { latent: 2 * latent, ..grid.clone() };
        let zeros = Tensor::zeros([1, latent, 1, 1], (Kind::Float, Device::Cpu));
        Ok(GridCodec {
            encoder: GridEncoder::new(&root.sub("encoder"), &twice)?,
            decoder: GridDecoder::new(&root.sub("decoder"), &grid)?,
            std: root.buffer("std", zeros.ones_like()),
            mean: root.buffer("mean", zeros),
            grid,
        })
    }
}

impl GridCodec {
    /// Channels, height and width of the latents.
    pub fn latents(&self) -> Input {
        let [h, w] = self.grid.sides();
        [self.grid.latent, h, w]
    }

    /// Means of raw latents and, behind them, the logarithms of their variances.
    ///
    /// # Shapes
    /// - `x`: `[B, C, H, W]`
    /// - returns: `[B, 2 Z, h, w]`
    pub fn moments(&self, x: &Tensor) -> Tensor {
        self.encoder.forward(x)
    }

    /// Raw latents to pictures.
    pub fn decode_raw(&self, z: &Tensor) -> Tensor {
        self.decoder.forward(z)
    }

    /// From now on latents are measured from the mean of those of these pictures, in units of their deviation.
    pub fn standardise(&self, x: &Tensor) {
        let _guard = tch::no_grad_guard();
        let z = self.moments(x).narrow(1, 0, self.grid.latent);
        let over = [0, 2, 3].as_slice();
        self.mean.shallow_clone().copy_(&z.mean_dim(over, true, Kind::Float));
        self.std.shallow_clone().copy_(&z.std_dim(over, true, true));
    }
}

impl Codec for GridCodec {
    fn encode(&self, x: &Tensor) -> Tensor {
        (self.moments(x).narrow(1, 0, self.grid.latent) - &self.mean) / &self.std
    }
    fn decode(&self, z: &Tensor) -> Tensor {
        self.decode_raw(&(z * &self.std + &self.mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::{Params, noise::init_normal};

    /// Standardising changes the scale of latents and not what they stand for, and it is kept with the weights.
    #[test]
    fn latents_are_standardised_and_mean_the_same() {
        let config = GridCodecConfig { halvings: 1, hidden: 8, blocks: 1, latent: 3 };
        let make = || {
            let p = Params::new(Device::Cpu, 1);
            let codec = config.build(&p.root(), [2, 8, 6]).unwrap();
            (p, codec)
        };
        let ((p, codec), x) = (make(), init_normal(2, "x", &[40, 2, 8, 6]) * 3.0 + 1.0);
        let raw = codec.moments(&x).narrow(1, 0, 3);
        assert_eq!((codec.encode(&x), codec.latents()), (raw.shallow_clone(), [3, 4, 3]));
        codec.standardise(&x);
        let z = codec.encode(&x);
        let over = [0, 2, 3].as_slice();
        assert!(z.mean_dim(over, false, Kind::Float).abs().max().double_value(&[]) < 1e-5);
        assert!((z.std_dim(over, true, false) - 1.0).abs().max().double_value(&[]) < 1e-5);
        let gap = (codec.decode(&z) - codec.decode_raw(&raw)).abs().max().double_value(&[]);
        assert!(gap < 1e-5 && codec.decode(&z).size() == x.size(), "{gap}");
        let (other, again) = make();
        other.copy_from(&p).unwrap();
        assert_eq!(again.encode(&x), z);
    }
}

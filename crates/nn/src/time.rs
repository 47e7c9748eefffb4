//! The embedding of a time: sines and cosines of it at geometrically spaced frequencies, then two linear layers.

use crate::layers::{Init, Linear};
use pentimento_core::Scope;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Which sines and cosines, in which order. Networks that look alike differ here, and weights do not survive a mix-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waves {
    /// `[cos, sin]`, frequencies 10000^(-i / n), i = 0..n: ADM and DiT.
    #[default]
    CosSin,
    /// `[cos, sin]`, frequencies 10000^(-i / (n - 1)): the DiT of diffusers.
    CosSinClosed,
    /// `[sin, cos]`, frequencies 10000^(-i / (n - 1)): DDPM (Ho et al. 2020).
    SinCosClosed,
}

/// Sines and cosines of a time.
#[derive(Debug)]
pub struct Sinusoid {
    frequencies: Tensor,
    waves: Waves,
}

impl Sinusoid {
    /// Embeddings of an even width. Frequencies are rounded where the originals round in f32: at t = 1000 another rounding would
    /// already show in the fourth decimal. For the same reason the exponential is taken in f64: libtorch's in f32 is off by a last
    /// place on some processors and not on others.
    pub fn new(width: i64, waves: Waves, device: Device) -> Self {
        let half = width >> 1;
        let last = if waves == Waves::CosSin { half } else { half - 1 };
        let ramp = Tensor::arange(half, (Kind::Float, Device::Cpu)) * -(10_000.0_f64.ln()) / last as f64;
        Self {
            frequencies: ramp.to_kind(Kind::Double).exp().to_kind(Kind::Float).to_device(device).unsqueeze(0),
            waves,
        }
    }

    /// # Shapes
    /// - `t`: `[B]`
    /// - returns: `[B, width]`, f32
    pub fn forward(&self, t: &Tensor) -> Tensor {
        let phase = t.to_kind(Kind::Float).unsqueeze(1) * &self.frequencies;
        match self.waves {
            Waves::CosSin | Waves::CosSinClosed => Tensor::cat(&[phase.cos(), phase.sin()], 1),
            Waves::SinCosClosed => Tensor::cat(&[phase.sin(), phase.cos()], 1),
        }
    }
}

/// A time as a vector: sinusoid, linear, SiLU, linear. The linear layers are called `0` and `2`.
#[derive(Debug)]
pub struct TimeEmbedding {
    sinusoid: Sinusoid,
    first: Linear,
    second: Linear,
}

impl TimeEmbedding {
    /// From `inputs` waves to `width` numbers.
    pub fn new(p: &Scope, inputs: i64, width: i64, waves: Waves, init: Init) -> Self {
        Self {
            sinusoid: Sinusoid::new(inputs, waves, p.device()),
            first: Linear::new(&p.sub(0), inputs, width, init),
            second: Linear::new(&p.sub(2), width, width, init),
        }
    }

    /// # Shapes
    /// - `t`: `[B]`
    /// - returns: `[B, width]`
    pub fn forward(&self, t: &Tensor) -> Tensor {
        let waves = self.sinusoid.forward(t).to_kind(self.first.kind());
        self.second.forward(&self.first.forward(&waves).silu())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_follow_the_three_conventions() {
        let t = Tensor::from_slice(&[0.0_f32, 700.0]);
        for (waves, cos_first, last) in
            [(Waves::CosSin, true, 4.0), (Waves::CosSinClosed, true, 3.0), (Waves::SinCosClosed, false, 3.0)]
        {
            let e = Sinusoid::new(8, waves, Device::Cpu).forward(&t);
            for (row, time) in [0.0_f64, 700.0].into_iter().enumerate() {
                for i in 0..4_i64 {
                    let phase = time * 10_000.0_f64.powf(-(i as f64) / last);
                    let (cos, sin) = if cos_first { (i, i + 4) } else { (i + 4, i) };
                    // f32 rounding of a phase of 700 is 6e-5.
                    assert!((e.double_value(&[row as i64, cos]) - phase.cos()).abs() < 1e-4, "{waves:?} {i}");
                    assert!((e.double_value(&[row as i64, sin]) - phase.sin()).abs() < 1e-4, "{waves:?} {i}");
                }
            }
        }
    }
}

//! Fully connected layers one after another.

use crate::layers::{Init, Linear};
use pentimento_core::Scope;
use pentimento_torch_shim as shim;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The function between two layers.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// x times its logistic function.
    Silu,
}

impl Activation {
    /// Same shape.
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            Self::Tanh => x.tanh(),
            Self::Silu => x.silu(),
        }
    }
}

/// A perceptron: linear layers with an activation between them, none after the last.
#[derive(Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    activation: Activation,
}

impl Mlp {
    /// Layers between consecutive widths, named `0`, `1`, ... below `p`.
    ///
    /// # Panics
    /// On fewer than two widths.
    pub fn new(p: &Scope, widths: &[i64], activation: Activation, init: Init) -> Self {
        assert!(widths.len() > 1, "a perceptron of widths {widths:?}");
        let layer = |(i, w): (usize, &[i64])| Linear::new(&p.sub(i), w[0], w[1], init);
        Self { layers: widths.windows(2).enumerate().map(layer).collect(), activation }
    }

    /// # Shapes
    /// - `x`: `[B, first width]`
    /// - returns: `[B, last width]`
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let layers: Vec<_> = self.layers.iter().map(Linear::parts).collect();
        let squash = match self.activation {
            Activation::Relu => Some(shim::Squash::Relu),
            Activation::Tanh => Some(shim::Squash::Tanh),
            Activation::Silu => None,
        };
        if let Some(y) = squash.and_then(|f| shim::perceptron(x, &layers, f)) {
            return y;
        }
        let mut h = x.shallow_clone();
        for (i, layer) in self.layers.iter().enumerate() {
            h = if i == 0 { layer.forward(&h) } else { layer.forward(&self.activation.apply(&h)) };
        }
        h
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::Params;
    use tch::{Device, Kind};

    #[test]
    fn it_is_its_layers_with_the_activation_between_them() {
        let p = Params::new(Device::Cpu, 2);
        let mlp = Mlp::new(&p.root(), &[3, 5, 2], Activation::Tanh, Init::Torch);
        let names: Vec<String> = p.entries().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["0.weight", "0.bias", "1.weight", "1.bias"]);
        let w: Vec<Tensor> = p.entries().into_iter().map(|e| e.tensor).collect();
        let x = Tensor::from_slice(&[0.3_f32, -1.0, 2.0]).view([1, 3]);
        let want = ((x.matmul(&w[0].tr()) + &w[1]).tanh()).matmul(&w[2].tr()) + &w[3];
        assert!((mlp.forward(&x) - want).abs().max().double_value(&[]) < 1e-6);
        let one = Mlp::new(&p.root().sub("one"), &[3, 2], Activation::Relu, Init::Zeros);
        assert!(one.forward(&x).abs().sum(Kind::Float).double_value(&[]) < 1e-12, "one layer has no activation");
    }
}

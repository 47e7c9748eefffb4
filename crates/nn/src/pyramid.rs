//! A small convolutional encoder and its mirror image: strided convolutions of kernel 4 down to a few pixels, linear layers,
//! and the same way back. With four convolutions of 32 channels and layers of 256 it is the network of the disentanglement
//! literature (Burgess et al. 2018, arXiv 1804.03599, appendix A).

use crate::layers::Init;
use crate::{Activation, Error, Input, Mlp};
use pentimento_core::Scope;
use tch::Tensor;

/// Kernel, stride and padding of every layer: each halves or doubles a side exactly.
const KERNEL: i64 = 4;

/// What an encoder and its decoder share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pyramid {
    /// Channels, height and width of the pictures.
    pub input: Input,
    /// Channels of each layer; each halves the picture.
    pub channels: Vec<i64>,
    /// Widths of the linear layers between the last map and the code.
    pub hidden: Vec<i64>,
}

impl Pyramid {
    /// `width` channels in the first of `depth` layers, twice as many in each further one, and one linear layer.
    pub fn doubling(input: Input, width: i64, depth: u32) -> Self {
        Self { input, channels: (0..depth).map(|i| width << i).collect(), hidden: Vec::new() }
    }

    /// Checks that every halving is exact.
    ///
    /// # Errors
    /// A side that does not divide.
    pub fn check(&self) -> Result<(), Error> {
        let [_, h, w] = self.input;
        let depth = self.channels.len();
        let fold = 1_i64 << depth.min(62);
        if h % fold != 0 || w % fold != 0 || h < fold || w < fold {
            let want = format!("sides that can be halved {depth} times; use fewer layers or other sides");
            return Err(Error::range("the image's shape", format!("{:?}", self.input), &want));
        }
        Ok(())
    }

    /// Channels after layer i (0 = the picture).
    fn channels(&self, i: usize) -> i64 {
        if i == 0 { self.input[0] } else { self.channels[i - 1] }
    }

    /// Shape of the last map.
    fn top(&self) -> [i64; 3] {
        let depth = self.channels.len();
        [self.channels(depth), self.input[1] >> depth, self.input[2] >> depth]
    }
}

/// Pictures to vectors.
#[derive(Debug)]
pub struct ConvEncoder {
    convs: Vec<(Tensor, Tensor)>,
    out: Mlp,
}

impl ConvEncoder {
    /// # Errors
    /// As [`Pyramid::check`].
    pub fn new(p: &Scope, shape: &Pyramid, outputs: i64) -> Result<Self, Error> {
        shape.check()?;
        let conv = |i: usize| {
            let (a, b, p) = (shape.channels(i), shape.channels(i + 1), p.sub("convs").sub(i));
            let bound = ((a * KERNEL * KERNEL) as f64).sqrt().recip();
            (p.uniform("weight", &[b, a, KERNEL, KERNEL], bound), p.uniform("bias", &[b], bound))
        };
        let flat: i64 = shape.top().iter().product();
        let widths = [&[flat], &shape.hidden[..], &[outputs]].concat();
        Ok(Self {
            convs: (0..shape.channels.len()).map(conv).collect(),
            out: Mlp::new(&p.sub("out"), &widths, Activation::Relu, Init::Torch),
        })
    }

    /// # Shapes
    /// - `x`: `[B, C, H, W]`
    /// - returns: `[B, outputs]`
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut h = x.shallow_clone();
        for (weight, bias) in &self.convs {
            h = h.conv2d(weight, Some(bias), [2, 2], [1, 1], [1, 1], 1).relu();
        }
        self.out.forward(&h.flatten(1, -1))
    }
}

/// Vectors to pictures.
#[derive(Debug)]
pub struct ConvDecoder {
    into: Mlp,
    convs: Vec<(Tensor, Tensor)>,
    top: [i64; 3],
}

impl ConvDecoder {
    /// # Errors
    /// As [`Pyramid::check`].
    pub fn new(p: &Scope, shape: &Pyramid, inputs: i64) -> Result<Self, Error> {
        shape.check()?;
        let conv = |i: usize| {
            let (a, b, p) = (shape.channels(i + 1), shape.channels(i), p.sub("convs").sub(i));
            // PyTorch counts the fan of a transposed convolution on its outputs.
            let bound = ((b * KERNEL * KERNEL) as f64).sqrt().recip();
            (p.uniform("weight", &[a, b, KERNEL, KERNEL], bound), p.uniform("bias", &[b], bound))
        };
        let top = shape.top();
        let hidden = shape.hidden.iter().rev().copied();
        let widths: Vec<i64> = std::iter::once(inputs).chain(hidden).chain([top.iter().product()]).collect();
        let into = Mlp::new(&p.sub("into"), &widths, Activation::Relu, Init::Torch);
        Ok(Self { into, convs: (0..shape.channels.len()).rev().map(conv).collect(), top })
    }

    /// # Shapes
    /// - `z`: `[B, inputs]`
    /// - returns: `[B, C, H, W]`, without a last activation
    pub fn forward(&self, z: &Tensor) -> Tensor {
        let [c, height, width] = self.top;
        let mut h = self.into.forward(z).view([-1, c, height, width]);
        for (weight, bias) in &self.convs {
            h = h.relu().conv_transpose2d(weight, Some(bias), [2, 2], [1, 1], [0, 0], 1, [1, 1]);
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
    fn there_and_back_keeps_the_shape_and_every_weight_is_reached() {
        let p = Params::new(Device::Cpu, 1);
        let shape = Pyramid::doubling([3, 28, 20], 8, 2);
        let encoder = ConvEncoder::new(&p.root().sub("encoder"), &shape, 5).unwrap();
        let decoder = ConvDecoder::new(&p.root().sub("decoder"), &shape, 5).unwrap();
        let x = Tensor::arange(2 * 3 * 28 * 20, (Kind::Float, Device::Cpu)).view([2, 3, 28, 20]).sin();
        let z = encoder.forward(&x);
        let y = decoder.forward(&z);
        assert_eq!((z.size(), y.size()), (vec![2, 5], vec![2, 3, 28, 20]));
        y.square().sum(Kind::Float).backward();
        for e in p.entries() {
            assert!(e.tensor.grad().abs().max().double_value(&[]) > 0.0, "{}", e.name);
        }
        // 3*8*16+8, 8*16*16+16, (16*7*5)*5+5; back 5*560+560, 16*8*16+8, 8*3*16+3
        assert_eq!(p.count(), 392 + 2064 + 2805 + 3360 + 2056 + 387);
    }

    #[test]
    fn sides_that_do_not_halve_are_refused() {
        let shape = Pyramid::doubling([1, 28, 28], 8, 3);
        let said = shape.check().unwrap_err().to_string();
        assert!(said.contains("[1, 28, 28]") && said.contains("halved 3 times"), "{said}");
    }
}

//! Pictures to a small grid of vectors and back: the network of vector-quantised autoencoders. Convolutions of stride 2, one of
//! kernel 3, and residual blocks, without normalisation.

use crate::layers::{Conv2d, Init, Layout};
use crate::{Error, Input};
use pentimento_core::Scope;
use tch::Tensor;

/// What a [`GridEncoder`] and its [`GridDecoder`] share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Channels, height and width of the pictures.
    pub input: Input,
    /// How many times both sides are halved, at least once.
    pub halvings: u32,
    /// Channels on the grid, inside the residual blocks too; half as many on the way there.
    pub hidden: i64,
    /// Residual blocks on either side.
    pub blocks: usize,
    /// Width of the vectors.
    pub latent: i64,
}

impl Grid {
    /// Checks that every halving is exact.
    ///
    /// # Errors
    /// A side that does not divide, no halving.
    pub fn check(&self) -> Result<(), Error> {
        let [_, h, w] = self.input;
        let fold = 1_i64 << self.halvings.min(62);
        if self.halvings == 0 || h % fold != 0 || w % fold != 0 || h < fold || w < fold {
            let want = format!("sides that can be halved {} times, at least once", self.halvings);
            return Err(Error::range("the image's shape", format!("{:?}", self.input), &want));
        }
        Ok(())
    }

    /// Height and width of the grid.
    pub fn sides(&self) -> [i64; 2] {
        [self.input[1] >> self.halvings, self.input[2] >> self.halvings]
    }

    /// Channels after i halvings.
    fn channels(&self, i: u32) -> i64 {
        match i {
            0 => self.input[0],
            i if i < self.halvings => (self.hidden >> 1).max(1),
            _ => self.hidden,
        }
    }
}

fn conv(p: &Scope, size: [i64; 3], stride: i64) -> Conv2d {
    Conv2d::new(p, size, stride, Init::Torch, Layout::Contiguous)
}

/// h + conv1(relu(conv3(relu(h)))), several times, then a last relu.
#[derive(Debug)]
struct Residual(Vec<[Conv2d; 2]>);

impl Residual {
    fn new(p: &Scope, grid: &Grid) -> Self {
        let layer = |p: Scope, kernel| conv(&p, [grid.hidden, grid.hidden, kernel], 1);
        let block = |i| [layer(p.sub(i).sub("wide"), 3), layer(p.sub(i).sub("point"), 1)];
        Self((0..grid.blocks).map(block).collect())
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let mut h = x.shallow_clone();
        for [wide, point] in &self.0 {
            h = &h + point.forward(&wide.forward(&h.relu()).relu());
        }
        h.relu()
    }
}

/// Pictures to a grid.
#[derive(Debug)]
pub struct GridEncoder {
    halve: Vec<Conv2d>,
    mix: Conv2d,
    residual: Residual,
    out: Conv2d,
}

impl GridEncoder {
    /// # Errors
    /// As [`Grid::check`].
    ///
    /// # Source
    /// van den Oord et al. 2017 (arXiv 1711.00937), section 4.1, with the further convolutions of its example in Sonnet.
    pub fn new(p: &Scope, grid: &Grid) -> Result<Self, Error> {
        grid.check()?;
        let halve = |i| conv(&p.sub("halve").sub(i), [grid.channels(i), grid.channels(i + 1), 4], 2);
        Ok(Self {
            halve: (0..grid.halvings).map(halve).collect(),
            mix: conv(&p.sub("mix"), [grid.hidden, grid.hidden, 3], 1),
            residual: Residual::new(&p.sub("residual"), grid),
            out: conv(&p.sub("out"), [grid.hidden, grid.latent, 1], 1),
        })
    }

    /// # Shapes
    /// - `x`: `[B, C, H, W]`
    /// - returns: `[B, latent, h, w]` with the sides of [`Grid::sides`]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.halve.iter().fold(x.shallow_clone(), |h, layer| layer.forward(&h).relu());
        self.out.forward(&self.residual.forward(&self.mix.forward(&h)))
    }
}

/// A grid to pictures.
#[derive(Debug)]
pub struct GridDecoder {
    mix: Conv2d,
    residual: Residual,
    double: Vec<[Tensor; 2]>,
}

impl GridDecoder {
    /// # Errors
    /// As [`Grid::check`].
    pub fn new(p: &Scope, grid: &Grid) -> Result<Self, Error> {
        grid.check()?;
        let double = |i: u32| {
            let (a, b, p) = (grid.channels(i + 1), grid.channels(i), p.sub("double").sub(i));
            // PyTorch counts the fan of a transposed convolution on its outputs.
            let bound = ((b * 16) as f64).sqrt().recip();
            [p.uniform("weight", &[a, b, 4, 4], bound), p.uniform("bias", &[b], bound)]
        };
        Ok(Self {
            mix: conv(&p.sub("mix"), [grid.latent, grid.hidden, 3], 1),
            residual: Residual::new(&p.sub("residual"), grid),
            double: (0..grid.halvings).rev().map(double).collect(),
        })
    }

    /// # Shapes
    /// - `z`: `[B, latent, h, w]`
    /// - returns: `[B, C, H, W]`, without a last activation
    pub fn forward(&self, z: &Tensor) -> Tensor {
        let mut h = self.residual.forward(&self.mix.forward(z));
        for (i, [weight, bias]) in self.double.iter().enumerate() {
            h = if i == 0 { h } else { h.relu() };
            h = h.conv_transpose2d(weight, Some(bias), [2, 2], [1, 1], [0, 0], 1, [1, 1]);
        }
        h
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::Params;
    use tch::{Device, Kind};

    fn grid(input: Input) -> Grid {
        Grid { input, halvings: 2, hidden: 8, blocks: 2, latent: 3 }
    }

    #[test]
    fn there_and_back_keeps_the_shape_and_every_weight_is_reached() {
        let p = Params::new(Device::Cpu, 1);
        let grid = grid([3, 16, 12]);
        let encoder = GridEncoder::new(&p.root().sub("encoder"), &grid).unwrap();
        let decoder = GridDecoder::new(&p.root().sub("decoder"), &grid).unwrap();
        let x = Tensor::arange(2 * 3 * 16 * 12, (Kind::Float, Device::Cpu)).view([2, 3, 16, 12]).sin();
        let z = encoder.forward(&x);
        let y = decoder.forward(&z);
        assert_eq!((z.size(), y.size(), grid.sides()), (vec![2, 3, 4, 3], x.size(), [4, 3]));
        y.square().sum(Kind::Float).backward();
        for e in p.entries() {
            assert!(e.tensor.grad().abs().max().double_value(&[]) > 0.0, "{}", e.name);
        }
        let residual = 2 * (8 * 8 * 9 + 8 + 8 * 8 + 8);
        let encoder = 3 * 4 * 16 + 4 + 4 * 8 * 16 + 8 + 8 * 8 * 9 + 8 + residual + 8 * 3 + 3;
        let decoder = 3 * 8 * 9 + 8 + residual + 8 * 4 * 16 + 4 + 4 * 3 * 16 + 3;
        assert_eq!(p.count(), encoder + decoder);
    }

    /// Moving a picture by one cell moves the grid by one, away from the border: no position is singled out.
    #[test]
    fn cells_move_with_the_picture() {
        let p = Params::new(Device::Cpu, 1);
        let encoder = GridEncoder::new(&p.root(), &grid([1, 64, 64])).unwrap();
        let x = Tensor::arange(64 * 64, (Kind::Float, Device::Cpu)).view([1, 1, 64, 64]).sin();
        let (z, moved) = (encoder.forward(&x), encoder.forward(&x.roll([4], [3])));
        let inner = |z: &Tensor, from| z.narrow(2, 5, 6).narrow(3, from, 5);
        assert!((inner(&z, 5) - inner(&moved, 6)).abs().max().double_value(&[]) < 1e-5);
        assert!((inner(&z, 5) - inner(&moved, 5)).abs().max().double_value(&[]) > 1e-3);
    }

    #[test]
    fn sides_that_do_not_halve_are_refused() {
        let said = grid([1, 28, 30]).check().unwrap_err().to_string();
        assert!(said.contains("[1, 28, 30]") && said.contains("halved 2 times"), "{said}");
    }
}

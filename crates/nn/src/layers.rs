//! The layers of the backbones, with PyTorch's parameter names and initial values.

use pentimento_core::Scope;
use pentimento_torch_shim as shim;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// How a weight matrix starts. Biases start at zero, except under [`Init::Torch`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// PyTorch's own for linear and convolution layers: weight and bias uniform within +-1/sqrt(fan in).
    Torch,
    /// Uniform within +-sqrt(6 / (fan in + fan out)), Glorot and Bengio 2010.
    Xavier,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Zero: the layer is silent until training opens it.
    Zeros,
}

/// Order in memory of `[B, C, H, W]` activations and of the convolutions' weights. Passes that record no gradients run channels-last on a
/// processor in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Channel planes one after another.
    Contiguous,
    /// All channels of a pixel together, as convolutions like it best.
    #[default]
    ChannelsLast,
}

impl Layout {
    /// The input of a pass through a network that trains in this layout.
    pub fn enter(self, x: &Tensor) -> Tensor {
        let inference = x.device() == tch::Device::Cpu && !shim::grad_enabled();
        if inference { Self::ChannelsLast.apply(x) } else { self.apply(x) }
    }

    /// The same values in this layout.
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Contiguous => x.contiguous(),
            Self::ChannelsLast => shim::channels_last(x).unwrap_or_else(|e| panic!("channels last: {e}")),
        }
    }
}

fn weight(p: &Scope, size: &[i64], init: Init) -> Tensor {
    let field: i64 = size[2..].iter().product();
    let (fan_in, fan_out) = ((size[1] * field) as f64, (size[0] * field) as f64);
    match init {
        Init::Torch => p.uniform("weight", size, fan_in.sqrt().recip()),
        Init::Xavier => p.uniform("weight", size, (6.0 / (fan_in + fan_out)).sqrt()),
        Init::Normal(std) => p.normal("weight", size, std),
        Init::Zeros => p.zeros("weight", size),
    }
}

fn bias(p: &Scope, size: &[i64], init: Init) -> Tensor {
    let fan_in: i64 = size[1..].iter().product();
    match init {
        Init::Torch => p.uniform("bias", &size[..1], (fan_in as f64).sqrt().recip()),
        _ => p.zeros("bias", &size[..1]),
    }
}

/// `x W^T + b` on the last axis.
#[derive(Debug)]
pub struct Linear {
    weight: shim::Shared,
    bias: shim::Shared,
    standing: shim::Standing,
}

impl Linear {
    /// `weight`: `[outputs, inputs]`, `bias`: `[outputs]`.
    pub fn new(p: &Scope, inputs: i64, outputs: i64, init: Init) -> Self {
        Self::shaped(p, &[outputs, inputs], init)
    }

    /// A linear layer that its original stores as a convolution of kernel 1: `[outputs, inputs, 1]`.
    pub fn pointwise(p: &Scope, inputs: i64, outputs: i64, init: Init) -> Self {
        Self::shaped(p, &[outputs, inputs, 1], init)
    }

    /// A linear layer on flattened patches that its original stores as a convolution: `[outputs, C, p, p]`.
    pub fn patches(p: &Scope, channels: i64, patch: i64, outputs: i64, init: Init) -> Self {
        Self::shaped(p, &[outputs, channels, patch, patch], init)
    }

    fn shaped(p: &Scope, size: &[i64], init: Init) -> Self {
        // Fans are those of the flattened matrix, also for patches.
        let fans = size.iter().product::<i64>() as f64 / size[0] as f64 + size[0] as f64;
        let weight = match init {
            Init::Xavier => p.uniform("weight", size, (6.0 / fans).sqrt()),
            _ => weight(p, size, init),
        };
        Self { weight: weight.into(), bias: bias(p, size, init).into(), standing: p.standing() }
    }

    /// # Shapes
    /// - `x`: `[..., inputs]`
    /// - returns: `[..., outputs]`
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.matrix(), Some(&*self.bias))
    }

    /// The weights as `[outputs, inputs]`.
    fn matrix(&self) -> Tensor {
        if self.weight.dim() == 2 { self.weight.shallow_clone() } else { self.weight.flatten(1, -1) }
    }

    /// Weights `[outputs, inputs]` and bias `[outputs]`.
    pub(crate) fn parts(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    /// The layer for one pass of so many samples of so many tokens.
    pub(crate) fn now(&self, rows: [i64; 2]) -> Now<'_> {
        let matrix = self.matrix();
        let frozen =
            if shim::grad_enabled() { None } else { shim::Frozen::new(&matrix, &self.bias, rows, &self.standing) };
        Now { layer: self, matrix: matrix.into(), frozen }
    }

    /// Kind of the weights, in which side inputs must come.
    pub fn kind(&self) -> tch::Kind {
        self.weight.kind()
    }
}

/// A linear layer for one pass, by our own products where those are the faster ones.
#[derive(Debug)]
pub(crate) struct Now<'a> {
    layer: &'a Linear,
    matrix: shim::Shared,
    frozen: Option<shim::Frozen>,
}

impl Now<'_> {
    /// [`Linear::forward`].
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let own = match &self.frozen {
            Some(frozen) => frozen.linear(x),
            None => shim::linear(x, &self.matrix, &self.layer.bias),
        };
        own.unwrap_or_else(|| x.linear(&self.matrix, Some(&*self.layer.bias)))
    }

    /// [`Linear::parts`].
    pub(crate) fn parts(&self) -> [&Tensor; 2] {
        self.layer.parts()
    }

    /// Whether its weights stand in an order of their own, with which it is the faster by itself.
    pub(crate) fn stands(&self) -> bool {
        self.frozen.as_ref().is_some_and(shim::Frozen::stands)
    }
}

/// A square convolution with bias.
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// An odd kernel that keeps the picture's size at stride 1.
    pub fn new(p: &Scope, [inputs, outputs, kernel]: [i64; 3], stride: i64, init: Init, layout: Layout) -> Self {
        let size = [outputs, inputs, kernel, kernel];
        let mut weight = weight(p, &size, init);
        if layout == Layout::ChannelsLast {
            let stored = layout.apply(&weight.detach());
            weight.set_data(&stored);
        }
        Self { weight, bias: bias(p, &size, init), stride, padding: (kernel - 1) >> 1 }
    }

    /// # Shapes
    /// - `x`: `[B, inputs, H, W]`
    /// - returns: `[B, outputs, H / stride, W / stride]`, rounded up
    pub fn forward(&self, x: &Tensor) -> Tensor {
        // Of kernel 3, which is padded by 1.
        let own = shim::conv3(x, &self.weight, &self.bias, self.stride);
        own.unwrap_or_else(|| self.padded(x, self.padding))
    }

    /// The convolution on a picture that already carries its border.
    pub fn unpadded(&self, x: &Tensor) -> Tensor {
        self.padded(x, 0)
    }

    fn padded(&self, x: &Tensor, padding: i64) -> Tensor {
        x.conv2d(&self.weight, Some(&self.bias), [self.stride; 2], [padding; 2], [1, 1], 1)
    }
}

/// Layer normalisation over the last axis without learned scale or shift; statistics in f32 at least.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    width: i64,
    eps: f64,
}

impl LayerNorm {
    /// Over vectors of this width.
    pub fn new(width: i64, eps: f64) -> Self {
        Self { width, eps }
    }

    /// Same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm([self.width], None::<&Tensor>, None::<&Tensor>, self.eps, true)
    }

    /// The normalised `x` times `1 + scale` plus `shift`, in one pass where the fused kernel reaches.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`; `shift`, `scale`: `[B, 1, D]`
    pub fn modulated(&self, x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
        shim::adaln(x, shift, scale, self.eps).unwrap_or_else(|| shift.addcmul(&self.forward(x), &(scale + 1.0)))
    }
}

/// Group normalisation with learned scale and shift; statistics in f32 when activations are bf16. On a processor it is fused
/// with what follows where pictures are channels-last: libtorch's own channels-last kernel takes several times as long backward
/// (`pentimento-bench layers`).
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Over `groups` groups of channels.
    pub fn new(p: &Scope, groups: i64, channels: i64, eps: f64) -> Self {
        Self { weight: p.ones("weight", &[channels]), bias: p.zeros("bias", &[channels]), groups, eps }
    }

    /// Same shape and layout.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.whole(x, None, false)
    }

    /// Followed by SiLU, in one pass where the fused kernel reaches.
    pub fn silu(&self, x: &Tensor) -> Tensor {
        self.whole(x, None, true)
    }

    /// Times `1 + scale` plus `shift`, then SiLU, in one pass where the fused kernel reaches.
    ///
    /// # Shapes
    /// - `x`: `[B, C, H, W]`; `scale`, `shift`: `[B, C]`
    pub fn modulated_silu(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Tensor {
        self.whole(x, Some((scale, shift)), true)
    }

    fn whole(&self, x: &Tensor, moved: Option<(&Tensor, &Tensor)>, silu: bool) -> Tensor {
        if let Some(y) = self.fused(x, moved, silu) {
            return y;
        }
        let y = x.group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true);
        let map = |v: &Tensor| v.unsqueeze(-1).unsqueeze(-1); // [B, C, 1, 1]
        let y = match moved {
            Some((scale, shift)) => map(shift).addcmul(&y, &(map(scale) + 1.0)),
            None => y,
        };
        if silu { y.silu() } else { y }
    }

    /// The whole as one gain and one offset per channel, or per picture and channel.
    fn fused(&self, x: &Tensor, moved: Option<(&Tensor, &Tensor)>, silu: bool) -> Option<Tensor> {
        if x.dim() != 4 || !shim::is_channels_last(x) {
            return None;
        }
        let (weight, bias) = (self.weight.unsqueeze(0), self.bias.unsqueeze(0)); // [1, C]
        let (gain, offset) = match moved {
            Some((scale, shift)) => {
                let factor = scale.to_kind(weight.kind()) + 1.0; // [B, C]
                (&factor * weight, shift.to_kind(bias.kind()).addcmul(&bias, &factor))
            }
            None => (weight, bias),
        };
        shim::group_norm(x, &gain, &offset, self.groups, self.eps, silu)
    }
}

/// Normalisation over the batch, by the statistics of the batch at hand: there are no running ones.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
}

impl BatchNorm {
    /// Over columns or channels; at first it only normalises.
    pub fn new(p: &Scope, width: i64) -> Self {
        Self { weight: p.ones("weight", &[width]), bias: p.zeros("bias", &[width]) }
    }

    /// `[B, width, ...]`; the same shape comes back.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let none = None::<&Tensor>;
        x.batch_norm(Some(&self.weight), Some(&self.bias), none, none, true, 0.0, 1e-5, false)
    }
}

/// One learned row per index.
#[derive(Debug)]
pub struct Embedding {
    weight: Tensor,
}

impl Embedding {
    /// `weight`: `[rows, width]`, normal with this standard deviation.
    pub fn new(p: &Scope, rows: i64, width: i64, std: f64) -> Self {
        Self { weight: p.normal("weight", &[rows, width], std) }
    }

    /// Rows of the given int64 indices.
    pub fn forward(&self, index: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, index, -1, false, false)
    }

    /// Sums of the first K rows with the given weights.
    ///
    /// # Shapes
    /// - `weights`: `[B, K]`
    /// - returns: `[B, width]`
    pub fn weighted(&self, weights: &Tensor) -> Tensor {
        weights.to_kind(self.weight.kind()).matmul(&self.weight.narrow(0, 0, weights.size()[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::Params;
    use tch::{Device, Kind};

    #[test]
    fn batches_are_normalised_by_their_own_statistics() {
        let p = Params::new(Device::Cpu, 3);
        let x = pentimento_core::noise::init_normal(1, "x", &[500, 3]) * 4.0 + 7.0;
        let y = BatchNorm::new(&p.root(), 3).forward(&x);
        assert!(y.mean_dim(0, false, Kind::Float).abs().max().double_value(&[]) < 1e-5);
        assert!((y.std_dim([0].as_slice(), false, false) - 1.0).abs().max().double_value(&[]) < 1e-4);
    }

    #[test]
    fn initial_values_have_the_published_bounds() {
        let p = Params::new(Device::Cpu, 3);
        let _ = Linear::new(&p.root().sub("a"), 400, 100, Init::Torch);
        let _ = Linear::new(&p.root().sub("b"), 400, 200, Init::Xavier);
        let _ = Linear::patches(&p.root().sub("c"), 4, 10, 200, Init::Xavier);
        let _ = Conv2d::new(&p.root().sub("d"), [16, 8, 5], 1, Init::Torch, Layout::ChannelsLast);
        let _ = Linear::new(&p.root().sub("e"), 100, 100, Init::Normal(0.02));
        let largest = |name: &str| {
            let all = p.entries();
            all.iter().find(|e| e.name == name).unwrap().tensor.abs().max().double_value(&[])
        };
        for (name, bound) in
            [("a.weight", 0.05), ("a.bias", 0.05), ("b.weight", 0.1), ("c.weight", 0.1), ("d.weight", 0.05)]
        {
            let got = largest(name);
            assert!(got <= bound && got > 0.95 * bound, "{name}: {got} against {bound}");
        }
        assert!(largest("b.bias") < 1e-12);
        let all = p.entries();
        let std = all.iter().find(|e| e.name == "e.weight").unwrap().tensor.std(true).double_value(&[]);
        assert!((std - 0.02).abs() < 1e-3, "{std}");
    }

    #[test]
    fn a_channels_last_convolution_equals_the_contiguous_one_and_keeps_its_layout() {
        let make = |layout| {
            let p = Params::new(Device::Cpu, 3);
            let conv = Conv2d::new(&p.root(), [3, 8, 3], 2, Init::Torch, layout);
            (p, conv)
        };
        let x = Tensor::arange(2 * 3 * 8 * 8, (Kind::Float, Device::Cpu)).view([2, 3, 8, 8]).sin();
        let ((p, last), (_, plain)) = (make(Layout::ChannelsLast), make(Layout::Contiguous));
        assert!(shim::is_channels_last(&p.entries()[0].tensor) && p.entries()[0].tensor.requires_grad());
        let y = last.forward(&Layout::ChannelsLast.apply(&x));
        assert!(shim::is_channels_last(&y) && y.size() == [2, 8, 4, 4]);
        assert!((y - plain.forward(&x)).abs().max().double_value(&[]) < 1e-5);
    }
}

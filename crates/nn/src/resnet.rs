//! # Residual networks that read a picture into a vector
//! arXiv 1512.03385 (He et al. 2015) - reference: torchvision/models/resnet.py
//!
//! A stem, four stages of residual blocks, a mean over the last map and a linear layer. Parameter names and initial values are
//! torchvision's (normal kernels by their outgoing fan, PyTorch's own linear layer), and so are the numbers of parameters. It
//! is built with batch normalisation by the batch at hand, without running statistics, or with group normalisation under the
//! same names, whose features of a picture do not hang on its neighbours in the batch.

use crate::layers::{BatchNorm, GroupNorm, Init, Layout, Linear};
use crate::{Error, Input};
use pentimento_core::Scope;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Guard of every normalisation, PyTorch's.
const EPS: f64 = 1e-5;

/// What a stage is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResnetBlock {
    /// Two convolutions of kernel 3 (ResNet-18, -34).
    #[default]
    Basic,
    /// Kernels 1, 3, 1, the last with four times the channels (ResNet-50 and deeper); the second has the stride.
    Bottleneck,
}

/// How the network begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResnetStem {
    /// One convolution of kernel 3 at full resolution, as for 32 pixels since He et al.'s section 4.2.
    #[default]
    Small,
    /// Kernel 7 at stride 2, then a maximum over 3 x 3 at stride 2: for pictures of 224 pixels.
    Large,
}

/// How the last map becomes one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResnetTop {
    /// The mean of each channel.
    #[default]
    Mean,
    /// All of it: where things are stays readable by the linear layer.
    Whole,
}

/// The settings of a [`Resnet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResnetConfig {
    /// Blocks of each stage. Every stage but the first halves the picture and doubles the channels.
    pub blocks: Vec<i64>,
    /// Channels of the first stage; 64 in the published networks.
    pub width: i64,
    /// What a stage is made of.
    pub block: ResnetBlock,
    /// How the network begins.
    pub stem: ResnetStem,
    /// How it ends.
    pub top: ResnetTop,
    /// Groups of every normalisation; 0 = batch normalisation.
    pub groups: i64,
}

impl Default for ResnetConfig {
    /// ResNet-18 for small pictures.
    fn default() -> Self {
        Self {
            blocks: vec![2, 2, 2, 2],
            width: 64,
            block: ResnetBlock::Basic,
            stem: ResnetStem::Small,
            top: ResnetTop::Mean,
            groups: 0,
        }
    }
}

/// A convolution without bias: a normalisation follows.
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    stride: i64,
}

impl Conv {
    fn new(p: &Scope, [inputs, outputs, kernel]: [i64; 3], stride: i64) -> Self {
        let fan_out = (outputs * kernel * kernel) as f64;
        Self { weight: p.normal("weight", &[outputs, inputs, kernel, kernel], (2.0 / fan_out).sqrt()), stride }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let padding = (self.weight.size()[2] - 1) >> 1;
        x.conv2d(&self.weight, None::<&Tensor>, [self.stride; 2], [padding; 2], [1, 1], 1)
    }
}

#[derive(Debug)]
enum Norm {
    Batch(BatchNorm),
    Group(GroupNorm),
}

impl Norm {
    fn new(p: &Scope, config: &ResnetConfig, channels: i64) -> Self {
        match config.groups {
            0 => Self::Batch(BatchNorm::new(p, channels)),
            groups => Self::Group(GroupNorm::new(p, groups, channels, EPS)),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Batch(norm) => norm.forward(x),
            Self::Group(norm) => norm.forward(x),
        }
    }
}

#[derive(Debug)]
struct Block {
    layers: Vec<(Conv, Norm)>,
    downsample: Option<(Conv, Norm)>,
}

impl Block {
    fn new(p: &Scope, config: &ResnetConfig, [inputs, width, outputs]: [i64; 3], stride: i64) -> Self {
        let sizes: &[([i64; 3], i64)] = match config.block {
            ResnetBlock::Basic => &[([inputs, outputs, 3], stride), ([outputs, outputs, 3], 1)],
            ResnetBlock::Bottleneck => {
                &[([inputs, width, 1], 1), ([width, width, 3], stride), ([width, outputs, 1], 1)]
            }
        };
        let layer = |conv: &str, norm: &str, size: [i64; 3], stride| {
            (Conv::new(&p.sub(conv), size, stride), Norm::new(&p.sub(norm), config, size[1]))
        };
        let numbered = |(i, &(size, stride)): (usize, &([i64; 3], i64))| {
            layer(&format!("conv{}", i + 1), &format!("bn{}", i + 1), size, stride)
        };
        Self {
            layers: sizes.iter().enumerate().map(numbered).collect(),
            downsample: (stride > 1 || inputs != outputs)
                .then(|| layer("downsample.0", "downsample.1", [inputs, outputs, 1], stride)),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let mut h = x.shallow_clone();
        for (i, (conv, norm)) in self.layers.iter().enumerate() {
            h = norm.forward(&conv.forward(&if i > 0 { h.relu() } else { h }));
        }
        match &self.downsample {
            Some((conv, norm)) => (h + norm.forward(&conv.forward(x))).relu(),
            None => (h + x).relu(),
        }
    }
}

/// A residual network.
#[derive(Debug)]
pub struct Resnet {
    stem: (Conv, Norm),
    pooled: bool,
    blocks: Vec<Block>,
    top: ResnetTop,
    fc: Linear,
}

impl ResnetConfig {
    /// Channels after a stage.
    fn outputs(&self, stage: usize) -> i64 {
        let width = self.width << stage;
        if self.block == ResnetBlock::Bottleneck { 4 * width } else { width }
    }

    /// Channels, height and width of the last map.
    fn map(&self, [_, h, w]: Input) -> [i64; 3] {
        let stages = self.blocks.len().saturating_sub(1);
        let halvings = stages + if self.stem == ResnetStem::Large { 2 } else { 0 };
        // Each halving rounds up.
        let [h, w] = [h, w].map(|n| ((n - 1) >> halvings) + 1);
        [self.outputs(stages), h, w]
    }

    /// Checks the settings against the pictures.
    ///
    /// # Errors
    /// One sentence on the first setting that does not fit.
    pub fn check(&self, input: Input) -> Result<(), Error> {
        if self.blocks.is_empty() || self.blocks.len() > 8 || self.blocks.iter().any(|b| *b < 1) {
            let want = "1 to 8 stages of at least one block";
            return Err(Error::range("resnet.blocks", format!("{:?}", self.blocks), want));
        }
        if self.width < 1 {
            return Err(Error::range("resnet.width", self.width, "at least 1"));
        }
        if self.groups < 0 || (self.groups > 0 && self.width % self.groups != 0) {
            return Err(Error::indivisible(
                "resnet.groups",
                self.groups,
                self.width,
                "the channels of the first stage,",
            ));
        }
        if input.iter().any(|n| *n < 1) {
            return Err(Error::range("the image's shape", format!("{input:?}"), "at least one channel and one pixel"));
        }
        Ok(())
    }

    /// The network with initial weights, its parameters made below `root`.
    ///
    /// # Errors
    /// As [`ResnetConfig::check`].
    pub fn build(&self, root: &Scope, input: Input, outputs: i64) -> Result<Resnet, Error> {
        self.check(input)?;
        let (kernel, stride) = if self.stem == ResnetStem::Large { (7, 2) } else { (3, 1) };
        let stem = Conv::new(&root.sub("conv1"), [input[0], self.width, kernel], stride);
        let norm = Norm::new(&root.sub("bn1"), self, self.width);
        let (mut blocks, mut inputs) = (Vec::new(), self.width);
        for (stage, &count) in self.blocks.iter().enumerate() {
            let p = root.sub(format!("layer{}", stage + 1));
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let sizes = [inputs, self.width << stage, self.outputs(stage)];
                blocks.push(Block::new(&p.sub(i), self, sizes, stride));
                inputs = self.outputs(stage);
            }
        }
        let [c, h, w] = self.map(input);
        let flat = if self.top == ResnetTop::Mean { c } else { c * h * w };
        let fc = Linear::new(&root.sub("fc"), flat, outputs, Init::Torch);
        Ok(Resnet { stem: (stem, norm), pooled: self.stem == ResnetStem::Large, blocks, top: self.top, fc })
    }
}

impl Resnet {
    /// # Shapes
    /// - `x`: `[B, C, H, W]`
    /// - returns: `[B, outputs]`
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (conv, norm) = &self.stem;
        let mut h = norm.forward(&conv.forward(&Layout::Contiguous.enter(x))).relu();
        if self.pooled {
            h = h.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        }
        for block in &self.blocks {
            h = block.forward(&h);
        }
        let h = match self.top {
            ResnetTop::Mean => h.mean_dim([2, 3].as_slice(), false, None::<Kind>),
            ResnetTop::Whole => h.flatten(1, -1),
        };
        self.fc.forward(&h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::{Params, noise};
    use tch::Device;

    fn built(config: &ResnetConfig, input: Input, outputs: i64) -> (Params, Resnet) {
        let params = Params::new(Device::Cpu, 3);
        let network = config.build(&params.root(), input, outputs).unwrap();
        (params, network)
    }

    /// `sum(p.numel() for p in torchvision.models.resnet18().parameters())`, printed in torchvision's own tables.
    #[test]
    fn published_networks_have_their_sizes_and_names() {
        let large = |blocks: [i64; 4], block| ResnetConfig {
            blocks: blocks.into(),
            block,
            stem: ResnetStem::Large,
            ..ResnetConfig::default()
        };
        let cases = [
            ([2, 2, 2, 2], ResnetBlock::Basic, 11_689_512),
            ([3, 4, 6, 3], ResnetBlock::Basic, 21_797_672),
            ([3, 4, 6, 3], ResnetBlock::Bottleneck, 25_557_032),
        ];
        for (blocks, block, count) in cases {
            let (params, _) = built(&large(blocks, block), [3, 224, 224], 1000);
            assert_eq!(params.count(), count, "{blocks:?} {block:?}");
            let names: Vec<String> = params.entries().into_iter().map(|e| e.name).collect();
            for name in ["conv1.weight", "bn1.bias", "layer1.0.conv2.weight", "layer4.0.downsample.1.weight", "fc.bias"]
            {
                assert!(names.iter().any(|n| n == name), "{name} of {names:?}");
            }
            let first = names.iter().any(|n| n == "layer1.0.downsample.0.weight");
            assert_eq!(first, block == ResnetBlock::Bottleneck, "only a bottleneck widens the first stage");
        }
    }

    #[test]
    fn kernels_begin_normal_by_their_outgoing_fan() {
        let (params, _) = built(&ResnetConfig::default(), [3, 32, 32], 10);
        let all = params.entries();
        let std = |name: &str| all.iter().find(|e| e.name == name).unwrap().tensor.std(true).double_value(&[]);
        // sqrt(2 / (128 * 9)), sqrt(2 / 128)
        assert!((std("layer2.0.conv1.weight") / 0.041_666_7 - 1.0).abs() < 0.02);
        assert!((std("layer2.0.downsample.0.weight") / 0.125 - 1.0).abs() < 0.03);
    }

    /// One basic block of stride 2, written out by its parameters' names.
    #[test]
    fn a_block_is_its_layers() {
        let config = ResnetConfig { blocks: vec![1, 1], width: 4, groups: 2, ..ResnetConfig::default() };
        let (params, network) = built(&config, [4, 6, 6], 5);
        let all = params.entries();
        let at = |name: &str| {
            let name = format!("layer2.0.{name}.weight");
            all.iter().find(|e| e.name == name).unwrap().tensor.shallow_clone()
        };
        let x = noise::init_normal(1, "x", &[3, 4, 6, 6]);
        let conv = |x: &Tensor, name, stride, padding| {
            x.conv2d(&at(name), None::<&Tensor>, [stride; 2], [padding; 2], [1, 1], 1)
        };
        let norm = |x: &Tensor| x.group_norm(2, None::<&Tensor>, None::<&Tensor>, 1e-5, false);
        let h = norm(&conv(&norm(&conv(&x, "conv1", 2, 1)).relu(), "conv2", 1, 1));
        let want = (h + norm(&conv(&x, "downsample.0", 2, 0))).relu();
        assert!((network.blocks[1].forward(&x) - want).abs().max().double_value(&[]) < 1e-5);
        // Channels of normalisations start at one, so that leaving them out above is exact.
        assert_eq!(at("bn2").min().double_value(&[]), 1.0);
    }

    /// The mean forgets where a picture's parts are, the whole map does not; odd sides round up; rows do not meet.
    #[test]
    fn tops_see_what_they_should_and_groups_keep_rows_apart() {
        let config = |top| ResnetConfig { blocks: vec![1, 1], width: 4, groups: 2, top, ..ResnetConfig::default() };
        let x = noise::init_normal(1, "x", &[3, 1, 9, 6]);
        for top in [ResnetTop::Mean, ResnetTop::Whole] {
            let (params, network) = built(&config(top), [1, 9, 6], 2);
            let fc = params.entries().into_iter().find(|e| e.name == "fc.weight").unwrap();
            assert_eq!(fc.tensor.size(), [2, if top == ResnetTop::Mean { 8 } else { 8 * 5 * 3 }]);
            let y = network.forward(&x);
            assert!((network.forward(&x.narrow(0, 1, 1)).get(0) - y.get(1)).abs().max().double_value(&[]) < 1e-5);
            y.square().sum(Kind::Float).backward();
            assert!(params.entries().iter().all(|e| e.tensor.grad().abs().max().double_value(&[]) > 0.0));
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let say = |c: ResnetConfig| c.check([3, 32, 32]).unwrap_err().to_string();
        assert!(say(ResnetConfig { blocks: vec![], ..Default::default() }).contains("resnet.blocks = []"));
        assert!(say(ResnetConfig { groups: 3, ..Default::default() }).contains("resnet.groups = 3 does not divide"));
    }
}

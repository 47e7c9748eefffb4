//! A small residual convolutional network that looks at generated pictures: which class, and where and how large.

use crate::layers::{Conv2d, GroupNorm, Init, Layout, Linear};
use crate::{Cost, Error, Input};
use pentimento_core::Scope;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Groups of every normalisation.
const GROUPS: i64 = 8;

/// The settings of a [`Cnn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CnnConfig {
    /// Channels at full resolution, a multiple of 8; each halving of the picture doubles them, up to fourfold.
    pub width: i64,
    /// Numbers in the feature vector.
    pub features: i64,
    /// Classes to tell apart; 0 = no such head.
    pub classes: i64,
    /// Numbers to estimate; 0 = no such head.
    pub regressions: i64,
    /// Order in memory.
    pub layout: Layout,
}

impl Default for CnnConfig {
    fn default() -> Self {
        Self { width: 32, features: 128, classes: 10, regressions: 0, layout: Layout::default() }
    }
}

/// What a [`Cnn`] says of a batch.
#[derive(Debug)]
pub struct Verdict {
    /// `[B, features]`, the layer before the heads.
    pub features: Tensor,
    /// `[B, classes]`, if there are classes.
    pub logits: Option<Tensor>,
    /// `[B, regressions]`, if there are any.
    pub values: Option<Tensor>,
}

#[derive(Debug)]
struct Block {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    skip: Option<Conv2d>,
}

impl Block {
    fn new(p: &Scope, [inputs, outputs, stride]: [i64; 3], layout: Layout) -> Self {
        let conv = |name, size, stride| Conv2d::new(&p.sub(name), size, stride, Init::Torch, layout);
        Self {
            norm1: GroupNorm::new(&p.sub("norm1"), GROUPS, inputs, 1e-5),
            conv1: conv("conv1", [inputs, outputs, 3], stride),
            norm2: GroupNorm::new(&p.sub("norm2"), GROUPS, outputs, 1e-5),
            conv2: conv("conv2", [outputs, outputs, 3], 1),
            skip: (stride > 1 || inputs != outputs).then(|| conv("skip", [inputs, outputs, 1], stride)),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.norm1.silu(x);
        let x = self.skip.as_ref().map_or_else(|| x.shallow_clone(), |s| s.forward(&h));
        x + self.conv2.forward(&self.norm2.silu(&self.conv1.forward(&h)))
    }
}

/// Pre-activation residual blocks, two per resolution, halving until a side is below 8; the last map is flattened, not
/// averaged, because position is among the things asked.
#[derive(Debug)]
pub struct Cnn {
    stem: Conv2d,
    blocks: Vec<Block>,
    norm: GroupNorm,
    neck: Linear,
    classes: Option<Linear>,
    regressions: Option<Linear>,
    layout: Layout,
}

/// (inputs, outputs, stride) of each block, and the last map's channels, height and width.
fn shapes(config: &CnnConfig, [_, mut h, mut w]: Input) -> (Vec<[i64; 3]>, [i64; 3]) {
    let mut blocks = vec![[config.width, config.width, 1]; 2];
    let mut c = config.width;
    while h.min(w) >= 8 {
        let wider = (2 * c).min(4 * config.width);
        blocks.extend([[c, wider, 2], [wider, wider, 1]]);
        (c, h, w) = (wider, (h + 1) >> 1, (w + 1) >> 1);
    }
    (blocks, [c, h, w])
}

impl CnnConfig {
    /// Checks the settings against the images.
    ///
    /// # Errors
    /// One sentence on the first setting that does not fit.
    pub fn check(&self, input: Input) -> Result<(), Error> {
        if self.width < GROUPS || self.width % GROUPS != 0 {
            let near = (self.width >> 3 << 3).max(GROUPS);
            let want = format!("a multiple of {GROUPS}, such as {near} or {}", near + GROUPS);
            return Err(Error::range("judge.width", self.width, &want));
        }
        if self.features < 1 {
            return Err(Error::range("judge.features", self.features, "at least 1"));
        }
        if self.classes < 0 || self.regressions < 0 || self.classes + self.regressions == 0 {
            let got = format!("{} classes and {} regressions", self.classes, self.regressions);
            return Err(Error::range("judge", got, "at least one class or one regression"));
        }
        if input.iter().any(|n| *n < 1) {
            return Err(Error::range("the image's shape", format!("{input:?}"), "at least one channel and one pixel"));
        }
        Ok(())
    }

    /// The network with initial weights, its parameters made below `root`.
    ///
    /// # Errors
    /// As [`CnnConfig::check`].
    pub fn build(&self, root: &Scope, input: Input) -> Result<Cnn, Error> {
        self.check(input)?;
        let (blocks, [c, h, w]) = shapes(self, input);
        let head = |name, n: i64| (n > 0).then(|| Linear::new(&root.sub(name), self.features, n, Init::Torch));
        let block = |(i, size): (usize, &[i64; 3])| Block::new(&root.sub("blocks").sub(i), *size, self.layout);
        Ok(Cnn {
            stem: Conv2d::new(&root.sub("stem"), [input[0], self.width, 3], 1, Init::Torch, self.layout),
            blocks: blocks.iter().enumerate().map(block).collect(),
            norm: GroupNorm::new(&root.sub("norm"), GROUPS, c, 1e-5),
            neck: Linear::new(&root.sub("neck"), c * h * w, self.features, Init::Torch),
            classes: head("classes", self.classes),
            regressions: head("regressions", self.regressions),
            layout: self.layout,
        })
    }

    /// Parameters and multiply-adds.
    pub fn cost(&self, input: Input) -> Cost {
        let (blocks, [c, h, w]) = shapes(self, input);
        let (mut ph, mut pw) = (input[1], input[2]);
        let mut all = Cost::conv(input[0], self.width, 3, ph * pw) + Cost::affine(c);
        for [a, b, stride] in blocks {
            if stride == 2 {
                (ph, pw) = ((ph + 1) >> 1, (pw + 1) >> 1);
            }
            let convs = Cost::conv(a, b, 3, ph * pw) + Cost::conv(b, b, 3, ph * pw);
            let skip = if stride > 1 || a != b { Cost::conv(a, b, 1, ph * pw) } else { Cost::default() };
            all = all + Cost::affine(a) + Cost::affine(b) + convs + skip;
        }
        let heads = [self.classes, self.regressions].into_iter().filter(|n| *n > 0);
        all + Cost::linear(c * h * w, self.features, 1) + heads.map(|n| Cost::linear(self.features, n, 1)).sum()
    }
}

impl Cnn {
    /// The feature vector before the heads.
    ///
    /// # Shapes
    /// - `x`: `[B, C, H, W]`
    /// - returns: `[B, features]`
    pub fn features(&self, x: &Tensor) -> Tensor {
        let mut h = self.stem.forward(&self.layout.enter(x));
        for block in &self.blocks {
            h = block.forward(&h);
        }
        self.neck.forward(&self.norm.silu(&h).flatten(1, -1)).silu()
    }

    /// Features and what the heads make of them.
    pub fn forward(&self, x: &Tensor) -> Verdict {
        let features = self.features(x);
        let read = |head: &Option<Linear>| head.as_ref().map(|l| l.forward(&features));
        Verdict { logits: read(&self.classes), values: read(&self.regressions), features }
    }
}

//! # DiT
//! arXiv 2212.09748 (Peebles and Xie 2023) - reference: facebookresearch/DiT
//!
//! A transformer over patches. Time and class do not enter as tokens but set, per block, the scale and shift after each
//! normalisation and a gate before each residual sum (adaLN-Zero). Parameter names are the reference's.

use crate::attention::{HeadOrder, attend};
use crate::label::{LabelEmbedding, NullLabel};
use crate::layers::{Init, LayerNorm, Linear, Now};
use crate::time::{TimeEmbedding, Waves};
use crate::{Cost, Error, Input};
use pentimento_core::{Condition, Network, Scope, Tap};
use pentimento_torch_shim as shim;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Width, depth and heads of the published sizes, and `Ti` in ViT's proportions.
const SIZES: [(&str, [i64; 3]); 5] =
    [("Ti", [192, 12, 3]), ("S", [384, 12, 6]), ("B", [768, 12, 12]), ("L", [1024, 24, 16]), ("XL", [1152, 28, 16])];

/// Sinusoids that enter the time embedding.
const WAVES: i64 = 256;

/// Whose arithmetic, where two published versions with the same weights disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// facebookresearch/DiT: frequencies 10000^(-i/128), eps 1e-6 in every normalisation.
    #[default]
    Original,
    /// diffusers' `DiTTransformer2DModel` with its default settings: frequencies 10000^(-i/127), eps 1e-5 before the MLP.
    Diffusers,
}

/// A DiT as a recipe describes it. Fields that are given replace those of the preset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DitConfig {
    /// Size and patch, `DiT-{Ti,S,B,L,XL}/p`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Edge of a patch in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<i64>,
    /// Width D of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    /// Number of blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<i64>,
    /// Attention heads; one per 64 of the width if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<i64>,
    /// Hidden width of the MLP over D; 4 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_ratio: Option<f64>,
    /// Also predict the variance: twice the channels come out. The published weights do.
    pub learn_sigma: bool,
    /// What stands for a dropped label.
    pub null_label: NullLabel,
    /// Whose arithmetic.
    pub arithmetic: Arithmetic,
}

/// A checked DiT.
#[derive(Clone, Debug, PartialEq)]
pub struct DitPlan {
    /// Channels and size of the input.
    pub input: Input,
    /// Channels of the output.
    pub outputs: i64,
    /// Edge of a patch.
    pub patch: i64,
    /// Width D of a token.
    pub width: i64,
    /// Number of blocks.
    pub depth: i64,
    /// Attention heads.
    pub heads: i64,
    /// Hidden width of the MLP.
    pub hidden: i64,
    /// Classes K; 0 = unconditional.
    pub classes: i64,
    /// What stands for a dropped label.
    pub null_label: NullLabel,
    /// Whose arithmetic.
    pub arithmetic: Arithmetic,
}

impl DitConfig {
    /// One with patches of an edge, and the width, depth and heads of the transformer.
    pub fn sized([patch, width, depth, heads]: [i64; 4]) -> Self {
        let [patch, width, depth, heads] = [patch, width, depth, heads].map(Some);
        Self { patch, width, depth, heads, ..Self::default() }
    }

    /// The config of a name like `DiT-S/4`.
    ///
    /// # Errors
    /// [`Error::UnknownChoice`] and [`Error::OutOfRange`].
    pub fn preset(name: &str) -> Result<Self, Error> {
        let (patch, [width, depth, heads]) = parse(name)?;
        Ok(Self::sized([patch, width, depth, heads]))
    }

    /// Checks everything against the images and the number of classes (0 = unconditional).
    ///
    /// # Errors
    /// One sentence on the first setting that does not fit.
    pub fn plan(&self, input: Input, classes: i64) -> Result<DitPlan, Error> {
        let base = self.preset.as_deref().map_or_else(|| Ok(Self::default()), Self::preset)?;
        let pick = |own: Option<i64>, preset: Option<i64>, key: &str| {
            let missing = || Error::Missing {
                key: format!("network.dit.{key}"),
                advice: "write it, or a preset such as \"DiT-S/4\"".into(),
            };
            let value = own.or(preset).ok_or_else(missing)?;
            if value < 1 {
                return Err(Error::range(&format!("network.dit.{key}"), value, "at least 1"));
            }
            Ok(value)
        };
        let patch = pick(self.patch, base.patch, "patch")?;
        let width = pick(self.width, base.width, "width")?;
        let depth = pick(self.depth, base.depth, "depth")?;
        let given = self.heads.or(if self.width.is_some() { None } else { base.heads });
        let heads = pick(given, Some((width >> 6).max(1)), "heads")?;
        let ratio = self.mlp_ratio.unwrap_or(4.0);
        let [channels, height, breadth] = input;
        if channels < 1 || height < 1 || breadth < 1 {
            return Err(Error::range("the image's shape", format!("{input:?}"), "at least one channel and one pixel"));
        }
        if classes < 0 {
            return Err(Error::range("classes", classes, "0 (unconditional) or more"));
        }
        for (side, name) in [(height, "height"), (breadth, "width")] {
            if side % patch != 0 {
                return Err(Error::indivisible("network.dit.patch", patch, side, &format!("the image {name}")));
            }
        }
        if width % heads != 0 {
            return Err(Error::indivisible("network.dit.heads", heads, width, "the width"));
        }
        // Half of the position's numbers are for each axis, half of those for sine and cosine.
        if width % 4 != 0 {
            let near = format!("a multiple of 4, such as {} or {}", (width >> 2 << 2).max(4), (width >> 2 << 2) + 4);
            return Err(Error::range("network.dit.width", width, &near));
        }
        let hidden = hidden(width, ratio).ok_or_else(|| Error::range("network.dit.mlp_ratio", ratio, "above 0"))?;
        let outputs = if self.learn_sigma { 2 * channels } else { channels };
        let (null_label, arithmetic) = (self.null_label, self.arithmetic);
        Ok(DitPlan { input, outputs, patch, width, depth, heads, hidden, classes, null_label, arithmetic })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded before the cast")]
fn hidden(width: i64, ratio: f64) -> Option<i64> {
    let h = width as f64 * ratio;
    (1.0..1e9).contains(&h).then_some(h as i64)
}

fn parse(name: &str) -> Result<(i64, [i64; 3]), Error> {
    let unknown = || {
        let choices: Vec<String> = SIZES.iter().flat_map(|(s, _)| [2, 4, 8].map(|p| format!("DiT-{s}/{p}"))).collect();
        Error::unknown("network.dit.preset", name, &choices)
    };
    let (size, patch) = name.strip_prefix("DiT-").and_then(|n| n.split_once('/')).ok_or_else(unknown)?;
    let (_, dims) = SIZES.iter().find(|(s, _)| *s == size).ok_or_else(unknown)?;
    let patch = patch.parse::<i64>().ok().filter(|p| *p >= 1).ok_or_else(unknown)?;
    Ok((patch, *dims))
}

impl DitPlan {
    /// Tokens T.
    pub fn tokens(&self) -> i64 {
        self.grid().iter().product()
    }

    fn grid(&self) -> [i64; 2] {
        [self.input[1].div_euclid(self.patch), self.input[2].div_euclid(self.patch)]
    }

    /// Parameters and multiply-adds.
    pub fn cost(&self) -> Cost {
        let (d, t, p2) = (self.width, self.tokens(), self.patch * self.patch);
        let block = Cost::linear(d, 3 * d, t)
            + Cost::attention(t, d)
            + Cost::linear(d, d, t)
            + Cost::linear(d, self.hidden, t)
            + Cost::linear(self.hidden, d, t)
            + Cost::linear(d, 6 * d, 1);
        let labels = if self.classes > 0 { self.null_label.rows(self.classes) } else { 0 };
        Cost::linear(self.input[0] * p2, d, t)
            + Cost::linear(WAVES, d, 1)
            + Cost::linear(d, d, 1)
            + Cost::table(labels, d)
            + block * self.depth
            + Cost::linear(d, 2 * d, 1)
            + Cost::linear(d, p2 * self.outputs, t)
    }

    /// The network, its parameters made below `root`.
    pub fn build(&self, root: &Scope) -> Dit {
        let (d, eps) = (self.width, 1e-6);
        let (waves, mlp_eps) = match self.arithmetic {
            Arithmetic::Original => (Waves::CosSin, eps),
            Arithmetic::Diffusers => (Waves::CosSinClosed, 1e-5),
        };
        let embed = Linear::patches(&root.sub("x_embedder.proj"), self.input[0], self.patch, d, Init::Xavier);
        let time = TimeEmbedding::new(&root.sub("t_embedder.mlp"), WAVES, d, waves, Init::Normal(0.02));
        let label = (self.classes > 0).then(|| {
            LabelEmbedding::new(&root.sub("y_embedder.embedding_table"), self.classes, d, self.null_label, 0.02)
        });
        let positions = root.buffer("pos_embed", position_table(self.grid(), d));
        let blocks = (0..self.depth).map(|i| Block::new(&root.sub("blocks").sub(i), self, mlp_eps)).collect();
        let last = root.sub("final_layer");
        Dit {
            embed,
            time,
            label,
            positions,
            blocks,
            norm: LayerNorm::new(d, eps),
            out: Linear::new(&last.sub("linear"), d, self.patch * self.patch * self.outputs, Init::Zeros),
            modulation: Linear::new(&last.sub("adaLN_modulation.1"), d, 2 * d, Init::Zeros),
            names: (0..self.depth).map(|i| format!("blocks.{i}")).collect(),
            plan: self.clone(),
        }
    }
}

/// Fixed sines and cosines of a patch's place, `[1, T, D]`: the first half of D for the column, the second for the row,
/// each half `[sin, cos]` of the place times 10000^(-i / (D/4)).
fn position_table([rows, columns]: [i64; 2], width: i64) -> Tensor {
    let quarter = width >> 2;
    let mut table = Vec::new();
    for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
        for place in [column, row] {
            let phase = |i: i64| place as f64 * 10_000.0_f64.powf(-(i as f64) / quarter as f64);
            table.extend((0..quarter).map(|i| phase(i).sin()));
            table.extend((0..quarter).map(|i| phase(i).cos()));
        }
    }
    Tensor::from_slice(&table).to_kind(Kind::Float).view([1, rows * columns, width])
}

/// `x + gate h`, `gate`: `[B, 1, D]`.
fn gated(x: &Tensor, gate: &Tensor, h: &Tensor) -> Tensor {
    shim::gated(x, gate, h).unwrap_or_else(|| x.addcmul(gate, h))
}

/// `second(gelu(first(x)))`.
fn perceptron(first: &Now<'_>, second: &Now<'_>, x: &Tensor) -> Tensor {
    let together = if first.stands() { None } else { shim::mlp_gelu(x, first.parts(), second.parts()) };
    together.unwrap_or_else(|| {
        let h = first.forward(x);
        second.forward(&shim::gelu_tanh(&h).unwrap_or_else(|| h.gelu("tanh")))
    })
}

/// Tokens that pass through a block of this width together in inference on a processor: few enough for what a block makes of them to stay in
/// the cache of one core, enough to pay for reading the weights again. Our own products fetch weights ahead; libtorch's want more rows.
fn few_rows(width: i64) -> i64 {
    if shim::own_products() { 256 } else { width.max(256) }
}

#[derive(Debug)]
struct Block {
    attention_norm: LayerNorm,
    mlp_norm: LayerNorm,
    qkv: Linear,
    proj: Linear,
    fc1: Linear,
    fc2: Linear,
    modulation: Linear,
    heads: i64,
}

impl Block {
    fn new(p: &Scope, plan: &DitPlan, mlp_eps: f64) -> Self {
        let d = plan.width;
        Self {
            attention_norm: LayerNorm::new(d, 1e-6),
            mlp_norm: LayerNorm::new(d, mlp_eps),
            qkv: Linear::new(&p.sub("attn.qkv"), d, 3 * d, Init::Xavier),
            proj: Linear::new(&p.sub("attn.proj"), d, d, Init::Xavier),
            fc1: Linear::new(&p.sub("mlp.fc1"), d, plan.hidden, Init::Xavier),
            fc2: Linear::new(&p.sub("mlp.fc2"), plan.hidden, d, Init::Xavier),
            modulation: Linear::new(&p.sub("adaLN_modulation.1"), d, 6 * d, Init::Zeros),
            heads: plan.heads,
        }
    }

    /// `x`: `[B, T, D]`, `c`: `[B, D]`, already through SiLU.
    fn forward(&self, x: &Tensor, c: &Tensor) -> Tensor {
        let m = self.modulation.forward(c).unsqueeze(1); // [B, 1, 6 D]
        let few = few_rows(x.size()[2]).div_euclid(x.size()[1]).max(1);
        let rows = [x.size()[0], x.size()[1]];
        let [qkv, proj, fc1, fc2] = [&self.qkv, &self.proj, &self.fc1, &self.fc2].map(|l| l.now(rows));
        let modulated = |x: &Tensor, m: &Tensor| {
            let m = m.chunk(6, -1); // shift, scale and gate of attention and of the perceptron, [B, 1, D]
            let h = self.attention_norm.modulated(x, &m[0], &m[1]);
            let h = proj.forward(&attend(&qkv.forward(&h), self.heads, HeadOrder::QkvFirst));
            let x = gated(x, &m[2], &h);
            let h = self.mlp_norm.modulated(&x, &m[3], &m[4]);
            gated(&x, &m[5], &perceptron(&fc1, &fc2, &h))
        };
        // With oneDNN's products in bf16 shares were not measured.
        let share = |part: &[Tensor]| modulated(&part[0], &part[1]);
        let shares = m.kind() == Kind::Float || shim::own_bf16();
        let shared = if shares { shim::by_samples(&[x, &m], few, &share) } else { None };
        shared.unwrap_or_else(|| modulated(x, &m))
    }
}

/// The DiT.
#[derive(Debug)]
pub struct Dit {
    plan: DitPlan,
    embed: Linear,
    time: TimeEmbedding,
    label: Option<LabelEmbedding>,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    out: Linear,
    modulation: Linear,
    names: Vec<String>,
}

impl Dit {
    /// `[B, C, H, W]` cut into `[B, T, C p p]`.
    fn patches(&self, x: &Tensor) -> Tensor {
        let ([rows, columns], p) = (self.plan.grid(), self.plan.patch);
        let x = x.reshape([-1, self.plan.input[0], rows, p, columns, p]);
        x.permute([0, 2, 4, 1, 3, 5]).reshape([-1, rows * columns, self.plan.input[0] * p * p])
    }

    /// `[B, T, p p C']` put together as `[B, C', H, W]`.
    fn picture(&self, x: &Tensor) -> Tensor {
        let ([rows, columns], p, c) = (self.plan.grid(), self.plan.patch, self.plan.outputs);
        let x = x.view([-1, rows, columns, p, p, c]).permute([0, 5, 1, 3, 2, 4]);
        x.reshape([-1, c, rows * p, columns * p])
    }
}

impl Network for Dit {
    fn forward_with(&self, x: &Tensor, t: &Tensor, c: &Condition, tap: Tap<'_>) -> Tensor {
        let mut e = self.time.forward(t); // [B, D]
        if let Some(label) = &self.label {
            e += label.forward(c, x.size()[0], x.device());
        }
        let e = e.silu(); // every modulation starts with it
        let mut h = self.embed.forward(&self.patches(x)) + &self.positions; // [B, T, D]
        for (block, name) in self.blocks.iter().zip(&self.names) {
            h = block.forward(&h, &e);
            tap(name, &h);
        }
        let m = self.modulation.forward(&e).unsqueeze(1).chunk(2, -1); // shift, scale [B, 1, D]
        self.picture(&self.out.forward(&self.norm.modulated(&h, &m[0], &m[1])))
    }

    fn blocks(&self) -> Vec<String> {
        self.names.clone()
    }

    fn macs(&self) -> u64 {
        self.plan.cost().macs
    }
}

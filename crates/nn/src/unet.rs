//! # The U-Net of ADM
//! arXiv 2105.05233 (Dhariwal and Nichol 2021) - reference: openai/guided-diffusion
//!
//! Residual blocks going down and up again, each level of the way up joined with what the way down remembered. Time and
//! class act inside each residual block as scale and shift, and so does a latent vector where there is one. Parameter names are the reference's. Dropout is left out.

use crate::attention::{HeadOrder, attend};
use crate::label::LabelEmbedding;
use crate::layers::{Conv2d, GroupNorm, Init, Layout, Linear};
use crate::time::TimeEmbedding;
use crate::unet_config::{Embedded, Resample};
use crate::unet_plan::{Piece, Scale, Stage, UnetPlan};
use pentimento_core::{Condition, Network, Scope, Tap};
use tch::Tensor;

fn halve(x: &Tensor) -> Tensor {
    x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)
}

fn double(x: &Tensor) -> Tensor {
    let size = x.size();
    x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None)
}

#[derive(Debug)]
struct Residual {
    norm1: GroupNorm,
    conv1: Conv2d,
    embed: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    skip: Option<Conv2d>,
    latent: Option<Latent>,
    scale: Scale,
    embedded: Embedded,
}

/// Scale and shift from a section of the latent vector.
#[derive(Debug)]
struct Latent {
    linear: Linear,
    /// First entry and length.
    section: [i64; 2],
}

/// What residual blocks are told, both already through SiLU.
struct Told {
    /// Time and class, `[B, E]`.
    e: Tensor,
    /// The latent vector, `[B, Z]`.
    z: Option<Tensor>,
}

impl Residual {
    fn new(p: &Scope, plan: &UnetPlan, [inputs, outputs, place]: [i64; 3], scale: Scale) -> Self {
        let factor = if plan.embedded == Embedded::ScaleShift { 2 } else { 1 };
        let conv = |name, size, init| Conv2d::new(&p.sub(name), size, 1, init, plan.layout);
        let latent = |section: [i64; 2]| {
            let linear = Linear::new(&p.sub("cond_emb_layers.1"), section[1], 2 * outputs, Init::Torch);
            Latent { linear, section }
        };
        Self {
            norm1: GroupNorm::new(&p.sub("in_layers.0"), plan.groups, inputs, plan.norm_eps),
            conv1: conv("in_layers.2", [inputs, outputs, 3], Init::Torch),
            embed: Linear::new(&p.sub("emb_layers.1"), plan.embedding(), factor * outputs, Init::Torch),
            norm2: GroupNorm::new(&p.sub("out_layers.0"), plan.groups, outputs, plan.norm_eps),
            conv2: conv("out_layers.3", [outputs, outputs, 3], Init::Zeros),
            skip: (inputs != outputs).then(|| conv("skip_connection", [inputs, outputs, 1], Init::Torch)),
            latent: plan.latent.map(|l| latent(l.section(place))),
            scale,
            embedded: plan.embedded,
        }
    }

    /// Scale and shift of the latent, `[B, C]` both.
    fn latent(&self, told: &Told) -> Option<[Tensor; 2]> {
        let (latent, z) = (self.latent.as_ref()?, told.z.as_ref()?);
        let [from, length] = latent.section;
        let z = latent.linear.forward(&z.narrow(1, from, length)).chunk(2, 1);
        Some([z[0].shallow_clone(), z[1].shallow_clone()])
    }

    /// `x`: `[B, C, H, W]`.
    fn forward(&self, x: &Tensor, told: &Told) -> Tensor {
        let h = self.norm1.silu(x);
        let (x, h) = match self.scale {
            Scale::Keep => (x.shallow_clone(), h),
            Scale::Halve => (halve(x), halve(&h)),
            Scale::Double => (double(x), double(&h)),
        };
        let h = self.conv1.forward(&h);
        let e = self.embed.forward(&told.e);
        let h = match (self.embedded, self.latent(told)) {
            (Embedded::ScaleShift, latent) => {
                let e = e.chunk(2, 1); // scale, shift [B, C]
                match latent {
                    None => self.norm2.modulated_silu(&h, &e[0], &e[1]),
                    // (1 + z_s) ((1 + t_s) h + t_b) + z_b as one scale and shift
                    Some([scale, shift]) => {
                        let grown = &scale + 1.0;
                        self.norm2.modulated_silu(&h, &scale.addcmul(&e[0], &grown), &shift.addcmul(&e[1], &grown))
                    }
                }
            }
            (Embedded::Added, None) => self.norm2.silu(&(h + e.unsqueeze(-1).unsqueeze(-1))),
            (Embedded::Added, Some([scale, shift])) => {
                self.norm2.modulated_silu(&(h + e.unsqueeze(-1).unsqueeze(-1)), &scale, &shift)
            }
        };
        let h = self.conv2.forward(&h);
        match &self.skip {
            Some(skip) => skip.forward(&x) + h,
            None => x + h,
        }
    }
}

#[derive(Debug)]
struct Attention {
    norm: GroupNorm,
    qkv: Linear,
    proj: Linear,
    heads: i64,
    order: HeadOrder,
}

impl Attention {
    fn new(p: &Scope, plan: &UnetPlan, channels: i64, heads: i64) -> Self {
        Self {
            norm: GroupNorm::new(&p.sub("norm"), plan.groups, channels, plan.norm_eps),
            qkv: Linear::pointwise(&p.sub("qkv"), channels, 3 * channels, Init::Torch),
            proj: Linear::pointwise(&p.sub("proj_out"), channels, channels, Init::Zeros),
            heads,
            order: plan.head_order,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let tokens = self.norm.forward(x).flatten(2, 3).transpose(1, 2); // [B, T, C], a view where channels are last
        let [qkv, proj] = [&self.qkv, &self.proj].map(|l| l.now([size[0], size[2] * size[3]]));
        let h = proj.forward(&attend(&qkv.forward(&tokens), self.heads, self.order));
        x + h.transpose(1, 2).view(size.as_slice())
    }
}

#[derive(Debug)]
enum Part {
    Conv(Conv2d),
    Residual(Residual),
    Attention(Attention),
    Down(Option<Conv2d>, Resample),
    Up(Option<Conv2d>),
}

impl Part {
    fn new(p: &Scope, plan: &UnetPlan, piece: Piece, place: i64) -> Self {
        let learned = plan.resample != Resample::Pool;
        let conv = |p: &Scope, size, stride| Conv2d::new(p, size, stride, Init::Torch, plan.layout);
        match piece {
            Piece::Stem { inputs, outputs } => Self::Conv(conv(p, [inputs, outputs, 3], 1)),
            Piece::Residual { inputs, outputs, scale } => {
                Self::Residual(Residual::new(p, plan, [inputs, outputs, place], scale))
            }
            Piece::Attention { channels, heads } => Self::Attention(Attention::new(p, plan, channels, heads)),
            Piece::Down { channels: c } => Self::Down(learned.then(|| conv(&p.sub("op"), [c, c, 3], 2)), plan.resample),
            Piece::Up { channels: c } => Self::Up(learned.then(|| conv(&p.sub("conv"), [c, c, 3], 1))),
        }
    }

    fn forward(&self, x: &Tensor, told: &Told) -> Tensor {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Residual(r) => r.forward(x, told),
            Self::Attention(a) => a.forward(x),
            Self::Down(Some(conv), Resample::ConvRight) => conv.unpadded(&x.constant_pad_nd([0, 1, 0, 1])),
            Self::Down(Some(conv), _) => conv.forward(x),
            Self::Down(None, _) => halve(x),
            Self::Up(Some(conv)) => conv.forward(&double(x)),
            Self::Up(None) => double(x),
        }
    }
}

#[derive(Debug)]
struct Run {
    name: String,
    parts: Vec<Part>,
}

impl Run {
    fn new(root: &Scope, plan: &UnetPlan, stage: &Stage) -> Self {
        let p = root.sub(&stage.name);
        let part = |(j, piece): (usize, &Piece)| Part::new(&p.sub(j), plan, *piece, stage.place);
        let parts = stage.pieces.iter().enumerate().map(part).collect();
        Self { name: stage.name.clone(), parts }
    }

    fn forward(&self, x: &Tensor, told: &Told) -> Tensor {
        let mut h = x.shallow_clone();
        for part in &self.parts {
            h = part.forward(&h, told);
        }
        h
    }
}

/// The U-Net.
#[derive(Debug)]
pub struct Unet {
    time: TimeEmbedding,
    label: Option<LabelEmbedding>,
    /// Z, if there is a latent.
    latent: Option<i64>,
    down: Vec<Run>,
    middle: Run,
    up: Vec<Run>,
    norm: GroupNorm,
    out: Conv2d,
    layout: Layout,
    macs: u64,
}

impl UnetPlan {
    /// The network, its parameters made below `root`.
    pub fn build(&self, root: &Scope) -> Unet {
        let runs = |stages: &[Stage]| stages.iter().map(|s| Run::new(root, self, s)).collect();
        let label = |k| LabelEmbedding::new(&root.sub("label_emb"), k, self.embedding(), self.null_label, 1.0);
        Unet {
            time: TimeEmbedding::new(&root.sub("time_embed"), self.channels, self.embedding(), self.waves, Init::Torch),
            label: (self.classes > 0).then(|| label(self.classes)),
            latent: self.latent.map(|l| l.width),
            down: runs(&self.down),
            middle: Run::new(root, self, &self.middle),
            up: runs(&self.up),
            norm: GroupNorm::new(&root.sub("out.0"), self.groups, self.first, self.norm_eps),
            out: Conv2d::new(&root.sub("out.2"), [self.first, self.outputs, 3], 1, Init::Zeros, self.layout),
            layout: self.layout,
            macs: self.cost().macs,
        }
    }
}

/// The latent vector of a condition, `[B, Z]`; zeros without one.
fn latent(c: &Condition, size: [i64; 2], x: &Tensor) -> Tensor {
    match &c.c {
        Some(z) => {
            assert_eq!(z.size(), size, "the latent vector of a condition");
            z.to_device(x.device())
        }
        None => Tensor::zeros(size, (x.kind(), x.device())),
    }
}

impl Network for Unet {
    fn forward_with(&self, x: &Tensor, t: &Tensor, c: &Condition, tap: Tap<'_>) -> Tensor {
        let mut e = self.time.forward(t); // [B, E]
        // The vector of a condition is the latent's where there is one, and else the label's.
        let (z, c) = match self.latent {
            Some(width) => (Some(latent(c, [x.size()[0], width], x)), Condition { c: None, ..c.clone() }),
            None => (None, c.clone()),
        };
        if let Some(label) = &self.label {
            e += label.forward(&c, x.size()[0], x.device());
        }
        let told = Told { e: e.silu(), z: z.map(|z| z.silu()) }; // every residual block starts with it
        let mut h = self.layout.enter(x);
        let mut skips = Vec::with_capacity(self.down.len());
        for run in &self.down {
            h = run.forward(&h, &told);
            tap(&run.name, &h);
            skips.push(h.shallow_clone());
        }
        h = self.middle.forward(&h, &told);
        tap(&self.middle.name, &h);
        for (run, skip) in self.up.iter().zip(skips.into_iter().rev()) {
            h = run.forward(&Tensor::cat(&[h, skip], 1), &told);
            tap(&run.name, &h);
        }
        self.out.forward(&self.norm.silu(&h))
    }

    fn blocks(&self) -> Vec<String> {
        self.down.iter().chain([&self.middle]).chain(&self.up).map(|r| r.name.clone()).collect()
    }

    fn macs(&self) -> u64 {
        self.macs
    }
}

//! diffusers' `config.json` of two networks, read into our settings.

use crate::attention::HeadOrder;
use crate::label::NullLabel;
use crate::time::Waves;
use crate::unet_config::{Embedded, Resample};
use crate::{Arithmetic, DitConfig, Error, Input, UnetConfig};
use serde::Deserialize;

/// One size for both sides, or height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum SampleSize {
    /// Square.
    Square(i64),
    /// `[H, W]`.
    Sides([i64; 2]),
}

impl SampleSize {
    fn sides(self) -> [i64; 2] {
        match self {
            Self::Square(n) => [n, n],
            Self::Sides(s) => s,
        }
    }
}

/// `config.json` of a `DiTTransformer2DModel`; absent keys have diffusers' defaults, unknown ones are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are diffusers'")]
pub struct DitTransformer2d {
    pub num_attention_heads: i64,
    pub attention_head_dim: i64,
    pub in_channels: i64,
    pub out_channels: Option<i64>,
    pub num_layers: i64,
    pub sample_size: SampleSize,
    pub patch_size: i64,
    pub activation_fn: String,
    pub num_embeds_ada_norm: i64,
    pub attention_bias: bool,
    pub norm_type: String,
    pub norm_elementwise_affine: bool,
    pub norm_eps: f64,
}

impl Default for DitTransformer2d {
    fn default() -> Self {
        Self {
            num_attention_heads: 16,
            attention_head_dim: 72,
            in_channels: 4,
            out_channels: None,
            num_layers: 28,
            sample_size: SampleSize::Square(32),
            patch_size: 2,
            activation_fn: "gelu-approximate".into(),
            num_embeds_ada_norm: 1000,
            attention_bias: true,
            norm_type: "ada_norm_zero".into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-5,
        }
    }
}

fn need<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &[T]) -> Result<(), Error> {
    if want.contains(got) {
        return Ok(());
    }
    let want: Vec<String> = want.iter().map(|w| format!("{w:?}")).collect();
    Err(Error::unsupported(what, format!("{got:?}"), &format!("only {} is", want.join(" or "))))
}

impl DitTransformer2d {
    /// Our settings, images and number of classes. diffusers' arithmetic differs from the original's in two constants:
    /// see [`Arithmetic`]; set it to `Original` for weights that were trained with facebookresearch/DiT.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn ours(&self) -> Result<(DitConfig, Input, i64), Error> {
        need("activation_fn", &self.activation_fn, &["gelu-approximate".into()])?;
        need("norm_type", &self.norm_type, &["ada_norm_zero".into()])?;
        need("attention_bias", &self.attention_bias, &[true])?;
        need("norm_elementwise_affine", &self.norm_elementwise_affine, &[false])?;
        need("norm_eps", &self.norm_eps, &[1e-5])?;
        let outputs = self.out_channels.unwrap_or(self.in_channels);
        need("out_channels", &outputs, &[self.in_channels, 2 * self.in_channels])?;
        let width = self.num_attention_heads * self.attention_head_dim;
        let config = DitConfig {
            learn_sigma: outputs > self.in_channels,
            arithmetic: Arithmetic::Diffusers,
            ..DitConfig::sized([self.patch_size, width, self.num_layers, self.num_attention_heads])
        };
        let [h, w] = self.sample_size.sides();
        Ok((config, [self.in_channels, h, w], self.num_embeds_ada_norm))
    }
}

/// `config.json` of a `UNet2DModel`; absent keys have diffusers' defaults, unknown ones are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are diffusers'")]
pub struct Unet2d {
    pub sample_size: Option<SampleSize>,
    pub in_channels: i64,
    pub out_channels: i64,
    pub center_input_sample: bool,
    pub time_embedding_type: String,
    pub time_embedding_dim: Option<i64>,
    pub freq_shift: i64,
    pub flip_sin_to_cos: bool,
    pub down_block_types: Vec<String>,
    pub mid_block_type: Option<String>,
    pub up_block_types: Vec<String>,
    pub block_out_channels: Vec<i64>,
    pub layers_per_block: i64,
    pub mid_block_scale_factor: f64,
    pub downsample_padding: i64,
    pub downsample_type: String,
    pub upsample_type: String,
    pub act_fn: String,
    pub attention_head_dim: Option<i64>,
    pub norm_num_groups: i64,
    pub attn_norm_num_groups: Option<i64>,
    pub norm_eps: f64,
    pub resnet_time_scale_shift: String,
    pub add_attention: bool,
    pub class_embed_type: Option<String>,
    pub num_class_embeds: Option<i64>,
}

impl Default for Unet2d {
    fn default() -> Self {
        let names = |list: [&str; 4]| list.map(String::from).to_vec();
        Self {
            sample_size: None,
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            time_embedding_type: "positional".into(),
            time_embedding_dim: None,
            freq_shift: 0,
            flip_sin_to_cos: true,
            down_block_types: names(["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"]),
            mid_block_type: Some("UNetMidBlock2D".into()),
            up_block_types: names(["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"]),
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            downsample_padding: 1,
            downsample_type: "conv".into(),
            upsample_type: "conv".into(),
            act_fn: "silu".into(),
            attention_head_dim: Some(8),
            norm_num_groups: 32,
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            resnet_time_scale_shift: "default".into(),
            add_attention: true,
            class_embed_type: None,
            num_class_embeds: None,
        }
    }
}

impl Unet2d {
    /// Our settings, images and number of classes.
    ///
    /// # Errors
    /// [`Error::Unsupported`], for what the ADM U-Net has no counterpart of: other block types (skip, FIR, cross
    /// attention), Fourier or learned times, a middle attention normalised otherwise than the rest.
    pub fn ours(&self) -> Result<(UnetConfig, Input, i64), Error> {
        need("center_input_sample", &self.center_input_sample, &[false])?;
        need("time_embedding_type", &self.time_embedding_type, &["positional".into()])?;
        need("mid_block_type", &self.mid_block_type, &[Some("UNetMidBlock2D".into())])?;
        need("mid_block_scale_factor", &self.mid_block_scale_factor, &[1.0])?;
        need("act_fn", &self.act_fn, &["silu".into(), "swish".into()])?;
        need("class_embed_type", &self.class_embed_type, &[None])?;
        need("out_channels", &self.out_channels, &[self.in_channels, 2 * self.in_channels])?;
        let first = *self.block_out_channels.first().unwrap_or(&0);
        need("time_embedding_dim", &self.time_embedding_dim, &[None, Some(4 * first)])?;
        let embedded = match self.resnet_time_scale_shift.as_str() {
            "default" => Embedded::Added,
            "scale_shift" => Embedded::ScaleShift,
            other => return Err(Error::unsupported("resnet_time_scale_shift", other, "default and scale_shift are")),
        };
        if self.add_attention {
            // Without this number, scale_shift leaves the middle attention without a normalisation.
            let same = Some(self.norm_num_groups);
            let wanted: &[_] = if embedded == Embedded::Added { &[None, same] } else { &[same] };
            need("attn_norm_num_groups", &self.attn_norm_num_groups, wanted)?;
        }
        let waves = match (self.flip_sin_to_cos, self.freq_shift) {
            (true, 0) => Waves::CosSin,
            (true, 1) => Waves::CosSinClosed,
            (false, 1) => Waves::SinCosClosed,
            (_, shift) => return Err(Error::unsupported("freq_shift", shift, "1 is, and 0 where flip_sin_to_cos")),
        };
        let (attention, resample) = self.levels()?;
        let size = self.sample_size.ok_or_else(|| Error::unsupported("sample_size", "null", "a size is needed"))?;
        let config = UnetConfig {
            channels: Some(first),
            mult: Some(self.block_out_channels.iter().map(|c| *c as f64 / first as f64).collect()),
            blocks: Some(self.layers_per_block),
            attention: Some(attention),
            middle_attention: Some(self.add_attention),
            heads: if self.attention_head_dim.is_none() { Some(1) } else { None },
            head_channels: self.attention_head_dim,
            head_order: Some(HeadOrder::QkvFirst),
            embedded: Some(embedded),
            resample: Some(resample),
            waves: Some(waves),
            groups: Some(self.norm_num_groups),
            norm_eps: Some(self.norm_eps),
            learn_sigma: self.out_channels > self.in_channels,
            null_label: NullLabel::Absent,
            ..UnetConfig::default()
        };
        let [h, w] = size.sides();
        Ok((config, [self.in_channels, h, w], self.num_class_embeds.unwrap_or(0)))
    }

    /// Factors of the levels with attention, and how resolution changes.
    fn levels(&self) -> Result<(Vec<i64>, Resample), Error> {
        let (down, up) = (&self.down_block_types, &self.up_block_types);
        let n = self.block_out_channels.len();
        if down.len() != n || up.len() != n {
            let got = format!("{} and {} for {n} widths", down.len(), up.len());
            return Err(Error::unsupported("the number of block types", got, "each width needs one down and one up"));
        }
        let (mut attention, mut changes) = (Vec::new(), Vec::new());
        for (level, (d, u)) in down.iter().zip(up.iter().rev()).enumerate() {
            let (attends, residual) = match d.as_str() {
                "DownBlock2D" => (false, false),
                "AttnDownBlock2D" => (true, self.downsample_type == "resnet"),
                "ResnetDownsampleBlock2D" => (false, true),
                other => return Err(Error::unsupported("down_block_types", other, "this block has no counterpart")),
            };
            let (also, residual_up) = match u.as_str() {
                "UpBlock2D" => (false, false),
                "AttnUpBlock2D" => (true, self.upsample_type == "resnet"),
                "ResnetUpsampleBlock2D" => (false, true),
                other => return Err(Error::unsupported("up_block_types", other, "this block has no counterpart")),
            };
            if attends != also {
                return Err(Error::unsupported("up_block_types", u, &format!("it must mirror {d}")));
            }
            if attends {
                attention.push(1 << level);
            }
            // The last level down and the last level up change nothing.
            if level + 1 < n {
                changes.push(residual);
            }
            if level > 0 {
                changes.push(residual_up);
            }
        }
        let conv = if self.downsample_padding == 0 { Resample::ConvRight } else { Resample::Conv };
        match (changes.iter().any(|r| *r), changes.iter().all(|r| *r)) {
            (false, _) => Ok((attention, conv)),
            (true, true) => Ok((attention, Resample::Residual)),
            _ => Err(Error::unsupported("downsample_type", "mixed", "all levels must change resolution alike")),
        }
    }
}

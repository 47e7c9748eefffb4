//! The settings of a U-Net: what a recipe writes, the published networks, and the checks.

use crate::attention::HeadOrder;
use crate::label::NullLabel;
use crate::layers::Layout;
use crate::time::Waves;
use crate::unet_plan::{Heads, Levels, UnetPlan};
use crate::{Error, Input};
use serde::{Deserialize, Serialize};

/// How the embedding of time and class acts inside a residual block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Embedded {
    /// Scale and shift after the second normalisation (ADM).
    #[default]
    ScaleShift,
    /// Added before the second normalisation (DDPM).
    Added,
}

/// How resolution changes between levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// A convolution of stride 2 down, nearest neighbour and a convolution up.
    #[default]
    Conv,
    /// As `conv`, with the border of the strided convolution on the right and below only (DDPM).
    ConvRight,
    /// Residual blocks that average or repeat pixels inside (ADM's `resblock_updown`).
    Residual,
    /// Average and nearest neighbour, nothing learned.
    Pool,
}

/// A vector z that acts in every residual block after time: h -> (1 + z_s) h + z_b with (z_s, z_b) linear in SiLU(z).
///
/// It is the condition's vector; without one, and where it is zero, it counts as dropped. Cut into m sections, the first acts at
/// full resolution, on the way down and up again, the second one level below, and so on; one section more than levels
/// gives the middle its own. The last section of fewer acts in all that is below.
///
/// # Source
/// Hudson et al. 2023 (arXiv 2311.17901, section 3.2); with one section Preechakul et al. 2021 (arXiv 2111.15640), whose
/// parameter name it has, `cond_emb_layers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentConfig {
    /// Z, numbers in the vector.
    pub width: i64,
    /// m, equal sections of it; each place in the network sees one.
    pub sections: i64,
}

impl LatentConfig {
    /// First entry and length of the section that acts at a level; the middle counts as one below the last.
    pub(crate) fn section(self, place: i64) -> [i64; 2] {
        let each = self.width.div_euclid(self.sections);
        [place.min(self.sections - 1) * each, each]
    }

    fn check(self, levels: usize) -> Result<Self, Error> {
        at_least_one("latent.width", self.width)?;
        let most = i64::try_from(levels).unwrap_or(i64::MAX) + 1;
        if !(1..=most).contains(&self.sections) {
            let want = format!("1 to {most}, one for each level and the middle");
            return Err(Error::range("network.unet.latent.sections", self.sections, &want));
        }
        if self.width % self.sections != 0 {
            return Err(Error::indivisible("network.unet.latent.sections", self.sections, self.width, "the width"));
        }
        Ok(self)
    }
}

/// A U-Net as a recipe describes it. Fields that are given replace those of the preset, or of a small U-Net.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnetConfig {
    /// A published network: `ADM-{64,128,256,512}`, `iDDPM-CIFAR10`, `DDPM-CIFAR10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Base width; 64 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<i64>,
    /// Width of each level over the base; one entry a level; `[1, 2, 2]` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mult: Option<Vec<f64>>,
    /// Residual blocks a level; 2 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<i64>,
    /// Levels with attention, named by their factor of downsampling: 1, 2, 4, ...; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<Vec<i64>>,
    /// Whether the middle block has attention; it does if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub middle_attention: Option<bool>,
    /// Heads of every attention; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<i64>,
    /// Channels a head, instead of `heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_channels: Option<i64>,
    /// How the fused projection of attention is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_order: Option<HeadOrder>,
    /// How time and class act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<Embedded>,
    /// How resolution changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resample: Option<Resample>,
    /// Sines and cosines of the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waves: Option<Waves>,
    /// Groups of every normalisation; 32 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<i64>,
    /// Guard of every normalisation; 1e-5 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f64>,
    /// A vector that acts in every residual block; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentConfig>,
    /// Also predict the variance: twice the channels come out.
    pub learn_sigma: bool,
    /// What stands for a dropped label. Published ADM weights have none.
    pub null_label: NullLabel,
    /// Order in memory.
    pub layout: Layout,
}

/// Names of the published networks.
const PRESETS: [&str; 6] = ["ADM-64", "ADM-128", "ADM-256", "ADM-512", "iDDPM-CIFAR10", "DDPM-CIFAR10"];

impl UnetConfig {
    /// The config of a published network: Dhariwal and Nichol 2021 (arXiv 2105.05233, flags in openai/guided-diffusion),
    /// Nichol and Dhariwal 2021 (arXiv 2102.09672), Ho et al. 2020 (arXiv 2006.11239).
    ///
    /// # Errors
    /// [`Error::UnknownChoice`].
    pub fn preset(name: &str) -> Result<Self, Error> {
        let adm = |channels, mult: &[f64], blocks, attention: &[i64]| Self {
            channels: Some(channels),
            mult: Some(mult.into()),
            blocks: Some(blocks),
            attention: Some(attention.into()),
            head_channels: Some(64),
            head_order: Some(HeadOrder::HeadsFirst),
            resample: Some(Resample::Residual),
            ..Self::default()
        };
        Ok(match name {
            "ADM-64" => {
                let head_order = Some(HeadOrder::QkvFirst);
                Self { head_order, ..adm(192, &[1.0, 2.0, 3.0, 4.0], 3, &[2, 4, 8]) }
            }
            "ADM-128" => {
                Self { heads: Some(4), head_channels: None, ..adm(256, &[1.0, 1.0, 2.0, 3.0, 4.0], 2, &[4, 8, 16]) }
            }
            "ADM-256" => adm(256, &[1.0, 1.0, 2.0, 2.0, 4.0, 4.0], 2, &[8, 16, 32]),
            "ADM-512" => adm(256, &[0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0], 2, &[16, 32, 64]),
            "iDDPM-CIFAR10" => Self {
                heads: Some(4),
                head_channels: None,
                resample: None,
                ..adm(128, &[1.0, 2.0, 2.0, 2.0], 3, &[2, 4])
            },
            "DDPM-CIFAR10" => Self {
                head_channels: None,
                head_order: None,
                embedded: Some(Embedded::Added),
                resample: Some(Resample::ConvRight),
                waves: Some(Waves::SinCosClosed),
                norm_eps: Some(1e-6),
                ..adm(128, &[1.0, 2.0, 2.0, 2.0], 2, &[2])
            },
            _ => return Err(Error::unknown("network.unet.preset", name, &PRESETS.map(String::from))),
        })
    }

    /// Whether a name is one of [`UnetConfig::preset`].
    pub fn names() -> &'static [&'static str] {
        &PRESETS
    }

    fn over(&self, base: Self) -> Self {
        let own = self.clone();
        Self {
            preset: None,
            channels: own.channels.or(base.channels),
            mult: own.mult.or(base.mult),
            blocks: own.blocks.or(base.blocks),
            attention: own.attention.or(base.attention),
            middle_attention: own.middle_attention.or(base.middle_attention),
            // One way of naming the heads replaces the other.
            heads: own.heads.or(if own.head_channels.is_some() { None } else { base.heads }),
            head_channels: own.head_channels.or(if own.heads.is_some() { None } else { base.head_channels }),
            head_order: own.head_order.or(base.head_order),
            embedded: own.embedded.or(base.embedded),
            resample: own.resample.or(base.resample),
            waves: own.waves.or(base.waves),
            groups: own.groups.or(base.groups),
            norm_eps: own.norm_eps.or(base.norm_eps),
            ..own
        }
    }

    /// Checks everything against the images and the number of classes (0 = unconditional).
    ///
    /// # Errors
    /// One sentence on the first setting that does not fit.
    pub fn plan(&self, input: Input, classes: i64) -> Result<UnetPlan, Error> {
        let base = self.preset.as_deref().map_or_else(|| Ok(Self::default()), Self::preset)?;
        let c = self.over(base);
        let channels = at_least_one("channels", c.channels.unwrap_or(64))?;
        let blocks = at_least_one("blocks", c.blocks.unwrap_or(2))?;
        let groups = at_least_one("groups", c.groups.unwrap_or(32))?;
        let norm_eps = c.norm_eps.unwrap_or(1e-5);
        if !(norm_eps > 0.0 && norm_eps < 1.0) {
            return Err(Error::range("network.unet.norm_eps", norm_eps, "between 0 and 1"));
        }
        if channels % 2 != 0 {
            let near = format!("even, such as {} or {}", channels - 1, channels + 1);
            return Err(Error::range("network.unet.channels", channels, &near));
        }
        if classes < 0 {
            return Err(Error::range("classes", classes, "0 (unconditional) or more"));
        }
        let mult = c.mult.clone().unwrap_or_else(|| vec![1.0, 2.0, 2.0]);
        let widths = widths(channels, &mult, groups)?;
        check_size(input, widths.len())?;
        let attention = c.attention.clone().unwrap_or_default();
        let levels: Vec<i64> = (0..widths.len()).map(|l| 1 << l).collect();
        if let Some(bad) = attention.iter().find(|a| !levels.contains(a)) {
            let near = levels.iter().min_by_key(|l| (*l - bad).abs()).copied().unwrap_or(1);
            let all: Vec<String> = levels.iter().map(i64::to_string).collect();
            return Err(Error::UnknownChoice {
                key: "network.unet.attention".into(),
                got: bad.to_string(),
                nearest: near.to_string(),
                choices: all.join(", "),
            });
        }
        let heads = Heads { heads: c.heads, channels: c.head_channels };
        let resample = c.resample.unwrap_or_default();
        let middle_attention = c.middle_attention.unwrap_or(true);
        let latent = c.latent.map(|l| l.check(widths.len())).transpose()?;
        let layout = Levels { widths: &widths, blocks, attention: &attention, heads, resample, middle_attention };
        let (down, middle, up) = layout.stages(input)?;
        Ok(UnetPlan {
            input,
            outputs: if c.learn_sigma { 2 * input[0] } else { input[0] },
            classes,
            channels,
            first: widths[0],
            blocks,
            head_order: c.head_order.unwrap_or_default(),
            embedded: c.embedded.unwrap_or_default(),
            resample,
            waves: c.waves.unwrap_or_default(),
            groups,
            norm_eps,
            null_label: c.null_label,
            latent,
            layout: c.layout,
            down,
            middle,
            up,
        })
    }
}

pub(crate) fn at_least_one(key: &str, value: i64) -> Result<i64, Error> {
    if value < 1 { Err(Error::range(&format!("network.unet.{key}"), value, "at least 1")) } else { Ok(value) }
}

/// Channels of each level.
#[expect(clippy::cast_possible_truncation, reason = "bounded and whole before the cast")]
fn widths(channels: i64, mult: &[f64], groups: i64) -> Result<Vec<i64>, Error> {
    if mult.is_empty() || mult.len() > 10 {
        return Err(Error::range("network.unet.mult", format!("{mult:?}"), "a list of 1 to 10 factors"));
    }
    let mut out = Vec::new();
    for m in mult {
        let w = channels as f64 * m;
        if !(1.0..1e6).contains(&w) || w.fract() > 0.0 {
            let want = format!("a list whose factors times {channels} channels are whole numbers from 1");
            return Err(Error::range("network.unet.mult", format!("{mult:?}"), &want));
        }
        let w = w as i64;
        if w % groups != 0 {
            return Err(Error::indivisible("network.unet.groups", groups, w, "the channels of a level,"));
        }
        out.push(w);
    }
    Ok(out)
}

/// Every level but the first must halve both sides.
fn check_size([channels, height, width]: Input, levels: usize) -> Result<(), Error> {
    if channels < 1 || height < 1 || width < 1 {
        let got = format!("[{channels}, {height}, {width}]");
        return Err(Error::range("the image's shape", got, "at least one channel and one pixel"));
    }
    let factor = 1_i64 << (levels - 1);
    let fits = (height | width).trailing_zeros() as usize + 1;
    if height % factor != 0 || width % factor != 0 {
        let want = format!("a list of at most {fits} levels for images of {height} x {width}, each halving them");
        return Err(Error::range("network.unet.mult", format!("{levels} levels"), &want));
    }
    Ok(())
}

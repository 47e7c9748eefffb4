//! A checked U-Net, laid out as a list of stages, from which the network is built and its cost computed.

use crate::attention::HeadOrder;
use crate::label::NullLabel;
use crate::layers::Layout;
use crate::time::Waves;
use crate::unet_config::{Embedded, LatentConfig, Resample, at_least_one};
use crate::{Cost, Error, Input};

/// What a stage is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Stem { inputs: i64, outputs: i64 },
    Residual { inputs: i64, outputs: i64, scale: Scale },
    Attention { channels: i64, heads: i64 },
    Down { channels: i64 },
    Up { channels: i64 },
}

/// Change of resolution inside a residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Keep,
    Halve,
    Double,
}

/// One entry of `input_blocks` or `output_blocks`, or the middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    pub name: String,
    pub pieces: Vec<Piece>,
    /// Pixels at its entry.
    pub pixels: i64,
    /// Its level, 0 at full resolution; the middle counts as one below the last.
    pub place: i64,
}

/// A checked U-Net.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetPlan {
    /// Channels and size of the input.
    pub input: Input,
    /// Channels of the output.
    pub outputs: i64,
    /// Classes K; 0 = unconditional.
    pub classes: i64,
    /// Base width.
    pub channels: i64,
    /// Channels at full resolution.
    pub first: i64,
    /// Residual blocks a level.
    pub blocks: i64,
    /// How the fused projection of attention is cut.
    pub head_order: HeadOrder,
    /// How time and class act.
    pub embedded: Embedded,
    /// How resolution changes.
    pub resample: Resample,
    /// Sines and cosines of the time.
    pub waves: Waves,
    /// Groups of every normalisation.
    pub groups: i64,
    /// Guard of every normalisation.
    pub norm_eps: f64,
    /// What stands for a dropped label.
    pub null_label: NullLabel,
    /// The latent that acts in every residual block; none = no such input.
    pub latent: Option<LatentConfig>,
    /// Order in memory.
    pub layout: Layout,
    pub(crate) down: Vec<Stage>,
    pub(crate) middle: Stage,
    pub(crate) up: Vec<Stage>,
}

/// How many heads an attention of some width has.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub heads: Option<i64>,
    pub channels: Option<i64>,
}

impl Heads {
    fn at(self, width: i64) -> Result<i64, Error> {
        let (key, got) = match (self.heads, self.channels) {
            (Some(_), Some(c)) => {
                return Err(Error::range("network.unet.head_channels", c, "left out where heads is given"));
            }
            (_, Some(c)) => ("head_channels", c),
            (h, None) => ("heads", h.unwrap_or(1)),
        };
        if at_least_one(key, got)? > width || width % got != 0 {
            let key = format!("network.unet.{key}");
            return Err(Error::indivisible(&key, got, width, "the channels of a level with attention,"));
        }
        Ok(if self.channels.is_some() { width.div_euclid(got) } else { got })
    }
}

/// What lays out the stages.
pub(crate) struct Levels<'a> {
    pub widths: &'a [i64],
    pub blocks: i64,
    pub attention: &'a [i64],
    pub heads: Heads,
    pub resample: Resample,
    pub middle_attention: bool,
}

impl Levels<'_> {
    fn residual(&self, level: usize, inputs: i64) -> Result<Vec<Piece>, Error> {
        let outputs = self.widths[level];
        let mut pieces = vec![Piece::Residual { inputs, outputs, scale: Scale::Keep }];
        if self.attention.contains(&(1 << level)) {
            pieces.push(Piece::Attention { channels: outputs, heads: self.heads.at(outputs)? });
        }
        Ok(pieces)
    }

    fn change(&self, channels: i64, scale: Scale) -> Piece {
        match (self.resample, scale) {
            (Resample::Residual, _) => Piece::Residual { inputs: channels, outputs: channels, scale },
            (_, Scale::Double) => Piece::Up { channels },
            _ => Piece::Down { channels },
        }
    }

    /// The order of openai/guided-diffusion: what goes down is remembered, what goes up takes it back from the end.
    pub fn stages(&self, input: Input) -> Result<(Vec<Stage>, Stage, Vec<Stage>), Error> {
        let last = self.widths.len() - 1;
        let pixels = |level: usize| (input[1] * input[2]) >> (2 * level);
        let mut down = vec![(vec![Piece::Stem { inputs: input[0], outputs: self.widths[0] }], 0)];
        let (mut ch, mut skips) = (self.widths[0], vec![self.widths[0]]);
        for level in 0..=last {
            for _ in 0..self.blocks {
                down.push((self.residual(level, ch)?, level));
                ch = self.widths[level];
                skips.push(ch);
            }
            if level < last {
                down.push((vec![self.change(ch, Scale::Halve)], level));
                skips.push(ch);
            }
        }
        let keep = Piece::Residual { inputs: ch, outputs: ch, scale: Scale::Keep };
        let mut middle = vec![keep];
        if self.middle_attention {
            middle.push(Piece::Attention { channels: ch, heads: self.heads.at(ch)? });
        }
        middle.push(keep);
        let mut up = Vec::new();
        for level in (0..=last).rev() {
            for i in 0..=self.blocks {
                let mut pieces = self.residual(level, ch + skips.pop().unwrap_or(0))?;
                ch = self.widths[level];
                if level > 0 && i == self.blocks {
                    pieces.push(self.change(ch, Scale::Double));
                }
                up.push((pieces, level));
            }
        }
        let place = |level: usize| i64::try_from(level).unwrap_or(i64::MAX);
        let named = |list: Vec<(Vec<Piece>, usize)>, name: &str| {
            let stage = |(i, (pieces, level))| Stage {
                name: format!("{name}.{i}"),
                pieces,
                pixels: pixels(level),
                place: place(level),
            };
            list.into_iter().enumerate().map(stage).collect::<Vec<_>>()
        };
        let middle =
            Stage { name: "middle_block".into(), pieces: middle, pixels: pixels(last), place: place(last + 1) };
        Ok((named(down, "input_blocks"), middle, named(up, "output_blocks")))
    }
}

impl UnetPlan {
    /// Width of the embedding of time and class.
    pub fn embedding(&self) -> i64 {
        4 * self.channels
    }

    pub(crate) fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.down.iter().chain([&self.middle]).chain(&self.up)
    }

    fn piece(&self, piece: Piece, pixels: i64, place: i64) -> Cost {
        match piece {
            Piece::Stem { inputs, outputs } => Cost::conv(inputs, outputs, 3, pixels),
            Piece::Residual { inputs, outputs, scale } => {
                let pixels = match scale {
                    Scale::Keep => pixels,
                    Scale::Halve => pixels >> 2,
                    Scale::Double => pixels << 2,
                };
                let embedded = if self.embedded == Embedded::ScaleShift { 2 * outputs } else { outputs };
                let skip = if inputs == outputs { Cost::default() } else { Cost::conv(inputs, outputs, 1, pixels) };
                let latent = self.latent.map(|l| Cost::linear(l.section(place)[1], 2 * outputs, 1)).unwrap_or_default();
                Cost::affine(inputs)
                    + Cost::conv(inputs, outputs, 3, pixels)
                    + Cost::linear(self.embedding(), embedded, 1)
                    + Cost::affine(outputs)
                    + Cost::conv(outputs, outputs, 3, pixels)
                    + skip
                    + latent
            }
            Piece::Attention { channels: c, .. } => {
                Cost::affine(c)
                    + Cost::linear(c, 3 * c, pixels)
                    + Cost::attention(pixels, c)
                    + Cost::linear(c, c, pixels)
            }
            Piece::Down { .. } | Piece::Up { .. } if self.resample == Resample::Pool => Cost::default(),
            Piece::Down { channels: c } => Cost::conv(c, c, 3, pixels >> 2),
            Piece::Up { channels: c } => Cost::conv(c, c, 3, pixels << 2),
        }
    }

    /// Parameters and multiply-adds.
    pub fn cost(&self) -> Cost {
        let e = self.embedding();
        let labels = if self.classes > 0 { self.null_label.rows(self.classes) } else { 0 };
        let stages = self.stages().map(|s| {
            // Only the last piece of a stage changes the resolution.
            s.pieces.iter().map(|p| self.piece(*p, s.pixels, s.place)).sum::<Cost>()
        });
        Cost::linear(self.channels, e, 1)
            + Cost::linear(e, e, 1)
            + Cost::table(labels, e)
            + stages.sum()
            + Cost::affine(self.first)
            + Cost::conv(self.first, self.outputs, 3, self.input[1] * self.input[2])
    }
}

//! What a user writes: a TOML file of which every key has a default, every unknown key is an error that suggests the
//! nearest one, and any key can be set from the command line as `--set train.lr=2e-4`.

use crate::Error;
use pentimento_core::{choose, nearest};
use pentimento_data::bouncing::BouncingConfig;
use pentimento_data::regimes::RegimesConfig;
use pentimento_data::scenes::ScenesConfig;
use pentimento_data::sprites::SpritesConfig;
use pentimento_diffusion::{Grid, Path, Prediction, Sampler, Spread, Times, Weighting};
use pentimento_nn::NetworkConfig;
use pentimento_torch_shim as shim;
use serde::{Deserialize, Serialize};
use std::path::Path as FsPath;
use std::str::FromStr;
use tch::{Device, Kind};

/// A recipe as typed. [`crate::Plan::new`] checks it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of weights, data order and noise.
    #[serde(default)]
    pub seed: u64,
    /// What is learned from.
    pub data: DataTable,
    /// The backbone.
    pub network: NetworkConfig,
    /// The noise process and the loss.
    #[serde(default)]
    pub diffusion: DiffusionTable,
    /// Length, step sizes, cadences.
    pub train: TrainTable,
    /// How pictures are drawn during training and by default afterwards.
    #[serde(default)]
    pub sample: SampleTable,
    /// The checks that the report runs on what was learned.
    #[serde(default)]
    pub judge: Option<JudgeTable>,
}

/// `[data]`
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DataTable {
    /// A known name (`pentimento data list`) or a path.
    pub name: String,
    /// Settings of the procedural world `sprites`.
    #[serde(default)]
    pub sprites: Option<SpritesConfig>,
    /// Settings of the procedural world `scenes`.
    #[serde(default)]
    pub scenes: Option<ScenesConfig>,
    /// Settings of the procedural world `bouncing`, whose items are single frames.
    #[serde(default)]
    pub bouncing: Option<BouncingConfig>,
    /// Settings of the procedural world `regimes`, whose items are series: one row of samples.
    #[serde(default)]
    pub regimes: Option<RegimesConfig>,
    /// Items used, the first n in order; 0 = all.
    #[serde(default)]
    pub limit: u64,
    /// Share of the items kept for validation.
    #[serde(default = "default_validation")]
    pub validation: f64,
    /// Another set to validate on, such as `cifar10:test`; then nothing is held out and `validation` is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_on: Option<String>,
    /// Learn the classes; `false` gives a network without labels.
    #[serde(default = "default_labels")]
    pub labels: bool,
    /// Mirror images left-right at random.
    #[serde(default)]
    pub flip: bool,
    /// Shift images by up to so many pixels at random.
    #[serde(default)]
    pub shift: usize,
    /// Edge in pixels to which pictures are resized and centre-cropped; 0 = as they are.
    #[serde(default)]
    pub px: usize,
    /// Leave out unreadable items, listing them, instead of stopping.
    #[serde(default)]
    pub skip_bad: bool,
}

fn default_validation() -> f64 {
    0.02
}
fn default_labels() -> bool {
    true
}

/// `[diffusion]`
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionTable {
    /// The noising process.
    pub path: Path,
    /// What the network predicts.
    pub prediction: Prediction,
    /// In whose units the error is measured; the prediction's own if absent.
    pub target: Option<Prediction>,
    /// Weight of each level.
    pub weighting: Weighting,
    /// Distribution of training levels.
    pub times: Times,
    /// How levels are spread over a batch.
    pub spread: Spread,
    /// Share of labels dropped, for guidance.
    pub label_dropout: f64,
}

impl Default for DiffusionTable {
    fn default() -> Self {
        Self {
            path: Path::Flow,
            prediction: Prediction::Velocity,
            target: None,
            weighting: Weighting::Plain,
            times: Times::LogitNormal { mean: 0.0, std: 1.0 },
            spread: Spread::Stratified,
            label_dropout: 0.1,
        }
    }
}

/// Learning rate after warm-up.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls to zero along half a cosine.
    Cosine,
}

/// Kind of matrix products and convolutions.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision throughout.
    Fp32,
    /// bfloat16 products over single-precision weights.
    Bf16,
    /// `bf16` where the processor or accelerator multiplies faster in it, `fp32` elsewhere.
    Auto,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "fp32" => Ok(Self::Fp32),
            "bf16" => Ok(Self::Bf16),
            "auto" => Ok(Self::Auto),
            _ => Err(format!("{name}: {}", choose(name, &["fp32", "bf16", "auto"]))),
        }
    }
}

impl Precision {
    /// The kind of products on a device.
    pub fn kind(self, device: Device) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::Auto if shim::bf16(device) == shim::Bf16::Faster => Kind::BFloat16,
            Self::Auto => Kind::Float,
        }
    }
}

/// `[train]`; lengths and cadences in images.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TrainTable {
    /// Length of training.
    pub images: u64,
    /// Images per optimiser step.
    pub batch: usize,
    /// Images per backward pass; 0 = the whole batch. Memory only: results stay the same up to rounding.
    #[serde(default)]
    pub micro_batch: usize,
    /// Largest learning rate.
    pub lr: f64,
    /// Linear rise from 0.
    #[serde(default)]
    pub warmup_images: u64,
    /// After the rise.
    #[serde(default = "default_schedule")]
    pub schedule: Schedule,
    /// Decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Decays of the two moments.
    #[serde(default = "default_betas")]
    pub betas: [f64; 2],
    /// Largest norm of the gradient; 0 = no clipping.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// Images after which a weight counts half in the average; 0 = no average.
    #[serde(default = "default_ema")]
    pub ema_halflife_images: u64,
    /// Kind of products.
    #[serde(default = "default_precision")]
    pub precision: Precision,
    /// Loader threads.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// Between lines of `stats.jsonl`.
    #[serde(default = "default_log")]
    pub log_images: u64,
    /// Between validations; 0 = only at the end.
    #[serde(default)]
    pub validate_images: u64,
    /// Between picture grids; 0 = only at the end.
    #[serde(default)]
    pub sample_images: u64,
    /// Between checkpoints; 0 = only at the end.
    #[serde(default)]
    pub save_images: u64,
    /// How many of the last checkpoints stay.
    #[serde(default = "default_keep")]
    pub keep: usize,
    /// Every n-th checkpoint stays besides; 0 = none.
    #[serde(default)]
    pub keep_every: usize,
    /// Stop after this many steps in a row without a finite gradient.
    #[serde(default = "default_nonfinite")]
    pub max_nonfinite: u64,
}

impl TrainTable {
    /// The defaults around a length, a batch and a learning rate; no average is kept.
    pub fn new(images: u64, batch: usize, lr: f64) -> Self {
        Self {
            images,
            batch,
            micro_batch: 0,
            lr,
            warmup_images: 0,
            schedule: default_schedule(),
            weight_decay: 0.0,
            betas: default_betas(),
            clip: default_clip(),
            ema_halflife_images: 0,
            precision: default_precision(),
            workers: default_workers(),
            log_images: default_log(),
            validate_images: 0,
            sample_images: 0,
            save_images: 0,
            keep: default_keep(),
            keep_every: 0,
            max_nonfinite: default_nonfinite(),
        }
    }

    /// The same without a bound on gradients: where arms have losses of different scale, a bound would favour one.
    pub fn unclipped(images: u64, batch: usize, lr: f64) -> Self {
        Self { clip: 0.0, ..Self::new(images, batch, lr) }
    }
}

fn default_schedule() -> Schedule {
    Schedule::Constant
}
fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}
fn default_clip() -> f64 {
    1.0
}
fn default_ema() -> u64 {
    20_000
}
fn default_precision() -> Precision {
    Precision::Fp32
}
fn default_workers() -> usize {
    1
}
fn default_log() -> u64 {
    2_000
}
fn default_keep() -> usize {
    2
}
fn default_nonfinite() -> u64 {
    20
}

/// `[sample]`
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SampleTable {
    /// The step.
    pub sampler: Sampler,
    /// The grid of levels.
    pub grid: Grid,
    /// Number of steps.
    pub steps: usize,
    /// Guidance scale, 1 = none.
    pub guidance: f64,
    /// Times between which guidance acts.
    pub interval: [f64; 2],
    /// Hold the estimate of the clean picture inside [-1, 1] at every step.
    pub clip: bool,
    /// Kind of products: in bf16 a picture comes out a little different, and not every device that has it is faster in it.
    pub precision: Precision,
    /// Scales of the guidance sweep in the report; empty = no sweep.
    pub sweep: Vec<f64>,
}

impl Default for SampleTable {
    fn default() -> Self {
        Self {
            sampler: Sampler::Heun,
            grid: Grid::Uniform,
            steps: 20,
            guidance: 1.5,
            interval: [0.0, 1.0],
            clip: false,
            precision: Precision::Fp32,
            sweep: Vec::new(),
        }
    }
}

/// `[judge]`: an independent classifier and regressor, trained on data the model never saw.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeTable {
    /// Share of the data that only the judge sees.
    pub share: f64,
    /// Images of its training.
    pub images: u64,
    /// Width of its first stage.
    pub width: i64,
    /// Its training images are shifted by up to so many pixels.
    pub shift: usize,
    /// Pictures drawn at each guidance scale.
    pub samples: usize,
    /// Data set on which the judge is tested and that stands for reality; the judge's own held-out items if absent.
    pub test: Option<String>,
}

impl Default for JudgeTable {
    fn default() -> Self {
        Self { share: 0.3, images: 100_000, width: 32, shift: 0, samples: 1000, test: None }
    }
}

impl Recipe {
    /// Reads a recipe and applies `key.path=value` settings.
    ///
    /// # Errors
    /// One sentence with file, line and column, and the nearest known key where one was misspelt.
    pub fn read(path: &FsPath, sets: &[String]) -> Result<Self, Error> {
        let text = pentimento_io::text::read(path)?;
        Self::parse(&text, &path.display().to_string(), sets)
    }

    /// [`Recipe::read`] on a text; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(text: &str, name: &str, sets: &[String]) -> Result<Self, Error> {
        let direct = toml::from_str::<Self>(text).map_err(|e| complaint(&e, text, name));
        if sets.is_empty() {
            return direct;
        }
        let mut table: toml::Table = toml::from_str(text).map_err(|e| complaint(&e, text, name))?;
        for set in sets {
            apply(&mut table, set)?;
        }
        let merged: Result<Self, toml::de::Error> = table.try_into();
        match (merged, direct) {
            (Ok(recipe), _) => Ok(recipe),
            // Wrong already as a file: that message knows line and column.
            (Err(_), Err(in_file)) => Err(in_file),
            (Err(e), Ok(_)) => Err(complaint(&e, "", &format!("--set {}", sets.join(" --set ")))),
        }
    }
}

/// Puts one `a.b=value` into a table. The value is TOML; what is not TOML is taken as a string.
///
/// # Errors
/// What is no setting, or goes below what is no table.
pub fn apply(table: &mut toml::Table, set: &str) -> Result<(), Error> {
    let bad = |why: &str| Error::Setting { setting: set.into(), why: why.into() };
    let (key, value) = set.split_once('=').ok_or_else(|| bad("has no =; write --set train.lr=2e-4"))?;
    let value = match toml::from_str::<toml::Table>(&format!("v = {value}")) {
        Ok(mut t) => t.remove("v").ok_or_else(|| bad("has no value"))?,
        Err(_) => toml::Value::String(value.into()),
    };
    let mut parts = key.trim().split('.').peekable();
    let mut place = table;
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(bad("has an empty key"));
        }
        if parts.peek().is_none() {
            place.insert(part.into(), value);
            return Ok(());
        }
        let next = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = next.as_table_mut().ok_or_else(|| bad(&format!("goes below {part}, which is no table")))?;
    }
    Err(bad("has no key"))
}

/// A TOML error as one sentence with its place, and the nearest known name.
pub(crate) fn complaint(e: &toml::de::Error, text: &str, name: &str) -> Error {
    let message = e.message().trim().replace('\n', " ");
    let place = e.span().filter(|_| !text.is_empty()).map(|span| {
        let before = &text[..span.start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        (line, before.chars().rev().take_while(|&c| c != '\n').count() + 1)
    });
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let hint = match quoted.split_first() {
        Some((got, known)) if unknown => nearest(got, known).map(|n| format!("; did you mean `{n}`?")),
        _ => None,
    };
    let place = place.map_or(String::new(), |(line, column)| format!("line {line}, column {column}: "));
    Error::Recipe { file: name.into(), place, message, hint: hint.unwrap_or_default() }
}

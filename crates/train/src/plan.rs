use crate::recipe::{Recipe, SampleTable};
use crate::{Error, model};
use pentimento_core::choose;
use pentimento_data::{Dataset, Open, Opened, Subset, open};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind};

/// What the command line adds to a recipe.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Run folder; `runs/<recipe>` if absent.
    pub outdir: Option<PathBuf>,
    /// `cpu`, `cuda`, `cuda:1`; `cpu` if absent.
    pub device: Option<String>,
}

/// What a network is built for, stored with its weights: enough to rebuild it without the data.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Signature {
    /// `[C, H, W]`
    pub input: [i64; 3],
    /// Class names; empty = unconditional.
    pub classes: Vec<String>,
    /// Factor names of the data.
    pub factors: Vec<String>,
}

/// A class by name or number.
///
/// # Errors
/// A name that is not known, with the nearest one.
pub fn class_named(classes: &[String], name: &str) -> Result<usize, Error> {
    let by_number = name.parse().ok().filter(|&c: &usize| c < classes.len());
    classes.iter().position(|n| n == name).or(by_number).ok_or_else(|| {
        let known: Vec<&str> = classes.iter().map(String::as_str).collect();
        let want = if classes.is_empty() { "this model knows no classes".into() } else { choose(name, &known) };
        Error::Value { key: "--class", got: name.into(), want }
    })
}

/// The data of a run, split by an addressed hash of each item's number, so that no item is in two parts.
pub struct Parts {
    /// What the model learns from.
    pub train: Arc<dyn Dataset>,
    /// Held out for the validation loss.
    pub validation: Arc<dyn Dataset>,
    /// Never seen by the model: the judge learns from it.
    pub judge: Option<Arc<dyn Dataset>>,
}

/// A checked recipe: nothing below re-validates.
pub struct Plan {
    /// The recipe, with its defaults filled in.
    pub recipe: Recipe,
    /// Name of the recipe.
    pub name: String,
    /// The run folder.
    pub outdir: PathBuf,
    /// Where tensors live.
    pub device: Device,
    /// The data, split.
    pub parts: Parts,
    /// What the network is built for.
    pub signature: Signature,
    /// Learned scalars.
    pub parameters: usize,
    /// Multiply-adds of one forward pass for one image.
    pub macs: u64,
    /// Content of the data, as one line.
    pub data_hash: String,
    /// Items left out because they cannot be read, each with its sentence.
    pub skipped: Vec<(u64, String)>,
}

impl Plan {
    /// Reads and checks a recipe: everything that can be known before the first tensor.
    ///
    /// # Errors
    /// One sentence naming the key, the value and the range, or what is missing.
    pub fn read(path: &Path, sets: &[String], options: &Options) -> Result<Self, Error> {
        let name = path.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned());
        Self::new(Recipe::read(path, sets)?, name, options)
    }

    /// Checks a recipe.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn new(recipe: Recipe, name: String, options: &Options) -> Result<Self, Error> {
        check_numbers(&recipe)?;
        let device = parse_device(options.device.as_deref().unwrap_or("cpu"))?;
        let Opened { data: all, skipped } = open_data(&recipe)?;
        let mut parts = split(&recipe, &all);
        if let Some(name) = &recipe.data.validate_on {
            parts.validation = other_set(&recipe, name, &all)?;
        }
        let [c, h, w] = all.size();
        let classes = if recipe.data.labels { all.classes().to_vec() } else { Vec::new() };
        let signature = Signature { input: [c, h, w], classes, factors: all.factors().to_vec() };
        if usize::try_from(parts.train.len()).is_ok_and(|n| n < recipe.train.batch) {
            return Err(Error::Value {
                key: "train.batch",
                got: recipe.train.batch.to_string(),
                want: format!("the data has only {} training images; use a smaller batch", parts.train.len()),
            });
        }
        let cost = model::cost(&recipe, &signature)?;
        Ok(Self {
            outdir: options.outdir.clone().unwrap_or_else(|| PathBuf::from("runs").join(&name)),
            data_hash: all.fingerprint(),
            skipped,
            parameters: usize::try_from(cost.params).unwrap_or(usize::MAX),
            macs: cost.macs,
            device,
            parts,
            signature,
            recipe,
            name,
        })
    }

    /// Optimiser steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.recipe.train.images.div_ceil(self.recipe.train.batch as u64)
    }

    /// Kind of matrix products.
    pub fn precision(&self) -> Kind {
        self.recipe.train.precision.kind(self.device)
    }

    fn products(&self) -> &'static str {
        if self.precision() == Kind::BFloat16 { "bf16" } else { "fp32" }
    }

    /// Bytes of weights, average, moments and gradients: what training holds besides activations.
    pub fn state_bytes(&self) -> usize {
        self.parameters * 4 * 5
    }

    /// The plan as JSON, as it is written to the run folder, the checkpoints and the pictures.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "recipe": self.recipe,
            "signature": self.signature,
            "parameters": self.parameters,
            "macs": self.macs,
            "steps": self.steps(),
            "data_hash": self.data_hash,
            "train_images_available": self.parts.train.len(),
            "device": format!("{:?}", self.device),
            "products": self.products(),
        })
    }

    /// The lines of `--dry-run`.
    pub fn describe(&self) -> String {
        let r = &self.recipe;
        let toml = toml::to_string(r).unwrap_or_else(|e| format!("# {e}\n"));
        let [c, h, w] = self.signature.input;
        let judge = self.parts.judge.as_ref().map_or(String::new(), |j| format!(" + {} for the judge", j.len()));
        let held = if r.data.validate_on.is_some() { 0 } else { self.parts.validation.len() };
        format!(
            "{toml}\n# resolved\n# run folder   {}\n# data         {} items {c}x{h}x{w}, {} classes, {} factors; {} to train + {} to validate{judge}\n\
             # network      {:.3} M parameters, {:.1} M multiply-adds per image\n# length       {} steps of {} images\n\
             # held         {:.1} MiB for weights, average, moments and gradients (activations come on top)\n# device       {:?}, products in {}\n",
            self.outdir.display(),
            self.parts.train.len() + held + self.parts.judge.as_ref().map_or(0, |j| j.len()),
            self.signature.classes.len(),
            self.signature.factors.len(),
            self.parts.train.len(),
            self.parts.validation.len(),
            self.parameters as f64 / 1e6,
            self.macs as f64 / 1e6,
            self.steps(),
            r.train.batch,
            self.state_bytes() as f64 / f64::from(1 << 20),
            self.device,
            self.products(),
        )
    }
}

/// `cpu`, `cuda` or `cuda:<n>`.
///
/// # Errors
/// An unknown name, or CUDA where libtorch has none.
pub fn parse_device(name: &str) -> Result<Device, Error> {
    let wrong = |why: &str| Error::Device { device: name.into(), why: why.into() };
    let device = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Device::Cuda(0),
        _ => match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(n)) => Device::Cuda(n),
            _ => return Err(wrong("write cpu, cuda or cuda:<number>")),
        },
    };
    if !tch::Cuda::is_available() {
        return Err(wrong("this libtorch was built without CUDA; see `pentimento doctor`, or use --device cpu"));
    }
    Ok(device)
}

/// How a recipe opens its data.
pub fn open_options(recipe: &Recipe) -> Open {
    let d = &recipe.data;
    Open {
        sprites: d.sprites.clone(),
        scenes: d.scenes.clone(),
        bouncing: d.bouncing.clone(),
        regimes: d.regimes.clone(),
        px: d.px,
        skip_bad: d.skip_bad,
        limit: d.limit,
    }
}

fn open_data(recipe: &Recipe) -> Result<Opened, Error> {
    Ok(open(&recipe.data.name, &open_options(recipe))?)
}

/// The set of `data.validate_on`, whole, which must be of the kind that is learned from.
fn other_set(recipe: &Recipe, name: &str, all: &Arc<dyn Dataset>) -> Result<Arc<dyn Dataset>, Error> {
    let other = open(name, &Open { limit: 0, ..open_options(recipe) })?.data;
    let kind = |d: &Arc<dyn Dataset>| format!("{:?} in {} classes", d.shape(), d.classes().len());
    let (theirs, ours) = (kind(&other), kind(all));
    if theirs != ours || other.is_empty() {
        let want = format!("its {} items are {theirs}, those of {} are {ours}", other.len(), recipe.data.name);
        return Err(Error::Value { key: "data.validate_on", got: name.into(), want });
    }
    Ok(other)
}

/// Parts by the addressed hash; the key is fixed, so that a model and a judge of different runs never share items.
fn split(recipe: &Recipe, all: &Arc<dyn Dataset>) -> Parts {
    const KEY: u64 = 0x70656E74;
    let judge = recipe.judge.as_ref().map_or(0.0, |j| j.share);
    let validation = if recipe.data.validate_on.is_some() { 0.0 } else { recipe.data.validation };
    let part = |from: f64, to: f64| -> Arc<dyn Dataset> { Arc::new(Subset::by_hash(all.clone(), KEY, from, to)) };
    Parts {
        judge: (judge > 0.0).then(|| part(0.0, judge)),
        validation: part(judge, judge + validation),
        train: part(judge + validation, 1.0),
    }
}

fn check_numbers(r: &Recipe) -> Result<(), Error> {
    let t = &r.train;
    need(
        !r.network.learns_sigma(),
        "network.learn_sigma",
        &true,
        "the predicted variance has no training term here and would stay at its start; leave it out, or import published weights with `pentimento import`",
    )?;
    need(t.images > 0, "train.images", &t.images, "must be at least 1")?;
    need(t.batch > 0, "train.batch", &t.batch, "must be at least 1")?;
    need(t.micro_batch <= t.batch, "train.micro_batch", &t.micro_batch, "must be at most train.batch")?;
    need(t.lr.is_finite() && t.lr > 0.0, "train.lr", &t.lr, "must be above 0")?;
    need(t.clip >= 0.0, "train.clip", &t.clip, "must be at least 0; 0 is no clipping")?;
    need(t.weight_decay >= 0.0, "train.weight_decay", &t.weight_decay, "must be at least 0")?;
    need(
        t.betas.iter().all(|b| (0.0..1.0).contains(b)),
        "train.betas",
        &format!("{:?}", t.betas),
        "must lie in [0, 1)",
    )?;
    need((1..=64).contains(&t.workers), "train.workers", &t.workers, "must lie in 1..=64")?;
    need(t.keep > 0, "train.keep", &t.keep, "must be at least 1")?;
    need(t.log_images > 0, "train.log_images", &t.log_images, "must be at least 1")?;
    let d = &r.data;
    need((0.0..=0.5).contains(&d.validation), "data.validation", &d.validation, "must lie in [0, 0.5]")?;
    let p = r.diffusion.label_dropout;
    need((0.0..=1.0).contains(&p), "diffusion.label_dropout", &p, "must lie in [0, 1]")?;
    check_sample(&r.sample)?;
    if let Some(j) = &r.judge {
        need(j.share > 0.0 && j.share + d.validation < 0.95, "judge.share", &j.share, "must leave data to train on")?;
        need(j.samples >= 100, "judge.samples", &j.samples, "must be at least 100")?;
    }
    Ok(())
}

fn need(ok: bool, key: &'static str, got: &dyn std::fmt::Display, want: &str) -> Result<(), Error> {
    if ok { Ok(()) } else { Err(Error::Value { key, got: got.to_string(), want: want.into() }) }
}

/// Checks how pictures are to be drawn.
///
/// # Errors
/// The first number out of its range.
pub fn check_sample(s: &SampleTable) -> Result<(), Error> {
    need((1..=10_000).contains(&s.steps), "sample.steps", &s.steps, "must lie in 1..=10000")?;
    need(s.guidance.is_finite(), "sample.guidance", &s.guidance, "must be finite; 1 is no guidance")?;
    let ([lo, hi], got) = (s.interval, format!("{:?}", s.interval));
    let rising = (0.0..=1.0).contains(&lo) && (lo..=1.0).contains(&hi);
    need(rising, "sample.interval", &got, "must be two rising times in [0, 1]")
}

//! What a `setup` line asks for, and what answers it.

use anyhow::{Context, Result, bail};
use pentimento_core::{Params, Role};
use pentimento_io::safetensors::Reader;
use pentimento_io::{Array, system};
use pentimento_nn::Cost;
use pentimento_nn::diffusers::{DitTransformer2d, Unet2d};
use pentimento_nn::layers::Layout;
use pentimento_nn::weights::tensor_from_array;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// A work that can be timed.
pub trait Work {
    /// One iteration.
    fn run(&mut self) -> Result<()>;

    /// Results that the other side must have too.
    fn check(&mut self) -> Result<Vec<f64>>;

    /// The most MiB that were ever resident.
    fn peak_mib(&self) -> f64 {
        system::memory().peak_mib
    }

    /// What one iteration takes at least, where it can be counted.
    fn least(&self) -> Option<Least> {
        None
    }
}

/// Work that no order of operations can spare, of one iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Least {
    /// Multiply-adds in products, convolutions and attention.
    pub macs: u64,
    /// Bytes of weights, gradients, moments and averages that are read or written, in single precision.
    pub bytes: u64,
}

impl Least {
    /// Of so many forward passes for one picture, with every weight, or what belongs to it, moved so many times.
    pub fn of(cost: Cost, passes: u64, moved: u64) -> Self {
        Self { macs: cost.macs * passes, bytes: cost.params * moved * 4 }
    }
}

/// The JSON of a `setup` line; the peer's side gets the same.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Name of the work.
    pub work: String,
    /// Where the weights, inputs and data of both sides lie.
    pub folder: PathBuf,
    /// Threads of libtorch and rayon.
    #[serde(default = "one")]
    pub threads: i32,
    /// `cpu`, or `cuda`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Kind of products.
    #[serde(default)]
    pub precision: Precision,
    /// Order of convolutional activations.
    #[serde(default)]
    pub layout: Layout,
    /// How the peer compiles; `eager` here.
    #[serde(default)]
    pub compile: String,
    /// Rows of a batch.
    #[serde(default)]
    pub batch: i64,
    /// Sizes of the network or of the data.
    #[serde(default)]
    pub size: Size,
    /// Sampling steps.
    #[serde(default)]
    pub steps: usize,
    /// Guidance scale.
    #[serde(default)]
    pub guidance: f64,
}

fn one() -> i32 {
    1
}

fn cpu() -> String {
    "cpu".into()
}

/// Kind of matrix products and convolutions.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// bfloat16 products over weights in single precision.
    Bf16,
}

impl Precision {
    /// The kind for autocast.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// Sizes, under the names of the networks' own settings; what a work does not need is absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Size {
    pub depth: i64,
    pub width: i64,
    pub heads: i64,
    pub patch: i64,
    pub channels: i64,
    pub side: i64,
    pub classes: i64,
    pub items: usize,
    pub hidden: Vec<i64>,
    pub latent: i64,
    /// A diffusers `config.json`, for the networks that are theirs.
    pub config: Option<serde_json::Value>,
}

impl Size {
    /// The config as diffusers' U-Net.
    pub fn unet(&self) -> Result<Unet2d> {
        self.config("UNet2DModel")
    }

    /// The config as diffusers' DiT.
    pub fn transformer(&self) -> Result<DitTransformer2d> {
        self.config("DiTTransformer2DModel")
    }

    fn config<T: serde::de::DeserializeOwned>(&self, of: &str) -> Result<T> {
        let config = self.config.clone().with_context(|| format!("size.config, a {of}, is missing"))?;
        serde_json::from_value(config).with_context(|| format!("size.config is not that of a {of}"))
    }
}

impl Ask {
    /// Refuses what only the peer's side can do.
    pub fn checked(self) -> Result<Self> {
        match self.compile.as_str() {
            "" | "eager" => Ok(self),
            other => bail!("compile = {other}: nothing is compiled at run time here"),
        }
    }

    /// The device to run on.
    pub fn device(&self) -> Result<Device> {
        Ok(pentimento_train::parse_device(&self.device)?)
    }
}

/// The file of shared weights, which the peer's side writes first.
pub fn weights(ask: &Ask) -> Result<BTreeMap<String, Array>> {
    read(&ask.folder.join("weights.safetensors"))
}

/// The shared inputs of a batch by name: `x`, `t`, `y`, `target`.
pub fn inputs(ask: &Ask) -> Result<BTreeMap<String, Tensor>> {
    let device = ask.device()?;
    let all = read(&ask.folder.join(format!("inputs-{}.safetensors", ask.batch)))?;
    all.iter().map(|(name, a)| Ok((name.clone(), tensor_from_array(a)?.to_device(device)))).collect()
}

/// One of the inputs.
pub fn input(all: &BTreeMap<String, Tensor>, name: &str) -> Result<Tensor> {
    match all.get(name) {
        Some(t) => Ok(t.shallow_clone()),
        None => bail!("the shared inputs hold no {name}"),
    }
}

/// Every tensor of a safetensors file.
pub fn read(path: &Path) -> Result<BTreeMap<String, Array>> {
    Ok(Reader::open(path)?.read_all()?.into_iter().collect())
}

/// A tensor as numbers, row by row.
pub fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(t.detach().to_device(Device::Cpu).to_kind(Kind::Double).contiguous().view(-1))?)
}

/// Waits for what was queued on a device; on the host nothing is.
pub fn waited(device: Device) {
    if let Device::Cuda(i) = device {
        tch::Cuda::synchronize(i64::try_from(i).unwrap_or(0));
    }
}

/// Names of the tensors that are learned.
pub fn learned(params: &Params) -> BTreeSet<String> {
    params.entries().into_iter().filter(|p| p.role == Role::Trainable).map(|p| p.name).collect()
}

//! Published weights become a run: a sheet says what they are, the names of the original or of diffusers say where each
//! tensor goes.

use crate::checkpoint::{self, Meta, Window};
use crate::plan::Signature;
use crate::recipe::{DataTable, DiffusionTable, Recipe, SampleTable, complaint};
use crate::{Error, Model, RunFolder, is_run};
use pentimento_core::Role;
use pentimento_io::text;
use pentimento_io::weights::Weights;
use pentimento_nn::diffusers::{self, DitTransformer2d, Unet2d, dit_names, unet_names};
use pentimento_nn::weights::load_params;
use pentimento_nn::{Input, NetworkConfig};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::Device;

/// What a file of weights does not say of itself: a recipe without `[train]`, with `[input]` in its place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// What the network reads; that of `config.json` if absent.
    #[serde(default)]
    pub input: Option<InputTable>,
    /// The network; that of `config.json` if absent.
    #[serde(default)]
    pub network: Option<NetworkConfig>,
    /// The noise process it was trained on and what it predicts.
    pub diffusion: DiffusionTable,
    /// How pictures are drawn unless told otherwise.
    #[serde(default)]
    pub sample: SampleTable,
    /// The data that probes read unless told otherwise.
    #[serde(default)]
    pub data: Option<DataTable>,
}

/// `[input]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputTable {
    /// `[C, H, W]`
    pub size: Input,
    /// Number of classes, or their names; none = unconditional.
    #[serde(default)]
    pub classes: Classes,
}

/// Classes by number or by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Classes {
    /// So many, called 0, 1, 2, ...
    Count(u32),
    /// By name.
    Names(Vec<String>),
}

impl Default for Classes {
    fn default() -> Self {
        Self::Count(0)
    }
}

impl Classes {
    fn names(self) -> Vec<String> {
        match self {
            Self::Count(n) => (0..n).map(|c| c.to_string()).collect(),
            Self::Names(names) => names,
        }
    }
}

/// What was imported.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The file that was written, `model.safetensors` of the run folder.
    pub model: PathBuf,
    /// Learned scalars.
    pub parameters: usize,
    /// Whose names the tensors had: `the original's` or `diffusers'`.
    pub names: &'static str,
}

/// Makes a run folder from published weights, for `sample` and `encode`: `weights` is a safetensors file, a sharded
/// index, or a folder with one of them and maybe diffusers' `config.json`; `prefix` is what all names begin with.
///
/// # Errors
/// A sheet or a configuration that does not fit, missing, misshapen or left-over tensors, a folder that holds a run.
pub fn import(weights: &Path, sheet: &Path, prefix: &str, outdir: &Path) -> Result<Imported, Error> {
    let name = sheet.display().to_string();
    let written = text::read(sheet)?;
    let mut sheet: Sheet = toml::from_str(&written).map_err(|e| complaint(&e, &written, &name))?;
    let folder = component(weights);
    if sheet.network.is_none() {
        let (network, size, classes) = configured(&folder)?;
        let count = Classes::Count(u32::try_from(classes).unwrap_or(0));
        if let Some(typed) = sheet.input.as_ref().filter(|i| i.size != size) {
            let want = format!("config.json says {size:?}; leave [input] out or correct it");
            return Err(Error::Value { key: "input.size", got: format!("{:?}", typed.size), want });
        }
        let named = sheet.input.take().map_or(count, |i| i.classes);
        (sheet.network, sheet.input) = (Some(network), Some(InputTable { size, classes: named }));
    }
    let (Some(network), Some(input)) = (sheet.network, sheet.input) else {
        let want = "give [input] with size = [channels, height, width] and classes".into();
        return Err(Error::Value { key: "[input]", got: "absent".into(), want });
    };
    if is_run(outdir) {
        let why = "holds a run already; choose another --outdir".into();
        return Err(Error::NoRun { path: outdir.into(), why });
    }
    let signature = Signature { input: input.size, classes: input.classes.names(), factors: Vec::new() };
    let recipe = recipe(network, &sheet.diffusion, &sheet.sample, sheet.data.as_ref(), &name)?;
    crate::plan::check_sample(&recipe.sample)?;
    let model = Model::blank(&recipe, &signature, Device::Cpu)?;
    let mut file = File { weights: Weights::open(&folder)?, prefix: prefix.into(), used: BTreeSet::new() };
    let names = file.fill(&model)?;
    let lock = RunFolder::lock(outdir)?;
    let tensors: Vec<_> =
        model.params().entries().into_iter().map(|p| (format!("net.{}", p.name), p.tensor.detach())).collect();
    let path = outdir.join("model.safetensors");
    checkpoint::write(&path, &meta(&recipe, signature, &folder), &tensors)?;
    drop(lock);
    Ok(Imported { model: path, parameters: model.params().count(), names })
}

/// The folder of the denoiser in a pipeline, or what was named.
fn component(weights: &Path) -> PathBuf {
    let parts = ["transformer", "unet"].map(|part| weights.join(part));
    let of_pipeline = weights.join("model_index.json").exists();
    parts.into_iter().find(|p| of_pipeline && p.is_dir()).unwrap_or_else(|| weights.into())
}

/// Network, images and classes of diffusers' `config.json`.
fn configured(folder: &Path) -> Result<(NetworkConfig, Input, i64), Error> {
    let path = folder.join("config.json");
    if !path.exists() {
        let why = "without a config.json beside them, the weights need [network] and [input] in the recipe".into();
        return Err(Error::NoRun { path: folder.into(), why });
    }
    let bad = |why: String| Error::BadCheckpoint { path: path.clone(), why };
    let config: Value = serde_json::from_str(&text::read(&path)?).map_err(|e| bad(format!("is no JSON: {e}")))?;
    let class = config["_class_name"].as_str().unwrap_or("absent").to_owned();
    let unfit = |e: serde_json::Error| bad(format!("is no configuration of a {class}: {e}"));
    match class.as_str() {
        "DiTTransformer2DModel" => {
            let ours = serde_json::from_value::<DitTransformer2d>(config.clone()).map_err(unfit)?.ours()?;
            Ok((NetworkConfig::Dit(ours.0), ours.1, ours.2))
        }
        "UNet2DModel" => {
            let ours = serde_json::from_value::<Unet2d>(config.clone()).map_err(unfit)?.ours()?;
            Ok((NetworkConfig::Unet(ours.0), ours.1, ours.2))
        }
        _ => Err(bad(format!("_class_name is {class}; DiTTransformer2DModel and UNet2DModel can be imported"))),
    }
}

/// The recipe that the header keeps: it trains nothing.
fn recipe(
    network: NetworkConfig,
    diffusion: &DiffusionTable,
    sample: &SampleTable,
    data: Option<&DataTable>,
    name: &str,
) -> Result<Recipe, Error> {
    let data = data.map_or(json!({"name": ""}), |d| json!(d));
    let all = json!({
        "data": data, "network": network, "diffusion": diffusion, "sample": sample,
        "train": {"images": 0, "batch": 1, "lr": 0.0},
    });
    serde_json::from_value(all).map_err(|e| Error::Recipe {
        file: name.into(),
        place: String::new(),
        message: e.to_string(),
        hint: String::new(),
    })
}

fn meta(recipe: &Recipe, signature: Signature, from: &Path) -> Meta {
    Meta {
        format_version: checkpoint::FORMAT_VERSION,
        numerics: pentimento_core::numerics(tch::Kind::Float),
        images: 0,
        step: 0,
        recipe: json!(recipe),
        signature,
        data_hash: format!("not known: imported from {}", from.display()),
        elapsed_s: 0.0,
        window: Window::default(),
        nonfinite: [0; 2],
        machine: BTreeMap::new(),
    }
}

/// Published weights, and which of them were asked for.
struct File {
    weights: Weights,
    prefix: String,
    used: BTreeSet<String>,
}

/// Names in a file under which the parts of one of our parameters stand.
type Names = Box<dyn Fn(&str) -> Vec<String>>;

impl File {
    /// Fills a network by the original's names or by diffusers'; nothing of the file may be left over.
    fn fill(&mut self, model: &Model) -> Result<&'static str, Error> {
        let params = model.params();
        let config = &model.recipe.network;
        let classes = i64::try_from(model.classes()).unwrap_or(i64::MAX);
        let theirs: Names = match config {
            NetworkConfig::Dit(_) => Box::new(dit_names),
            NetworkConfig::Unet(c) => {
                let plan = c.plan(model.signature.input, classes)?;
                Box::new(move |ours: &str| unet_names(&plan, ours))
            }
        };
        let first = params.entries().into_iter().find(|p| p.role == Role::Trainable).map_or(String::new(), |p| p.name);
        let original = self.holds(&first);
        if !original && !theirs(&first).iter().all(|n| self.holds(n)) {
            return Err(self.unknown(&first, theirs(&first).first()));
        }
        let mut failed = None;
        let mut find = |name: &str| match self.read(name) {
            Ok(found) => found,
            Err(e) => {
                failed.get_or_insert(e);
                None
            }
        };
        let filled = if original { load_params(params, &mut find) } else { diffusers::load(params, theirs, &mut find) };
        if let Some(e) = failed {
            return Err(e);
        }
        filled?;
        self.nothing_left()?;
        Ok(if original { "the original's" } else { "diffusers'" })
    }

    fn holds(&self, name: &str) -> bool {
        self.weights.shape(&format!("{}{name}", self.prefix)).is_some()
    }

    fn read(&mut self, name: &str) -> Result<Option<pentimento_io::Array>, Error> {
        if !self.holds(name) {
            return Ok(None);
        }
        self.used.insert(name.into());
        Ok(Some(self.weights.read(&format!("{}{name}", self.prefix))?))
    }

    /// Names behind the prefix.
    fn names(&self) -> Vec<String> {
        self.weights.names().filter_map(|n| n.strip_prefix(&self.prefix)).map(str::to_owned).collect()
    }

    /// Neither naming is there; maybe all names have a prefix more.
    fn unknown(&self, ours: &str, theirs: Option<&String>) -> Error {
        let names = [Some(ours), theirs.map(String::as_str)];
        let prefixed = self.weights.names().find_map(|n| names.iter().flatten().find_map(|e| n.strip_suffix(e)));
        let hint = prefixed.map_or("check that the recipe describes this network".to_owned(), |p| {
            format!("its names begin with {p}: give --prefix {p}")
        });
        let why = format!(
            "holds neither {}{}; {hint}",
            self.prefix,
            names.into_iter().flatten().collect::<Vec<_>>().join(" nor ")
        );
        Error::BadCheckpoint { path: self.weights.path().into(), why }
    }

    /// A tensor that has no place says that the recipe describes a smaller network. Two have none of right: the table of
    /// positions, which is computed, and the copies that diffusers keeps of the embeddings in every block of a DiT.
    fn nothing_left(&mut self) -> Result<(), Error> {
        let left: Vec<String> = self.names().into_iter().filter(|n| !self.used.contains(n)).collect();
        for name in left {
            let copied =
                name.split_once(".norm1.emb.").map(|(_, rest)| format!("transformer_blocks.0.norm1.emb.{rest}"));
            let same = match copied.filter(|c| self.used.contains(c)) {
                Some(first) => self.read(&first)? == self.read(&name)?,
                None => name == "pos_embed.pos_embed",
            };
            if !same {
                let why =
                    format!("{}{name} has no place in the network of the recipe; correct the recipe", self.prefix);
                return Err(Error::BadCheckpoint { path: self.weights.path().into(), why });
            }
        }
        Ok(())
    }
}

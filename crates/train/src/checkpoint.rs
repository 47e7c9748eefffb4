use crate::plan::Signature;
use crate::recipe::Recipe;
use crate::{Error, RunFolder};
use pentimento_core::{Learner, Params};
use pentimento_io::safetensors;
use pentimento_io::weights::Weights;
use pentimento_nn::weights::{array_from_tensor, tensor_from_array};
use pentimento_torch_shim as shim;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// Version of the checkpoint's layout. [`migrate`] reads older ones.
pub const FORMAT_VERSION: u64 = 1;

/// All that is not a tensor.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Meta {
    /// Layout of this file.
    pub format_version: u64,
    /// Arithmetic that made it ([`pentimento_core::numerics`]).
    pub numerics: u32,
    /// Images seen.
    pub images: u64,
    /// Steps done.
    pub step: u64,
    /// The recipe, with defaults filled in: of a diffusion model a [`Recipe`]; of a method of the catalogue its settings, with its
    /// name in `method`.
    pub recipe: Value,
    /// What the model was built for.
    pub signature: Signature,
    /// Content of the data.
    pub data_hash: String,
    /// Seconds of training so far.
    pub elapsed_s: f64,
    /// Sums since the last line of the log, so that the log continues as if nothing had happened.
    pub window: Window,
    /// Steps skipped in a row, and in all, for want of a finite gradient.
    pub nonfinite: [u64; 2],
    /// libtorch, processor and threads that made it: other ones give other last bits.
    pub machine: BTreeMap<String, String>,
}

/// Running sums of the log window.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Window {
    /// Steps in the window.
    pub steps: u64,
    /// Sum of each term of the loss, in order.
    pub terms: Vec<(String, f64)>,
    /// Sum of gradient norms.
    pub norm: f64,
    /// Images of the window.
    pub images: u64,
}

/// A checkpoint on disk, open for reading.
pub struct Checkpoint {
    /// Where it lies.
    pub path: PathBuf,
    /// All that is not a tensor.
    pub meta: Meta,
    file: RefCell<Weights>,
}

/// Software and machine on whose bits a run depends.
pub fn machine() -> BTreeMap<String, String> {
    let text = |v: &dyn std::fmt::Display| v.to_string();
    BTreeMap::from([
        ("libtorch".into(), "2.11.0".into()),
        ("cpu".into(), shim::cpu_capability()),
        ("threads".into(), text(&tch::get_num_threads())),
        (
            "bf16".into(),
            match shim::bf16(Device::Cpu) {
                shim::Bf16::Imitated => "imitated",
                _ => "native",
            }
            .into(),
        ),
        ("pentimento".into(), text(&env!("CARGO_PKG_VERSION"))),
    ])
}

impl Checkpoint {
    /// Opens a checkpoint or a model file.
    ///
    /// # Errors
    /// A file that is no checkpoint, or one of a newer format.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = Weights::open(path)?;
        let bad = |why: String| Error::BadCheckpoint { path: path.into(), why };
        let text = file.metadata().get("pentimento").ok_or_else(|| {
            bad("has no `pentimento` entry in its header, so it was not written by this program; name a run folder"
                .into())
        })?;
        let value: Value = serde_json::from_str(text).map_err(|e| bad(format!("its header is damaged ({e})")))?;
        let value = migrate(value).map_err(&bad)?;
        let meta =
            serde_json::from_value(value).map_err(|e| bad(format!("its header does not fit this program ({e})")))?;
        Ok(Self { path: path.into(), meta, file: RefCell::new(file) })
    }

    /// The newest readable checkpoint of a run folder, with what had to be passed over.
    ///
    /// # Errors
    /// When there are checkpoints and none can be read.
    pub fn newest(run: &Path) -> Result<(Option<Self>, Vec<String>), Error> {
        let mut passed = Vec::new();
        let mut last = None;
        for (_, path) in RunFolder::checkpoints(run).into_iter().rev() {
            match Self::open(&path) {
                Ok(found) => return Ok((Some(found), passed)),
                Err(e) => {
                    passed.push(format!("passed over: {e}"));
                    last = Some(e);
                }
            }
        }
        last.map_or(Ok((None, passed)), Err)
    }

    /// What a user names: a run folder (its newest checkpoint, else its `model.safetensors`), a checkpoint, or a
    /// `model.safetensors`; with what had to be passed over.
    ///
    /// # Errors
    /// Nothing there, or a file that is no checkpoint.
    pub fn named(path: &Path) -> Result<(Self, Vec<String>), Error> {
        if !path.is_dir() {
            if path.exists() {
                return Ok((Self::open(path)?, Vec::new()));
            }
            let why = "does not exist; name a run folder or a model.safetensors".into();
            return Err(Error::NoRun { path: path.into(), why });
        }
        let (found, notes) = Self::newest(path)?;
        let model = path.join("model.safetensors");
        match found {
            Some(checkpoint) => Ok((checkpoint, notes)),
            None if model.exists() => Ok((Self::open(&model)?, notes)),
            None => {
                let why = "holds no checkpoint; train it first with `pentimento train <recipe>`".into();
                Err(Error::NoRun { path: path.into(), why })
            }
        }
    }

    /// The method of the catalogue that it is a model of, if it is one.
    pub fn method(&self) -> Option<&str> {
        self.meta.recipe["method"].as_str()
    }

    /// The recipe of a diffusion model.
    ///
    /// # Errors
    /// A model of the catalogue, or a recipe that this program does not know.
    pub fn recipe(&self) -> Result<Recipe, Error> {
        if let Some(method) = self.method() {
            let why = format!("is a model of the method {method}, and this works on what a diffusion recipe trained");
            return Err(Error::NoRun { path: self.path.clone(), why });
        }
        serde_json::from_value(self.meta.recipe.clone()).map_err(|e| Error::BadCheckpoint {
            path: self.path.clone(),
            why: format!("its recipe does not fit this program ({e})"),
        })
    }

    /// Overwrites what a learner holds with what is saved, the average in place of the first set where one was kept.
    ///
    /// # Errors
    /// As [`Checkpoint::restore`].
    pub fn restore_learner(&self, learner: &mut dyn Learner) -> Result<(), Error> {
        for (i, (set, params)) in learner.params().into_iter().enumerate() {
            self.restore_set(set, params, i == 0)?;
        }
        let mut found = Ok(());
        learner.visit_state(&mut |name, tensor| {
            if found.is_ok() {
                found = self.restore(&format!("state.{name}"), tensor);
            }
        });
        found
    }

    /// Overwrites one set of parameters, by the average if that may stand for it.
    pub(crate) fn restore_set(&self, set: &str, params: &Params, averaged: bool) -> Result<(), Error> {
        for p in params.entries() {
            let average = format!("ema.{}", p.name);
            let name = if averaged && self.has(&average) { average } else { format!("{set}.{}", p.name) };
            self.restore(&name, &p.tensor)?;
        }
        Ok(())
    }

    /// One tensor by its full name, on the host.
    ///
    /// # Errors
    /// Absent or damaged.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        Ok(tensor_from_array(&self.file.borrow_mut().read(name)?)?)
    }

    /// Overwrites a tensor in place with the saved one of that name.
    ///
    /// # Errors
    /// Absent, damaged, or of another shape.
    pub fn restore(&self, name: &str, into: &Tensor) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let saved = self.tensor(name)?;
        if saved.size() != into.size() {
            let why =
                format!("{name} is {:?} where {:?} is needed; it belongs to another recipe", saved.size(), into.size());
            return Err(Error::BadCheckpoint { path: self.path.clone(), why });
        }
        into.shallow_clone().copy_(&saved);
        Ok(())
    }

    /// Whether a tensor of that name is in the file.
    pub fn has(&self, name: &str) -> bool {
        self.file.borrow().shape(name).is_some()
    }
}

/// Writes a checkpoint or a model file: to a temporary name, synced, then renamed.
///
/// # Errors
/// A full disk, an unwritable folder.
pub fn write(path: &Path, meta: &Meta, tensors: &[(String, Tensor)]) -> Result<(), Error> {
    let arrays: Vec<_> =
        tensors.iter().map(|(n, t)| Ok((n.clone(), array_from_tensor(t)?))).collect::<Result<_, Error>>()?;
    let text =
        serde_json::to_string(meta).map_err(|e| Error::BadCheckpoint { path: path.into(), why: e.to_string() })?;
    let header = BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("pentimento".to_owned(), text)]);
    let named: Vec<_> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();
    Ok(safetensors::write(path, &named, &header)?)
}

/// Upgrades a header one version at a time.
///
/// Version 0 had neither `format_version` nor `window`, and called `images` by the name `images_seen`.
///
/// # Errors
/// A version from the future.
pub fn migrate(mut header: Value) -> Result<Value, String> {
    let version = header.get("format_version").and_then(Value::as_u64).unwrap_or(0);
    if version > FORMAT_VERSION {
        return Err(format!(
            "format version {version} is newer than this program's {FORMAT_VERSION}; update pentimento"
        ));
    }
    if version == 0 {
        let Some(map) = header.as_object_mut() else { return Err("its header is no table".into()) };
        if let Some(images) = map.remove("images_seen") {
            map.insert("images".into(), images);
        }
        map.entry("window").or_insert(serde_json::json!(Window::default()));
        map.entry("nonfinite").or_insert(serde_json::json!([0, 0]));
        map.insert("format_version".into(), 1.into());
    }
    Ok(header)
}

/// Hash of named tensors: names, shapes and bytes, in order.
///
/// # Errors
/// Kinds that have no place in a file.
pub fn hash(tensors: &[(String, Tensor)]) -> Result<String, Error> {
    let arrays: Vec<_> =
        tensors.iter().map(|(n, t)| Ok((n.clone(), array_from_tensor(t)?))).collect::<Result<_, Error>>()?;
    let named: Vec<_> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();
    let bytes = safetensors::to_bytes(&named, &safetensors::Metadata::new())?;
    Ok(blake3::hash(&bytes).to_hex()[..16].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_headers_are_upgraded_and_future_ones_refused() {
        let old = json!({"images_seen": 640, "step": 10});
        let new = migrate(old).unwrap();
        assert_eq!(
            (&new["images"], &new["format_version"], &new["window"]["steps"]),
            (&json!(640), &json!(1), &json!(0))
        );
        assert!(migrate(json!({"format_version": 99})).unwrap_err().contains("newer than this program's"));
        let current = json!({"format_version": 1, "images": 3});
        assert_eq!(migrate(current.clone()).unwrap(), current);
    }
}

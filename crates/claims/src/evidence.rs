//! What `reproduce` measured, as a file. Nobody writes one by hand; running again gives the same numbers.

use crate::{Budget, Error, Fixed, Interval, Judgement, Predicate, Verdict};
use pentimento_io::{atomic, text};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the file's layout.
pub const FORMAT_VERSION: u64 = 1;

/// One arm at one seed.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Cell {
    /// The arm.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// Every number it measured; `null` where it was not finite.
    pub metrics: Map<String, Value>,
    /// Lines under the pictures that lie beside the evidence.
    pub pictures: Vec<String>,
    /// Seconds it took when it ran.
    pub seconds: f64,
    /// Largest resident memory of the process up to its end, MiB.
    pub peak_mib: f64,
}

impl Cell {
    /// A finite number by its name.
    pub fn number(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric).and_then(Value::as_f64)
    }
}

/// A predicate with what was found.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Found {
    /// What was claimed.
    pub predicate: Predicate,
    /// d_i, in the order of the seeds, on the scale of the predicate, better is positive.
    pub differences: Vec<f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// The interval of each look.
    pub looks: Vec<Interval>,
}

impl Found {
    /// A predicate on its differences.
    pub fn new(predicate: &Predicate, differences: Vec<f64>) -> Self {
        let Judgement { verdict, looks } = predicate.rule().judge(&differences);
        Self { predicate: predicate.clone(), differences, verdict, looks }
    }
}

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Evidence {
    /// Layout of this file.
    pub format_version: u64,
    /// Slug of the method.
    pub method: String,
    /// Title of the page.
    pub title: String,
    /// Number of the paper.
    pub arxiv: String,
    /// Part of the catalogue.
    pub family: String,
    /// Small or paper.
    pub budget: Budget,
    /// The primary predicate as a sentence.
    pub claim: String,
    /// The verdict on the primary predicate: the verdict on the claim.
    pub verdict: Verdict,
    /// The primary predicate.
    pub primary: Found,
    /// Reported beside it; they decide nothing.
    pub also: Vec<Found>,
    /// Which commit fixed the margin.
    pub margin_fixed: Fixed,
    /// Why it does not hold, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<String>,
    /// Hash of page, configuration, data, predicates and numerics: equal plans give equal numbers.
    pub plan: String,
    /// Commit that ran.
    pub revision: String,
    /// Version of the arithmetic.
    pub numerics: u32,
    /// libtorch, processor, threads, version.
    pub machine: BTreeMap<String, String>,
    /// Where tensors were.
    pub device: String,
    /// The configuration, with its defaults.
    pub config: Value,
    /// Content of the data, a line per set.
    pub data: Vec<String>,
    /// Each arm in a line.
    pub arms: BTreeMap<String, String>,
    /// Every run.
    pub runs: Vec<Cell>,
    /// Seconds of all runs.
    pub seconds: f64,
    /// Largest resident memory, MiB.
    pub peak_mib: f64,
}

impl Evidence {
    /// The file of a method and a budget below the folder of all evidence.
    pub fn path(folder: &Path, slug: &str, budget: Budget) -> PathBuf {
        match budget {
            Budget::Small => folder.join(format!("{slug}.json")),
            Budget::Paper => folder.join(format!("{slug}-paper.json")),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Unreadable, of a newer format, or not of this form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::BadEvidence { path: path.into(), why };
        let value: Value = serde_json::from_str(&text::read(path)?)
            .map_err(|e| bad(format!("is no JSON ({e}); `pentimento reproduce` writes it again")))?;
        let version = value.get("format_version").and_then(Value::as_u64).unwrap_or(0);
        if version != FORMAT_VERSION {
            let why = format!(
                "has format version {version} and this program reads {FORMAT_VERSION}; `pentimento reproduce` writes it again"
            );
            return Err(bad(why));
        }
        serde_json::from_value(value)
            .map_err(|e| bad(format!("does not fit this program ({e}); `pentimento reproduce` writes it again")))
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// A full disk, an unwritable folder.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::BadEvidence { path: path.into(), why: e.to_string() })?;
        bytes.push(b'\n');
        Ok(atomic::write_bytes(path, &bytes)?)
    }

    /// The evidence for a method at its small budget, if there is any.
    ///
    /// # Errors
    /// A file that is there and cannot be used.
    pub fn of(folder: &Path, slug: &str) -> Result<Option<Self>, Error> {
        let path = Self::path(folder, slug, Budget::Small);
        if path.is_file() { Self::read(&path).map(Some) } else { Ok(None) }
    }
}

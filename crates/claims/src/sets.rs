//! The data of a claim: one part to learn from, one to be judged on.

use crate::Error;
use pentimento_core::Batch;
use pentimento_data::{Dataset, Open, Subset, gather, open};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::Device;

/// `[data]` of a recipe over pictures.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Sets {
    /// What is learned from: a known name or a path.
    pub train: String,
    /// What the claim is measured on.
    pub test: String,
    /// Items of the test set, the first in order; 0 = all.
    pub test_items: u64,
}

/// Both parts, open.
#[derive(Clone)]
pub struct Opened {
    /// What is learned from.
    pub train: Arc<dyn Dataset>,
    /// What the claim is measured on.
    pub test: Arc<dyn Dataset>,
}

impl Sets {
    /// Opens what is learned from, alone.
    ///
    /// # Errors
    /// As [`Sets::open`].
    pub fn learned(&self, options: &Open) -> Result<Arc<dyn Dataset>, Error> {
        Ok(open(&self.train, options)?.data)
    }

    /// Opens both.
    ///
    /// # Errors
    /// Data that is not there, with where it was looked for.
    pub fn open(&self) -> Result<Opened, Error> {
        self.open_with(&Open::default())
    }

    /// Opens both with the settings of worlds that a page chooses.
    ///
    /// # Errors
    /// As [`Sets::open`], and settings out of their range.
    pub fn open_with(&self, options: &Open) -> Result<Opened, Error> {
        let train = self.learned(options)?;
        let test = open(&self.test, &Open { limit: self.test_items, ..options.clone() })?.data;
        Ok(Opened { train, test })
    }
}

impl Opened {
    /// Their content, a line each.
    pub fn fingerprints(&self) -> Vec<String> {
        vec![self.train.fingerprint(), self.test.fingerprint()]
    }

    /// Channels, height and width of the pictures.
    pub fn shape(&self) -> [i64; 3] {
        self.train.size()
    }

    /// K, the number of classes.
    ///
    /// # Errors
    /// Data without classes.
    pub fn classes(&self) -> Result<i64, Error> {
        classes(self.train.as_ref())
    }

    /// The whole test set as one batch.
    ///
    /// # Errors
    /// An item that cannot be read.
    pub fn tests(&self, device: Device) -> Result<Batch, Error> {
        let all: Vec<u64> = (0..self.test.len()).collect();
        Ok(gather(self.test.as_ref(), &all)?.upload(device))
    }

    /// The part to learn from without a share that settings are chosen on, and that share as one batch. Which items they are
    /// hangs on their numbers alone.
    ///
    /// # Errors
    /// An item that cannot be read.
    pub fn hold_out(&self, share: f64, device: Device) -> Result<(Arc<dyn Dataset>, Batch), Error> {
        let (learned, held) = held_out(&self.train, share);
        let all: Vec<u64> = (0..held.len()).collect();
        Ok((learned, gather(held.as_ref(), &all)?.upload(device)))
    }

    /// Items to fit a probe on, other ones for every seed: three quarters to fit it, and a quarter to choose its strength.
    ///
    /// # Errors
    /// An item that cannot be read.
    pub fn probed(&self, seed: u64, n: u64, device: Device) -> Result<[Batch; 2], Error> {
        let numbers: Vec<u64> = (0..n).map(|i| (seed * n + i) % self.train.len()).collect();
        let all = self.items(&numbers, device)?;
        let cut = all.len().div_euclid(4) * 3;
        Ok([all.slice(0, cut), all.slice(cut, all.len())])
    }

    /// Items to learn from, by number.
    ///
    /// # Errors
    /// An item that cannot be read.
    pub fn items(&self, numbers: &[u64], device: Device) -> Result<Batch, Error> {
        Ok(gather(self.train.as_ref(), numbers)?.upload(device))
    }
}

/// The number of classes of a data set that has some.
pub(crate) fn classes(data: &dyn Dataset) -> Result<i64, Error> {
    match data.classes().len() {
        0 => Err(Error::NoClasses),
        n => Ok(i64::try_from(n).unwrap_or(i64::MAX)),
    }
}

/// Data without a share of its items, and that share.
pub(crate) fn held_out(data: &Arc<dyn Dataset>, share: f64) -> (Arc<dyn Dataset>, Arc<dyn Dataset>) {
    const KEY: u64 = 0x6775;
    let part = |from, to| -> Arc<dyn Dataset> { Arc::new(Subset::by_hash(data.clone(), KEY, from, to)) };
    (part(share, 1.0), part(0.0, share))
}

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
    /// By their names; `test_items` as in the field.
    pub fn of(train: &str, test: &str, test_items: u64) -> Self {
        Self { train: train.into(), test: test.into(), test_items }
    }

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

    /// Items to fit a probe on, three quarters of them, and to choose its strength on, a quarter. Seeds take them in turn, and begin anew
    /// where the data ends.
    ///
    /// # Errors
    /// Fewer items than are asked for, one that cannot be read.
    pub fn probed(&self, seed: u64, n: u64, device: Device) -> Result<[Batch; 2], Error> {
        if n > self.train.len() {
            return Err(Error::TooFew { asked: n, there: self.train.len() });
        }
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
    (part(data, KEY, share, 1.0), part(data, KEY, 0.0, share))
}

/// The items whose hash under a key lies in `[from, to)` of the unit interval: ranges that do not overlap give parts that share no item,
/// and items appended later move nothing.
pub fn part(data: &Arc<dyn Dataset>, key: u64, from: f64, to: f64) -> Arc<dyn Dataset> {
    Arc::new(Subset::by_hash(data.clone(), key, from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_probe_on_items_in_turn_and_on_no_more_than_there_are() {
        let sets = Sets::of("digits", "digits", 5).open().unwrap();
        let all = sets.train.len();
        let numbers = |seed| {
            let [fit, choose] = sets.probed(seed, 1000, Device::Cpu).unwrap();
            assert_eq!((fit.len(), choose.len()), (750, 250));
            [fit.index, choose.index].concat()
        };
        assert_eq!(numbers(0), (0..1000).collect::<Vec<u64>>());
        assert_eq!(numbers(1), (1000..all).chain(0..2000 - all).collect::<Vec<u64>>());
        let refused = sets.probed(0, all + 1, Device::Cpu).map(|_| ());
        assert!(matches!(refused, Err(Error::TooFew { asked, there }) if asked == all + 1 && there == all));
    }
}

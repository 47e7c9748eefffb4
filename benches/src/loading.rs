//! Row 7, loading: files to normalised batches on two worker threads.

use crate::ask::{Ask, Work};
use anyhow::Result;
use pentimento_core::Batch;
use pentimento_data::{Augment, Dataset, Loader, LoaderConfig, Open};
use std::sync::Arc;
use tch::{Device, Kind};

/// One pass over all items, in order, from the start of the workers to their end.
pub struct Loading {
    data: Arc<dyn Dataset>,
    config: LoaderConfig,
    batches: u64,
}

impl Loading {
    /// The data that the peer's side wrote below the shared folder.
    pub fn new(ask: &Ask, place: &str) -> Result<Self> {
        let path = ask.folder.join(place);
        let data = pentimento_data::open(&path.to_string_lossy(), &Open::default())?.data;
        let batch = usize::try_from(ask.batch)?;
        let batches = data.len().div_euclid(batch.max(1) as u64);
        let config = LoaderConfig { batch, seed: 0, workers: 2, shuffle: false, augment: Augment::default() };
        Ok(Self { data, config, batches })
    }

    fn pass(&self, see: &mut dyn FnMut(&Batch)) -> Result<()> {
        let mut loader = Loader::new(self.data.clone(), self.config, None, 0)?;
        for _ in 0..self.batches {
            see(&loader.next()?.upload(Device::Cpu));
        }
        Ok(())
    }
}

impl Work for Loading {
    fn run(&mut self) -> Result<()> {
        self.pass(&mut |_| ())
    }

    /// Per batch the sums of its values, of their squares and of its labels.
    fn check(&mut self) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        self.pass(&mut |batch| {
            let x = batch.x.to_kind(Kind::Double);
            all.push(x.sum(Kind::Double).double_value(&[]));
            all.push(x.square().sum(Kind::Double).double_value(&[]));
            all.push(batch.y.as_ref().map_or(0.0, |y| y.sum(Kind::Double).double_value(&[])));
        })?;
        Ok(all)
    }
}

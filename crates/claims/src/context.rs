//! What an arm is given: a seed, a device, the loop, and weights that other arms of the same seed share.

use crate::store::{Store, key};
use crate::{Error, LOOKS, Opened};
use pentimento_core::{Batch, Learner};
use pentimento_data::{Augment, Dataset};
use pentimento_io::safetensors::{self, Metadata};
use pentimento_measure::{Features, Part, ProbeConfig, ProbeResult, Target, probe};
use pentimento_nn::weights::{load_params, params_to_arrays};
use pentimento_train::{Course, Diary, Monitor, State, TrainTable, Walked, walk};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// One run of one arm.
pub struct Context<'a> {
    /// Initialisation, data order and noise follow from it; both arms of a pair are given the same.
    pub seed: u64,
    /// Where tensors live.
    pub device: Device,
    pub(crate) share: f64,
    pub(crate) store: &'a Store,
    /// Hash of the page.
    pub(crate) page: &'a str,
    pub(crate) data: &'a [String],
    pub(crate) monitor: &'a mut dyn Monitor,
}

/// A training of which nothing is kept but what it taught.
struct Unwritten;

impl Diary for Unwritten {}

impl Context<'_> {
    /// Trains a learner under a table, from its start, with the loop that `pentimento train` runs. `seed` keys order and
    /// noise: that of the context, or one derived from it where an arm trains several networks.
    ///
    /// # Errors
    /// Unreadable items, gradients that stay non-finite, an interruption.
    pub fn train(
        &mut self,
        learner: &mut dyn Learner,
        data: &Arc<dyn Dataset>,
        table: &TrainTable,
        seed: u64,
    ) -> Result<(), Error> {
        // An estimate walks a share of the way, though never less than two steps.
        let table = TrainTable { images: self.length(table.images, table.batch), ..table.clone() };
        let course =
            Course { table: &table, data: data.clone(), augment: Augment::default(), seed, device: self.device };
        let mut state = State::new(learner, &table);
        match walk(&course, learner, &mut state, &mut Unwritten, self.monitor)? {
            Walked::Whole => Ok(()),
            Walked::Stopped => Err(Error::Interrupted),
        }
    }

    /// Whether somebody will look at this run: seed 0 stands for the others, and a seed that no verdict looks at is a trial. Only such
    /// runs draw pictures.
    pub fn shown(&self) -> bool {
        let verdict = LOOKS.iter().map(|(n, _)| *n as u64).max().unwrap_or(0);
        self.seed == 0 || self.seed >= verdict
    }

    /// A length of training: as it is in a run, a share of it in an estimate.
    pub fn length(&self, images: u64, batch: usize) -> u64 {
        if self.share >= 1.0 {
            return images;
        }
        let part = (images as f64 * self.share / batch as f64).round();
        let steps = (2..images.div_ceil(batch as u64)).find(|&n| n as f64 >= part).unwrap_or(2);
        images.min(steps * batch as u64)
    }

    /// A batch as it is, and in an estimate a share of it: for measurements that are most of an arm's time.
    #[must_use]
    pub fn shortened(&self, batch: &Batch) -> Batch {
        batch.head(usize::try_from(self.length(batch.len() as u64, 1)).unwrap_or(usize::MAX))
    }

    /// The setting with the highest score: how an arm is tuned. One at which training or its codes break down is no candidate, a
    /// single one is taken untried, and where none works the first is left to fail in the open.
    ///
    /// # Errors
    /// No settings; whatever else stops a trial.
    pub fn choose<S: Clone>(
        &mut self,
        settings: &[S],
        mut score: impl FnMut(&mut Self, &S) -> Result<f64, Error>,
    ) -> Result<S, Error> {
        let mut best = (f64::NEG_INFINITY, settings.first().ok_or(Error::NoChoice)?);
        for setting in settings.iter().filter(|_| settings.len() > 1) {
            let found = match score(self, setting) {
                Err(Error::Train(pentimento_train::Error::NonFinite { .. })) => f64::NEG_INFINITY,
                // A rate so large that rectifiers died leaves a code that is the same for every item.
                Err(Error::Measure(pentimento_measure::Error::ConstantFeatures { .. })) => f64::NEG_INFINITY,
                found => found?,
            };
            if found > best.0 {
                best = (found, setting);
            }
        }
        Ok(best.1.clone())
    }

    /// Trains what `make` initialises at the rate at which a trial of so many images does best on held-out items, by `score`: how
    /// most arms are tuned. Returns the model and its rate.
    ///
    /// # Errors
    /// As [`Context::choose`].
    pub fn tuned<M: Learner>(
        &mut self,
        sets: &Opened,
        rates: &[f64],
        trial_images: u64,
        table: &TrainTable,
        make: impl Fn(&Self) -> Result<M, Error>,
        score: impl Fn(&M, &Batch) -> Result<f64, Error>,
    ) -> Result<(M, f64), Error> {
        let (learned, held) = sets.hold_out(0.02, self.device)?;
        let train = |ctx: &mut Self, images, lr| -> Result<M, Error> {
            let mut model = make(ctx)?;
            ctx.train(&mut model, &learned, &TrainTable { images, lr, ..table.clone() }, ctx.seed)?;
            Ok(model)
        };
        let rate = self.choose(rates, |ctx, rate| score(&train(ctx, trial_images, *rate)?, &held))?;
        Ok((train(self, table.images, rate)?, rate))
    }

    /// Whether the user asked to stop: for arms that do not train through the loop.
    ///
    /// # Errors
    /// [`Error::Interrupted`], if so.
    pub fn go_on(&mut self) -> Result<(), Error> {
        if self.monitor.stop() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// A learner that several arms share, trained as in [`Context::train`] at the seed of the context; see [`Context::base`].
    ///
    /// # Errors
    /// As [`Context::base`].
    pub fn trained_once<L: Learner>(
        &mut self,
        name: &str,
        settings: &Value,
        mut learner: L,
        data: &Arc<dyn Dataset>,
        table: &TrainTable,
    ) -> Result<L, Error> {
        let seed = self.seed;
        self.base(name, settings, seed, &mut learner, |ctx, learner| ctx.train(learner, data, table, seed))?;
        Ok(learner)
    }

    /// Weights that several arms share: loaded if they were trained before by the same page under the same settings, data, *seed*
    /// and numerics, else trained by `train` and kept. One base for all seeds would count one network as many.
    ///
    /// # Errors
    /// What training meets, an unreadable store, a full disk.
    pub fn base<L: Learner>(
        &mut self,
        name: &str,
        settings: &Value,
        seed: u64,
        learner: &mut L,
        train: impl FnOnce(&mut Self, &mut L) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let identity = json!({
            "base": name,
            "page": self.page,
            "settings": settings,
            "data": self.data,
            "seed": seed,
            "share": self.share,
            "numerics": pentimento_core::numerics(Kind::Float),
            "device": format!("{:?}", self.device),
        });
        let file = format!("base-{name}-{seed}-{}.safetensors", key(&identity));
        if let Some(bytes) = self.store.get(&file)? {
            let mut saved = safetensors::Reader::from_bytes(Path::new(&file), &bytes)?;
            for (set, params) in learner.params() {
                load_params(params, |n| saved.read(&format!("{set}.{n}")).ok())?;
            }
            return Ok(());
        }
        train(self, learner)?;
        let mut arrays = Vec::new();
        for (set, params) in learner.params() {
            arrays.extend(params_to_arrays(params)?.into_iter().map(|(n, a)| (format!("{set}.{n}"), a)));
        }
        let named: Vec<_> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let header = Metadata::from([("format".to_owned(), "pt".to_owned()), ("base".into(), identity.to_string())]);
        self.store.put(&file, safetensors::to_bytes(&named, &header)?)
    }
}

/// A linear probe of labels on codes, of the parts to fit, to choose its strength and to judge.
///
/// # Errors
/// Codes that are not finite, a part without all of the labels.
pub fn probe_codes(parts: [(Tensor, Vec<u32>); 3]) -> Result<ProbeResult, Error> {
    let mut codes = Vec::new();
    for (code, _) in &parts {
        codes.push(features(code)?);
    }
    let part = |i: usize| Part { features: &codes[i], target: Target::Labels(&parts[i].1) };
    Ok(probe(&part(0), &part(1), &part(2), &ProbeConfig::linear())?)
}

/// A linear probe of the classes on what `code` makes of pictures, `[N, D]`: parts as in [`probe_codes`].
///
/// # Errors
/// As [`probe_codes`], and data without classes.
pub fn probe_batches(parts: [&Batch; 3], code: impl Fn(&Tensor) -> Tensor) -> Result<ProbeResult, Error> {
    let one = |b: &Batch| -> Result<_, Error> { Ok((code(&b.x), labels(b)?)) };
    probe_codes([one(parts[0])?, one(parts[1])?, one(parts[2])?])
}

/// Codes `[N, D]` as the measures take them.
///
/// # Errors
/// A value that is not finite.
pub fn features(codes: &Tensor) -> Result<Features, Error> {
    let width = usize::try_from(codes.size()[1]).unwrap_or(usize::MAX);
    let mut values = vec![0.0; codes.numel()];
    codes.to_kind(Kind::Float).contiguous().copy_data(&mut values, codes.numel());
    Ok(Features::new(width, values)?)
}

/// The classes of a batch, as the measures take them.
///
/// # Errors
/// Data without classes.
pub fn labels(batch: &Batch) -> Result<Vec<u32>, Error> {
    let host = batch.y.as_ref().and_then(|y| Vec::<i64>::try_from(y).ok());
    let known = host.and_then(|y| y.into_iter().map(|y| u32::try_from(y).ok()).collect());
    known.ok_or(Error::NoClasses)
}

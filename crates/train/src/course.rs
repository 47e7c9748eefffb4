//! The loop: any `Learner`, any data set, one table of lengths and step sizes. What is logged, looked at and saved on the way
//! is the business of a [`Diary`].

use crate::checkpoint::Window;
use crate::recipe::TrainTable;
use crate::{Ema, Error, Monitor, Progress, ema_weight, learning_rate};
use pentimento_core::optim::{AdamW, AdamWConfig, Optimisers};
use pentimento_core::{At, Batch, Learner, noise};
use pentimento_data::{Augment, Dataset, Loader, LoaderConfig};
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Tensor};

/// All that the loop needs besides a learner.
pub struct Course<'a> {
    /// Lengths, step sizes, cadences.
    pub table: &'a TrainTable,
    /// What is learned from.
    pub data: Arc<dyn Dataset>,
    /// Random changes of its pictures.
    pub augment: Augment,
    /// Key of order, augmentation and noise.
    pub seed: u64,
    /// Where batches go.
    pub device: Device,
}

/// What happens at the loop's cadences; each part does nothing unless it is written.
pub trait Diary {
    /// A line of the log is due; the window holds what happened since the last.
    ///
    /// # Errors
    /// A full disk.
    fn log(&mut self, _learner: &dyn Learner, _state: &State, _rate: f64) -> Result<(), Error> {
        Ok(())
    }
    /// The loss on held-out items is due.
    ///
    /// # Errors
    /// An unreadable item, a full disk.
    fn validate(&mut self, _learner: &dyn Learner, _state: &State) -> Result<(), Error> {
        Ok(())
    }
    /// Pictures are due.
    ///
    /// # Errors
    /// A full disk.
    fn picture(&mut self, _learner: &dyn Learner, _state: &State) -> Result<(), Error> {
        Ok(())
    }
    /// Everything must be saved.
    ///
    /// # Errors
    /// A full disk.
    fn save(&mut self, _learner: &mut dyn Learner, _state: &State) -> Result<(), Error> {
        Ok(())
    }
    /// The last place from which training could start again, for the message when it fails.
    fn last_good(&self) -> String {
        "none".into()
    }
}

/// Whether a course was walked to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// All images were seen.
    Whole,
    /// The monitor asked to stop.
    Stopped,
}

/// Training apart from the learner itself: optimisers, average, position, log window.
pub struct State {
    /// One optimiser per parameter set.
    pub optimisers: Optimisers,
    /// The moving average of the first parameter set, if one is kept.
    pub ema: Option<Ema>,
    /// Images seen.
    pub images: u64,
    /// Steps done.
    pub step: u64,
    /// Sums since the last line of the log.
    pub window: Window,
    /// Steps skipped in a row, and in all, for want of a finite gradient.
    pub nonfinite: [u64; 2],
    /// Seconds of training before this process.
    pub elapsed_before: f64,
    started: Instant,
}

impl State {
    /// The start of training: fresh moments, an average that equals the weights.
    pub fn new(learner: &dyn Learner, t: &TrainTable) -> Self {
        let mut optimisers = Optimisers::new(if t.micro_batch == 0 { t.batch } else { t.micro_batch });
        let clip = if t.clip > 0.0 { t.clip } else { f64::INFINITY };
        let config = AdamWConfig {
            beta1: t.betas[0],
            beta2: t.betas[1],
            weight_decay: t.weight_decay,
            clip,
            ..Default::default()
        };
        for (name, params) in learner.params() {
            optimisers.add(name, AdamW::new(params, config));
        }
        let ema = (t.ema_halflife_images > 0).then(|| learner.params().first().map(|(_, p)| Ema::new(p))).flatten();
        Self {
            optimisers,
            ema,
            images: 0,
            step: 0,
            window: Window::default(),
            nonfinite: [0; 2],
            elapsed_before: 0.0,
            started: Instant::now(),
        }
    }

    /// Every tensor of learner and state under its name in a file; they share storage with the live ones.
    pub fn tensors(&self, learner: &mut dyn Learner) -> Vec<(String, Tensor)> {
        let mut all = Vec::new();
        for (set, params) in learner.params() {
            all.extend(params.entries().into_iter().map(|p| (format!("{set}.{}", p.name), p.tensor.detach())));
        }
        if let Some(ema) = &self.ema {
            ema.visit(&mut |name, t| all.push((format!("ema.{name}"), t.shallow_clone())));
        }
        self.optimisers.visit_state(&mut |name, t| all.push((format!("optim.{name}"), t.shallow_clone())));
        learner.visit_state(&mut |name, t| all.push((format!("state.{name}"), t.shallow_clone())));
        all
    }

    /// Seconds of training, in this process and before it.
    pub fn elapsed(&self) -> f64 {
        self.elapsed_before + self.started.elapsed().as_secs_f64()
    }

    /// Mean loss of the window.
    pub fn mean_loss(&self) -> f64 {
        self.window.terms.iter().map(|(_, sum)| sum).sum::<f64>() / (self.window.steps.max(1)) as f64
    }

    /// One step: learning rate, learner, average, bookkeeping.
    fn advance(&mut self, course: &Course, learner: &mut dyn Learner, batch: &Batch) -> Result<(), Error> {
        let t = course.table;
        let at = At { seed: course.seed, step: self.step, images: self.images };
        noise::reseed_libtorch(at.seed, at.step);
        let n = batch.len() as u64;
        self.optimisers.lr = learning_rate(self.images + n, t.lr, t.warmup_images, t.images, t.schedule);
        let terms = learner.step(batch, &at, &mut self.optimisers);
        let info = self.optimisers.take_info();
        let skipped = info.iter().any(|i| i.skipped.double_value(&[]) > 0.5);
        self.images += n;
        self.step += 1;
        if skipped {
            self.nonfinite = [self.nonfinite[0] + 1, self.nonfinite[1] + 1];
            return Ok(());
        }
        self.nonfinite[0] = 0;
        if let Some(ema) = &self.ema {
            ema.update(ema_weight(self.images, t.batch, t.ema_halflife_images));
        }
        self.window.steps += 1;
        self.window.images += n;
        self.window.norm += info.iter().map(|i| i.norm.double_value(&[])).sum::<f64>();
        for (i, (name, value)) in terms.0.iter().enumerate() {
            let value = value.double_value(&[]);
            match self.window.terms.get_mut(i) {
                Some((_, sum)) => *sum += value,
                None => self.window.terms.push((name.clone(), value)),
            }
        }
        Ok(())
    }

    fn nonfinite_error(&self, learner: &dyn Learner, last: String) -> Error {
        let mut layer = "none of the weights; the loss itself".to_owned();
        for (set, params) in learner.params() {
            if let Some(p) = params.entries().iter().find(|p| p.tensor.isfinite().all().int64_value(&[]) == 0) {
                layer = format!("{set}.{}", p.name);
            }
        }
        Error::NonFinite { steps: self.nonfinite[0], step: self.step, layer, last }
    }

    fn progress(&self, total: u64, rate: f64) -> Progress {
        let memory = pentimento_io::system::memory();
        Progress {
            images: self.images,
            total,
            step: self.step,
            rate,
            loss: self.mean_loss(),
            eta_s: total.saturating_sub(self.images) as f64 / rate.max(1e-9),
            memory_mib: memory.now_mib,
            peak_mib: memory.peak_mib,
        }
    }
}

/// Whether something that happens every so many images falls between two positions; never for 0.
pub(crate) fn due(every: u64, before: u64, now: u64) -> bool {
    every > 0 && before.div_euclid(every) < now.div_euclid(every)
}

/// Trains from where the state stands to the end of the course.
///
/// # Errors
/// Unreadable items, gradients that stay non-finite, and what the diary meets.
pub fn walk(
    course: &Course,
    learner: &mut dyn Learner,
    state: &mut State,
    diary: &mut dyn Diary,
    monitor: &mut dyn Monitor,
) -> Result<Walked, Error> {
    let t = course.table;
    let config =
        LoaderConfig { batch: t.batch, seed: course.seed, workers: t.workers, shuffle: true, augment: course.augment };
    let mut loader = Loader::new(course.data.clone(), config, learner.draw(), state.images)?;
    let (mut tick, mut ticked) = (Instant::now(), state.images);
    let mut line = (Instant::now(), state.images);
    while state.images < t.images {
        let batch = loader.next()?.upload(course.device);
        let before = state.images;
        state.advance(course, learner, &batch)?;
        if state.nonfinite[0] >= t.max_nonfinite {
            return Err(state.nonfinite_error(learner, diary.last_good()));
        }
        let now = state.images;
        let crossed = |every| due(every, before, now);
        let last = now >= t.images;
        if tick.elapsed().as_secs_f64() > 0.5 || last {
            let rate = (now - ticked) as f64 / tick.elapsed().as_secs_f64();
            monitor.progress(&state.progress(t.images, rate));
            (tick, ticked) = (Instant::now(), now);
        }
        if crossed(t.log_images) || last {
            let rate = (now - line.1) as f64 / line.0.elapsed().as_secs_f64();
            diary.log(learner, state, rate)?;
            // A line that only the end of the course called for leaves the window open, in case the course grows longer.
            if crossed(t.log_images) {
                state.window = Window::default();
            }
            line = (Instant::now(), now);
        }
        let pause = Instant::now();
        if crossed(t.validate_images) || last {
            diary.validate(learner, state)?;
        }
        if crossed(t.sample_images) || last {
            diary.picture(learner, state)?;
        }
        let stop = monitor.stop();
        if crossed(t.save_images) || last || stop {
            diary.save(learner, state)?;
        }
        // Rates are those of training, not of what interrupts it.
        tick += pause.elapsed();
        line.0 += pause.elapsed();
        if stop && !last {
            return Ok(Walked::Stopped);
        }
    }
    Ok(Walked::Whole)
}

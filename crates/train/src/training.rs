use crate::checkpoint::{self, Checkpoint, Meta, Window};
use crate::draw::{Drawing, Model};
use crate::{Ema, Error, Monitor, Plan, Progress, RunFolder, ema_weight, learning_rate, model};
use pentimento_core::optim::{AdamW, AdamWConfig, Optimisers};
use pentimento_core::{At, Batch, Draw, Learner, noise};
use pentimento_data::{Augment, Loader, LoaderConfig};
use std::sync::Arc;
use std::time::Instant;
use tch::Tensor;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All images were seen; the hash of the final weights.
    Finished {
        /// blake3 over names, shapes and bytes, 16 hex digits.
        weights: String,
    },
    /// The monitor asked to stop; everything is saved.
    Interrupted {
        /// Images seen.
        images: u64,
    },
}

/// Trains a plan, from its newest checkpoint if there is one.
///
/// # Errors
/// A run folder of another plan or in other hands, a full disk, gradients that stay non-finite.
pub fn train(plan: &Plan, monitor: &mut dyn Monitor) -> Result<Ending, Error> {
    let lock = RunFolder::lock(&plan.outdir)?;
    let (saved, passed) = Checkpoint::newest(&plan.outdir)?;
    for line in passed {
        monitor.say(&line);
    }
    let mut run = Run::new(plan)?;
    if let Some(saved) = &saved {
        run.resume(saved, monitor)?;
    }
    let mut folder = RunFolder::open(&plan.outdir, run.images, lock)?;
    let text = serde_json::to_string_pretty(&plan.json()).unwrap_or_default();
    pentimento_io::atomic::write_bytes(&plan.outdir.join("plan.json"), text.as_bytes())?;
    let toml = toml::to_string(&plan.recipe).unwrap_or_default();
    pentimento_io::atomic::write_bytes(&plan.outdir.join("recipe.toml"), toml.as_bytes())?;
    run.walk(&mut folder, monitor)
}

/// The whole state of training: what a checkpoint holds.
struct Run<'a> {
    plan: &'a Plan,
    learner: Box<dyn Learner>,
    validation: Arc<dyn Draw>,
    optimisers: Optimisers,
    ema: Option<Ema>,
    images: u64,
    step: u64,
    window: Window,
    nonfinite: [u64; 2],
    elapsed_before: f64,
    started: Instant,
    preview: Option<Model>,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Result<Self, Error> {
        let t = &plan.recipe.train;
        let model::Learned { learner, validation } = model::learner(plan)?;
        let learner: Box<dyn Learner> = Box::new(learner);
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
        Ok(Self {
            plan,
            learner,
            validation,
            optimisers,
            ema,
            images: 0,
            step: 0,
            window: Window::default(),
            nonfinite: [0; 2],
            elapsed_before: 0.0,
            started: Instant::now(),
            preview: None,
        })
    }

    /// Every tensor of the state under its name in the file; they share storage with the live ones.
    fn tensors(&mut self) -> Vec<(String, Tensor)> {
        let mut all = Vec::new();
        for (set, params) in self.learner.params() {
            all.extend(params.entries().into_iter().map(|p| (format!("{set}.{}", p.name), p.tensor.detach())));
        }
        if let Some(ema) = &self.ema {
            ema.visit(&mut |name, t| all.push((format!("ema.{name}"), t.shallow_clone())));
        }
        self.optimisers.visit_state(&mut |name, t| all.push((format!("optim.{name}"), t.shallow_clone())));
        self.learner.visit_state(&mut |name, t| all.push((format!("state.{name}"), t.shallow_clone())));
        all
    }

    fn resume(&mut self, saved: &Checkpoint, monitor: &mut dyn Monitor) -> Result<(), Error> {
        if let Some(difference) = self.difference(&saved.meta) {
            return Err(Error::OtherPlan { path: self.plan.outdir.clone(), difference });
        }
        for (name, tensor) in self.tensors() {
            saved.restore(&name, &tensor)?;
        }
        let m = &saved.meta;
        (self.images, self.step, self.nonfinite, self.elapsed_before) = (m.images, m.step, m.nonfinite, m.elapsed_s);
        self.window = m.window.clone();
        monitor.say(&format!(
            "resuming at {} of {} images from {}",
            m.images,
            self.plan.recipe.train.images,
            saved.path.display()
        ));
        let here = checkpoint::machine();
        for (key, theirs) in &m.machine {
            if here.get(key).is_some_and(|ours| ours != theirs) {
                monitor.say(&format!(
                    "{key} was {theirs} and is {} now: the last bits will differ from an unbroken run",
                    here[key]
                ));
            }
        }
        if m.numerics != pentimento_core::NUMERICS {
            monitor.say("an older version of the arithmetic began this run: the last bits will differ");
        }
        Ok(())
    }

    /// The first setting that makes this another run. Length, cadences, retention and loader threads may change.
    fn difference(&self, meta: &Meta) -> Option<String> {
        let free = [
            "images",
            "workers",
            "log_images",
            "validate_images",
            "sample_images",
            "save_images",
            "keep",
            "keep_every",
        ];
        let flat = |recipe: &crate::Recipe| {
            let mut leaves = Vec::new();
            flatten("", &serde_json::json!(recipe), &mut leaves);
            leaves
        };
        let (old, new) = (flat(&meta.recipe), flat(&self.plan.recipe));
        let matters = |key: &str| {
            let later = key.starts_with("sample.") || key.starts_with("judge");
            let cadence = key.strip_prefix("train.").is_some_and(|k| free.contains(&k));
            !later && !cadence
        };
        for (key, value) in &new {
            let before = old.iter().find(|(k, _)| k == key).map_or("absent", |(_, v)| v);
            if matters(key) && before != value {
                return Some(format!("{key} was {before} and is {value} now"));
            }
        }
        if let Some((key, value)) = old.iter().find(|(k, _)| matters(k) && !new.iter().any(|(n, _)| n == k)) {
            return Some(format!("{key} was {value} and is absent now"));
        }
        (meta.data_hash != self.plan.data_hash)
            .then(|| format!("the data was {} and is {} now", meta.data_hash, self.plan.data_hash))
    }

    fn walk(&mut self, folder: &mut RunFolder, monitor: &mut dyn Monitor) -> Result<Ending, Error> {
        let t = self.plan.recipe.train.clone();
        let d = &self.plan.recipe.data;
        let augment = Augment { flip: d.flip, shift: d.shift };
        let config =
            LoaderConfig { batch: t.batch, seed: self.plan.recipe.seed, workers: t.workers, shuffle: true, augment };
        let mut loader = Loader::new(self.plan.parts.train.clone(), config, self.learner.draw(), self.images)?;
        let (mut tick, mut ticked) = (Instant::now(), self.images);
        let mut line = (Instant::now(), self.images);
        while self.images < t.images {
            let batch = loader.next()?.upload(self.plan.device);
            let before = self.images;
            self.advance(&batch)?;
            let now = self.images;
            let crossed = |every: u64| every > 0 && before.div_euclid(every) < now.div_euclid(every);
            if tick.elapsed().as_secs_f64() > 0.5 || self.images >= t.images {
                monitor.progress(&self.progress((self.images - ticked) as f64 / tick.elapsed().as_secs_f64()));
                (tick, ticked) = (Instant::now(), self.images);
            }
            let last = self.images >= t.images;
            if crossed(t.log_images) || last {
                let rate = (self.images - line.1) as f64 / line.0.elapsed().as_secs_f64();
                self.log(folder, rate)?;
                line = (Instant::now(), self.images);
            }
            if crossed(t.validate_images) || last {
                self.validate(folder)?;
            }
            if crossed(t.sample_images) || last {
                self.picture(folder)?;
            }
            let stop = monitor.stop();
            if crossed(t.save_images) || last || stop {
                self.save(folder)?;
            }
            if stop && !last {
                return Ok(Ending::Interrupted { images: self.images });
            }
        }
        self.finish(folder)
    }

    /// One step: learning rate, learner, average, bookkeeping.
    fn advance(&mut self, batch: &Batch) -> Result<(), Error> {
        let t = &self.plan.recipe.train;
        let at = At { seed: self.plan.recipe.seed, step: self.step, images: self.images };
        noise::reseed_libtorch(at.seed, at.step);
        let n = batch.len() as u64;
        self.optimisers.lr = learning_rate(self.images + n, t.lr, t.warmup_images, t.images, t.schedule);
        let terms = self.learner.step(batch, &at, &mut self.optimisers);
        let info = self.optimisers.take_info();
        let skipped = info.iter().any(|i| i.skipped.double_value(&[]) > 0.5);
        self.images += n;
        self.step += 1;
        if skipped {
            self.nonfinite = [self.nonfinite[0] + 1, self.nonfinite[1] + 1];
            if self.nonfinite[0] >= t.max_nonfinite {
                return Err(self.nonfinite_error());
            }
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

    fn nonfinite_error(&self) -> Error {
        let mut layer = "none of the weights; the loss itself".to_owned();
        for (set, params) in self.learner.params() {
            if let Some(p) = params.entries().iter().find(|p| p.tensor.isfinite().all().int64_value(&[]) == 0) {
                layer = format!("{set}.{}", p.name);
            }
        }
        let last = RunFolder::checkpoints(&self.plan.outdir).pop();
        Error::NonFinite {
            steps: self.nonfinite[0],
            step: self.step,
            layer,
            last: last.map_or("none".into(), |(_, p)| p.display().to_string()),
        }
    }

    fn elapsed(&self) -> f64 {
        self.elapsed_before + self.started.elapsed().as_secs_f64()
    }

    fn mean_loss(&self) -> f64 {
        self.window.terms.iter().map(|(_, sum)| sum).sum::<f64>() / (self.window.steps.max(1)) as f64
    }

    fn progress(&self, rate: f64) -> Progress {
        let memory = pentimento_io::system::memory();
        let total = self.plan.recipe.train.images;
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

    fn log(&mut self, folder: &mut RunFolder, rate: f64) -> Result<(), Error> {
        let steps = self.window.steps.max(1) as f64;
        let memory = pentimento_io::system::memory();
        let mut scalars = vec![("step", self.step as f64), ("loss", self.mean_loss())];
        let terms = self.window.terms.clone();
        if terms.len() > 1 {
            scalars.extend(terms.iter().map(|(name, sum)| (name.as_str(), sum / steps)));
        }
        scalars.extend([
            ("grad_norm", self.window.norm / steps),
            ("lr", self.optimisers.lr),
            ("skipped", self.nonfinite[1] as f64),
            ("ema_distance", self.ema.as_ref().map_or(0.0, Ema::distance)),
            ("images_per_s", rate),
            ("memory_mib", memory.now_mib),
            ("peak_mib", memory.peak_mib),
            ("elapsed_s", self.elapsed()),
        ]);
        folder.scalars(self.images, "train", &scalars)?;
        self.window = Window::default();
        Ok(())
    }

    /// Loss on held-out items under noise that is the same at every validation: at most 2048 of them.
    fn validate(&mut self, folder: &mut RunFolder) -> Result<(), Error> {
        const SEED: u64 = 0x56414C;
        let held = &self.plan.parts.validation;
        let n = held.len().min(2048);
        if n == 0 {
            return Ok(());
        }
        let batch = self.plan.recipe.train.batch.min(usize::try_from(n).unwrap_or(1));
        let config = LoaderConfig { batch, seed: SEED, workers: 1, shuffle: false, augment: Augment::default() };
        let mut loader = Loader::new(held.clone(), config, Some(self.validation.clone()), 0)?;
        let (mut sum, mut batches) = (0.0, 0.0);
        let at = At { seed: SEED, step: 0, images: 0 };
        for _ in 0..n.div_euclid(batch as u64) {
            let terms = self.learner.validate(&loader.next()?.upload(self.plan.device), &at);
            sum += terms.total().double_value(&[]);
            batches += 1.0;
        }
        folder.scalars(self.images, "val", &[("loss", sum / batches)])
    }

    /// A grid from the averaged weights on a fixed seed.
    fn picture(&mut self, folder: &mut RunFolder) -> Result<(), Error> {
        if self.preview.is_none() {
            self.preview = Some(Model::blank(&self.plan.recipe, &self.plan.signature, self.plan.device)?);
        }
        let (Some(preview), Some((_, live))) = (&self.preview, self.learner.params().into_iter().next()) else {
            return Ok(());
        };
        match &self.ema {
            Some(ema) => ema.copy_into(preview.params())?,
            None => preview.params().copy_from(live)?,
        }
        let drawing = Drawing { n: 40.max(preview.classes()), seed: 0, ..Drawing::of(&self.plan.recipe) };
        let pictures = drawing.run(preview, &mut |_, _| {})?;
        let png = drawing.grid(&pictures, preview)?;
        folder.picture(self.images, &png)
    }

    fn meta(&self) -> Meta {
        Meta {
            format_version: checkpoint::FORMAT_VERSION,
            numerics: pentimento_core::NUMERICS,
            images: self.images,
            step: self.step,
            recipe: self.plan.recipe.clone(),
            signature: self.plan.signature.clone(),
            data_hash: self.plan.data_hash.clone(),
            elapsed_s: self.elapsed(),
            window: self.window.clone(),
            nonfinite: self.nonfinite,
            machine: checkpoint::machine(),
        }
    }

    fn save(&mut self, folder: &RunFolder) -> Result<(), Error> {
        let t = &self.plan.recipe.train;
        let path = folder.path().join(format!("checkpoints/{:09}.safetensors", self.images));
        checkpoint::write(&path, &self.meta(), &self.tensors())?;
        folder.retain(t.keep, t.keep_every, t.save_images)
    }

    /// Writes `model.safetensors`, the averaged weights alone, and returns the hash of the live ones.
    fn finish(&mut self, folder: &RunFolder) -> Result<Ending, Error> {
        let averaged = if self.ema.is_some() { "ema." } else { "net." };
        let all = self.tensors();
        let model: Vec<_> =
            all.iter().filter(|(n, _)| n.starts_with(averaged)).map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
        checkpoint::write(&folder.path().join("model.safetensors"), &self.meta(), &model)?;
        let live: Vec<_> = all.into_iter().filter(|(n, _)| n.starts_with("net.")).collect();
        Ok(Ending::Finished { weights: checkpoint::hash(&live)? })
    }
}

/// Leaves of a JSON value by their dotted path.
fn flatten(prefix: &str, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, inner) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, inner, out);
            }
        }
        leaf => out.push((prefix.into(), leaf.to_string())),
    }
}

use crate::checkpoint::{self, Checkpoint, Meta};
use crate::course::{Course, Diary, State, Walked, due, walk};
use crate::draw::{Drawing, Model};
use crate::folder::Kept;
use crate::{Ema, Error, Monitor, Plan, RunFolder, model};
use pentimento_core::{At, Draw, Learner};
use pentimento_data::{Augment, Loader, LoaderConfig};
use std::sync::Arc;

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
    let kept = match &saved {
        Some(saved) => run.resume(saved, monitor)?,
        None => Kept::whole(0),
    };
    let mut folder = RunFolder::open(&plan.outdir, kept, lock)?;
    let text = serde_json::to_string_pretty(&plan.json()).unwrap_or_default();
    pentimento_io::atomic::write_bytes(&plan.outdir.join("plan.json"), text.as_bytes())?;
    let toml = toml::to_string(&plan.recipe).unwrap_or_default();
    pentimento_io::atomic::write_bytes(&plan.outdir.join("recipe.toml"), toml.as_bytes())?;
    run.walk(&mut folder, monitor)
}

/// A run folder's training: the plan's learner, where it stands, and what is written down on the way.
struct Run<'a> {
    plan: &'a Plan,
    learner: Box<dyn Learner>,
    state: State,
    validation: Arc<dyn Draw>,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Result<Self, Error> {
        let model::Learned { learner, validation } = model::learner(plan)?;
        let learner: Box<dyn Learner> = Box::new(learner);
        let state = State::new(learner.as_ref(), &plan.recipe.train);
        Ok(Self { plan, learner, state, validation })
    }

    fn resume(&mut self, saved: &Checkpoint, monitor: &mut dyn Monitor) -> Result<Kept, Error> {
        if let Some(difference) = self.difference(&saved.meta) {
            return Err(Error::OtherPlan { path: self.plan.outdir.clone(), difference });
        }
        for (name, tensor) in self.state.tensors(self.learner.as_mut()) {
            saved.restore(&name, &tensor)?;
        }
        let (m, at) = (&saved.meta, &mut self.state);
        (at.images, at.step, at.nonfinite, at.elapsed_before) = (m.images, m.step, m.nonfinite, m.elapsed_s);
        at.window = m.window.clone();
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
        let (t, before) = (&m.recipe.train, m.images.saturating_sub(m.recipe.train.batch as u64));
        if self.plan.recipe.train.images <= m.images {
            return Ok(Kept::whole(m.images));
        }
        // By the cadences of the run that wrote them: they may be other ones now.
        Ok(Kept {
            images: m.images,
            log: due(t.log_images, before, m.images),
            validation: due(t.validate_images, before, m.images),
            picture: due(t.sample_images, before, m.images),
        })
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

    fn walk(mut self, folder: &mut RunFolder, monitor: &mut dyn Monitor) -> Result<Ending, Error> {
        let (plan, d) = (self.plan, &self.plan.recipe.data);
        let course = Course {
            table: &plan.recipe.train,
            data: plan.parts.train.clone(),
            augment: Augment { flip: d.flip, shift: d.shift },
            seed: plan.recipe.seed,
            device: plan.device,
        };
        let mut diary = FolderDiary { plan, folder, validation: self.validation, preview: None };
        match walk(&course, self.learner.as_mut(), &mut self.state, &mut diary, monitor)? {
            Walked::Stopped => Ok(Ending::Interrupted { images: self.state.images }),
            Walked::Whole => diary.finish(self.learner.as_mut(), &self.state),
        }
    }
}

/// Writes what the loop gives it into a run folder.
struct FolderDiary<'a> {
    plan: &'a Plan,
    folder: &'a mut RunFolder,
    validation: Arc<dyn Draw>,
    preview: Option<Model>,
}

impl Diary for FolderDiary<'_> {
    fn log(&mut self, _: &dyn Learner, state: &State, rate: f64) -> Result<(), Error> {
        let window = &state.window;
        let steps = window.steps.max(1) as f64;
        let memory = pentimento_io::system::memory();
        let mut scalars = vec![("step", state.step as f64), ("loss", state.mean_loss())];
        if window.terms.len() > 1 {
            scalars.extend(window.terms.iter().map(|(name, sum)| (name.as_str(), sum / steps)));
        }
        scalars.extend([
            ("grad_norm", window.norm / steps),
            ("lr", state.optimisers.lr),
            ("skipped", state.nonfinite[1] as f64),
            ("ema_distance", state.ema.as_ref().map_or(0.0, Ema::distance)),
            ("images_per_s", rate),
            ("memory_mib", memory.now_mib),
            ("peak_mib", memory.peak_mib),
            ("elapsed_s", state.elapsed()),
        ]);
        self.folder.scalars(state.images, "train", &scalars)
    }

    /// Loss on held-out items under noise that is the same at every validation: at most 2048 of them.
    fn validate(&mut self, learner: &dyn Learner, state: &State) -> Result<(), Error> {
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
            let terms = learner.validate(&loader.next()?.upload(self.plan.device), &at);
            sum += terms.total().double_value(&[]);
            batches += 1.0;
        }
        self.folder.scalars(state.images, "val", &[("loss", sum / batches)])
    }

    /// A grid from the averaged weights on a fixed seed.
    fn picture(&mut self, learner: &dyn Learner, state: &State) -> Result<(), Error> {
        if self.preview.is_none() {
            self.preview = Some(Model::blank(&self.plan.recipe, &self.plan.signature, self.plan.device)?);
        }
        let (Some(preview), Some((_, live))) = (&self.preview, learner.params().into_iter().next()) else {
            return Ok(());
        };
        match &state.ema {
            Some(ema) => ema.copy_into(preview.params())?,
            None => preview.params().copy_from(live)?,
        }
        let drawing = Drawing { n: 40.max(preview.classes()), seed: 0, ..Drawing::of(&self.plan.recipe) };
        let pictures = drawing.run(preview, &mut |_, _| {})?;
        let png = drawing.grid(&pictures, preview)?;
        self.folder.picture(state.images, &png)
    }

    fn save(&mut self, learner: &mut dyn Learner, state: &State) -> Result<(), Error> {
        let t = &self.plan.recipe.train;
        let path = self.folder.path().join(format!("checkpoints/{:09}.safetensors", state.images));
        checkpoint::write(&path, &self.meta(state), &state.tensors(learner))?;
        self.folder.retain(t.keep, t.keep_every, t.save_images)
    }

    fn last_good(&self) -> String {
        let last = RunFolder::checkpoints(&self.plan.outdir).pop();
        last.map_or("none".into(), |(_, p)| p.display().to_string())
    }
}

impl FolderDiary<'_> {
    fn meta(&self, state: &State) -> Meta {
        Meta {
            format_version: checkpoint::FORMAT_VERSION,
            numerics: pentimento_core::NUMERICS,
            images: state.images,
            step: state.step,
            recipe: self.plan.recipe.clone(),
            signature: self.plan.signature.clone(),
            data_hash: self.plan.data_hash.clone(),
            elapsed_s: state.elapsed(),
            window: state.window.clone(),
            nonfinite: state.nonfinite,
            machine: checkpoint::machine(),
        }
    }

    /// Writes `model.safetensors`, the averaged weights alone, and returns the hash of the live ones.
    fn finish(&self, learner: &mut dyn Learner, state: &State) -> Result<Ending, Error> {
        let averaged = if state.ema.is_some() { "ema." } else { "net." };
        let all = state.tensors(learner);
        let model: Vec<_> =
            all.iter().filter(|(n, _)| n.starts_with(averaged)).map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
        checkpoint::write(&self.folder.path().join("model.safetensors"), &self.meta(state), &model)?;
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

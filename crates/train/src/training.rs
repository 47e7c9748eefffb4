use crate::checkpoint::{self, Checkpoint, Meta};
use crate::course::{Course, Diary, State, Walked, due, walk};
use crate::draw::{Drawing, Model};
use crate::folder::Kept;
use crate::plan::Signature;
use crate::recipe::TrainTable;
use crate::{Ema, Error, Monitor, Plan, RunFolder, model};
use pentimento_core::{At, Draw, Learner};
use pentimento_data::{Augment, Dataset, Loader, LoaderConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tch::{Device, Kind};

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

/// Makes a picture of what is learned, if there is one to be made.
pub type Painter = Box<dyn FnMut(&dyn Learner, &State) -> Result<Option<Vec<u8>>, Error>>;

/// What a run folder trains, whoever planned it.
pub struct Job {
    /// The run folder.
    pub outdir: PathBuf,
    /// What makes it this run: stored with every checkpoint, and compared when the run goes on. Its `train` is the table.
    pub recipe: Value,
    /// The recipe as it can be trained again.
    pub toml: String,
    /// The plan, for `plan.json`.
    pub plan: Value,
    /// Lengths, step sizes, cadences.
    pub table: TrainTable,
    /// Seed of weights, data order and noise.
    pub seed: u64,
    /// Where tensors live.
    pub device: Device,
    /// What is learned from.
    pub data: Arc<dyn Dataset>,
    /// Random changes of its pictures.
    pub augment: Augment,
    /// Held out for the validation loss.
    pub validation: Arc<dyn Dataset>,
    /// The random part of validation: the same for the same item every time.
    pub validation_draw: Option<Arc<dyn Draw>>,
    /// What the model is built for.
    pub signature: Signature,
    /// Content of the data, as one line.
    pub data_hash: String,
    /// What learns.
    pub learner: Box<dyn Learner>,
    /// What is looked at on the way.
    pub painter: Painter,
}

impl Job {
    /// The job of a diffusion recipe: its loss, and a grid drawn from the averaged weights on a fixed seed.
    fn of(plan: &Plan) -> Result<Self, Error> {
        let (recipe, d) = (&plan.recipe, &plan.recipe.data);
        let model::Learned { learner, validation } = model::learner(plan)?;
        let mut preview = None;
        let (known, signature, device) = (recipe.clone(), plan.signature.clone(), plan.device);
        let painter: Painter = Box::new(move |learner, state| {
            if preview.is_none() {
                preview = Some(Model::blank(&known, &signature, device)?);
            }
            let (Some(preview), Some((_, live))) = (&preview, learner.params().into_iter().next()) else {
                return Ok(None);
            };
            match &state.ema {
                Some(ema) => ema.copy_into(preview.params())?,
                None => preview.params().copy_from(live)?,
            }
            let drawing = Drawing { n: 40.max(preview.classes()), seed: 0, ..Drawing::of(&known) };
            let pictures = drawing.run(preview, &mut |_, _| {})?;
            Ok(Some(drawing.grid(&pictures, preview)?))
        });
        Ok(Self {
            outdir: plan.outdir.clone(),
            recipe: json!(recipe),
            toml: toml::to_string(recipe).unwrap_or_default(),
            plan: plan.json(),
            table: recipe.train.clone(),
            seed: recipe.seed,
            device: plan.device,
            data: plan.parts.train.clone(),
            augment: Augment { flip: d.flip, shift: d.shift },
            validation: plan.parts.validation.clone(),
            validation_draw: Some(validation),
            signature: plan.signature.clone(),
            data_hash: plan.data_hash.clone(),
            learner: Box::new(learner),
            painter,
        })
    }

    /// Trains, from the newest checkpoint of the run folder if there is one.
    ///
    /// # Errors
    /// A run folder of another recipe or in other hands, a full disk, gradients that stay non-finite.
    pub fn train(mut self, monitor: &mut dyn Monitor) -> Result<Ending, Error> {
        let lock = RunFolder::lock(&self.outdir)?;
        let (saved, passed) = Checkpoint::newest(&self.outdir)?;
        for line in passed {
            monitor.say(&line);
        }
        let mut state = State::new(self.learner.as_ref(), &self.table);
        let kept = match &saved {
            Some(saved) => self.resume(saved, &mut state, monitor)?,
            None => Kept::whole(0),
        };
        let folder = RunFolder::open(&self.outdir, kept, lock)?;
        let text = serde_json::to_string_pretty(&self.plan).unwrap_or_default();
        pentimento_io::atomic::write_bytes(&self.outdir.join("plan.json"), text.as_bytes())?;
        pentimento_io::atomic::write_bytes(&self.outdir.join("recipe.toml"), self.toml.as_bytes())?;
        let Self { mut learner, table, data, augment, seed, device, .. } = self;
        let course = Course { table: &table, data, augment, seed, device };
        let mut diary = FolderDiary {
            folder,
            recipe: self.recipe,
            table: &table,
            validation: self.validation,
            validation_draw: self.validation_draw,
            signature: self.signature,
            data_hash: self.data_hash,
            device,
            painter: self.painter,
        };
        match walk(&course, learner.as_mut(), &mut state, &mut diary, monitor)? {
            Walked::Stopped => Ok(Ending::Interrupted { images: state.images }),
            Walked::Whole => diary.finish(learner.as_mut(), &state),
        }
    }

    fn resume(&mut self, saved: &Checkpoint, at: &mut State, monitor: &mut dyn Monitor) -> Result<Kept, Error> {
        if let Some(difference) = self.difference(&saved.meta) {
            return Err(Error::OtherPlan { path: self.outdir.clone(), difference });
        }
        for (name, tensor) in at.tensors(self.learner.as_mut()) {
            saved.restore(&name, &tensor)?;
        }
        let m = &saved.meta;
        (at.images, at.step, at.nonfinite, at.elapsed_before) = (m.images, m.step, m.nonfinite, m.elapsed_s);
        at.window = m.window.clone();
        monitor.say(&format!("resuming at {} of {} images from {}", m.images, self.table.images, saved.path.display()));
        let here = machine(&self.table, self.device);
        changes(&m.machine, &here).iter().for_each(|sentence| monitor.say(sentence));
        let same_products = m.machine.get("products").is_none_or(|kind| *kind == here["products"]);
        if same_products && m.numerics != pentimento_core::numerics(self.table.precision.kind(self.device)) {
            monitor.say("another version of the arithmetic began this run: the last bits will differ");
        }
        if self.table.images <= m.images {
            return Ok(Kept::whole(m.images));
        }
        // By the cadences of the run that wrote them: they may be other ones now.
        let t = |key: &str| m.recipe["train"][key].as_u64().unwrap_or(0);
        let before = m.images.saturating_sub(t("batch"));
        Ok(Kept {
            images: m.images,
            log: due(t("log_images"), before, m.images),
            validation: due(t("validate_images"), before, m.images),
            picture: due(t("sample_images"), before, m.images),
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
        let flat = |recipe: &Value| {
            let mut leaves = Vec::new();
            flatten("", recipe, &mut leaves);
            leaves
        };
        let (old, new) = (flat(&meta.recipe), flat(&self.recipe));
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
        (meta.data_hash != self.data_hash)
            .then(|| format!("the data was {} and is {} now", meta.data_hash, self.data_hash))
    }
}

/// Trains a diffusion recipe.
///
/// # Errors
/// As [`Job::train`].
pub fn train(plan: &Plan, monitor: &mut dyn Monitor) -> Result<Ending, Error> {
    Job::of(plan)?.train(monitor)
}

/// Writes what the loop gives it into a run folder.
struct FolderDiary<'a> {
    folder: RunFolder,
    recipe: Value,
    table: &'a TrainTable,
    validation: Arc<dyn Dataset>,
    validation_draw: Option<Arc<dyn Draw>>,
    signature: Signature,
    data_hash: String,
    device: Device,
    painter: Painter,
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
        let n = self.validation.len().min(2048);
        if n == 0 {
            return Ok(());
        }
        let batch = self.table.batch.min(usize::try_from(n).unwrap_or(1));
        let config = LoaderConfig { batch, seed: SEED, workers: 1, shuffle: false, augment: Augment::default() };
        let mut loader = Loader::new(self.validation.clone(), config, self.validation_draw.clone(), 0)?;
        let (mut sum, mut batches) = (0.0, 0.0);
        let at = At { seed: SEED, step: 0, images: 0 };
        for _ in 0..n.div_euclid(batch as u64) {
            let terms = learner.validate(&loader.next()?.upload(self.device), &at);
            sum += terms.total().double_value(&[]);
            batches += 1.0;
        }
        self.folder.scalars(state.images, "val", &[("loss", sum / batches)])
    }

    fn picture(&mut self, learner: &dyn Learner, state: &State) -> Result<(), Error> {
        match (self.painter)(learner, state)? {
            Some(png) => self.folder.picture(state.images, &png),
            None => Ok(()),
        }
    }

    fn save(&mut self, learner: &mut dyn Learner, state: &State) -> Result<(), Error> {
        let t = self.table;
        let path = self.folder.path().join(format!("checkpoints/{:09}.safetensors", state.images));
        checkpoint::write(&path, &self.meta(state), &state.tensors(learner))?;
        self.folder.retain(t.keep, t.keep_every, t.save_images)
    }

    fn last_good(&self) -> String {
        let last = RunFolder::checkpoints(self.folder.path()).pop();
        last.map_or("none".into(), |(_, p)| p.display().to_string())
    }
}

impl FolderDiary<'_> {
    fn meta(&self, state: &State) -> Meta {
        Meta {
            format_version: checkpoint::FORMAT_VERSION,
            numerics: pentimento_core::numerics(self.table.precision.kind(self.device)),
            images: state.images,
            step: state.step,
            recipe: self.recipe.clone(),
            signature: self.signature.clone(),
            data_hash: self.data_hash.clone(),
            elapsed_s: state.elapsed(),
            window: state.window.clone(),
            nonfinite: state.nonfinite,
            machine: machine(self.table, self.device),
        }
    }

    /// Writes `model.safetensors`, what is used of a trained model, and returns the hash of the live weights.
    fn finish(&self, learner: &mut dyn Learner, state: &State) -> Result<Ending, Error> {
        let of = |set: &str| format!("{set}.");
        let sets: Vec<String> = learner.params().iter().map(|(set, _)| of(set)).collect();
        // The average stands for the first set.
        let averaged = usize::from(state.ema.is_some());
        let used = |name: &str| {
            let whole = sets.iter().skip(averaged).any(|set| name.starts_with(set.as_str()));
            whole || name.starts_with("state.") || name.starts_with("ema.")
        };
        let all = state.tensors(learner);
        let pick = |keep: &dyn Fn(&str) -> bool| -> Vec<_> {
            all.iter().filter(|(n, _)| keep(n)).map(|(n, t)| (n.clone(), t.shallow_clone())).collect()
        };
        checkpoint::write(&self.folder.path().join("model.safetensors"), &self.meta(state), &pick(&used))?;
        let live = pick(&|name| sets.iter().any(|set| name.starts_with(set.as_str())));
        Ok(Ending::Finished { weights: checkpoint::hash(&live)? })
    }
}

/// Software and machine, and the kind that the run's products are of.
fn machine(table: &TrainTable, device: Device) -> BTreeMap<String, String> {
    let kind = if table.precision.kind(device) == Kind::BFloat16 { "bf16" } else { "fp32" };
    let mut all = checkpoint::machine();
    all.insert("products".into(), kind.into());
    all
}

/// A sentence on everything that was other where a run began; what an older checkpoint does not name is passed over.
fn changes(then: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> Vec<String> {
    let other = then.iter().filter_map(|(key, then)| Some((key, then, here.get(key).filter(|here| *here != then)?)));
    let sentence = |(key, then, here): (&String, &String, &String)| match key.as_str() {
        "products" => format!(
            "products were in {then} where this run began and are in {here} here, by precision \"auto\": it goes on in {here}"
        ),
        _ => format!("{key} was {then} and is {here} now: the last bits will differ from an unbroken run"),
    };
    other.map(sentence).collect()
}

/// Leaves of a JSON value by their dotted path.
fn flatten(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, inner, out);
            }
        }
        leaf => out.push((prefix.into(), leaf.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_other_where_a_run_began_is_said() {
        let machine = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let then = machine(&[("cpu", "AVX512"), ("gone", "1"), ("products", "bf16"), ("threads", "2")]);
        assert!(changes(&then, &then).is_empty());
        let said = changes(&then, &machine(&[("cpu", "AVX2"), ("products", "fp32"), ("threads", "2")]));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("cpu was AVX512 and is AVX2 now"), "{said:?}");
        assert!(said[1].contains("were in bf16") && said[1].ends_with("goes on in fp32"), "{said:?}");
        // An older checkpoint does not say of what kind its products were.
        assert!(changes(&machine(&[("threads", "2")]), &then).is_empty());
    }
}

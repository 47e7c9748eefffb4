//! A page's model outside its claim: what `pentimento train` makes of a method, and what is made of its run afterwards.

use crate::recipe::{check_numbers, typed};
use crate::sets::held_out;
use crate::{Budget, Error, Method, Picture, Recipe};
use pentimento_core::{Condition, Learner, NO_LABEL, Noise, Trained};
use pentimento_data::{Augment, Dataset, Open, gather};
use pentimento_io::features::Features;
use pentimento_train::{
    Ask, Beside, Checkpoint, Drawing, Drawn, Job, Painter, Precision, Signature, TrainTable, apply, class_named,
    class_of, learner_table, open_fitted,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};
use toml::Table;

/// What a page's configuration says of the model that it describes.
pub trait Trainable {
    /// What is learned from.
    ///
    /// # Errors
    /// Data that is not there, settings out of their range.
    fn data(&self) -> Result<Arc<dyn Dataset>, Error>;

    /// How other data of its kind is opened.
    fn options(&self) -> Open {
        Open::default()
    }

    /// Lengths and step sizes of the method's own arm.
    fn table(&self) -> TrainTable;

    /// The model of that arm as it starts.
    ///
    /// # Errors
    /// Settings that do not fit the items.
    fn build(&self, signature: &Signature, device: Device, seed: u64) -> Result<Box<dyn Learner>, Error>;
}

/// The middle one of the rates that a claim chooses from: what a model is trained with when nobody chooses.
pub fn middle(rates: &[f64]) -> f64 {
    rates.get(rates.len() >> 1).copied().unwrap_or(1e-3)
}

/// Reads the settings of the method of that name, and gives them back with their defaults filled in.
type ReadSettings = fn(&str, Table) -> Result<(Box<dyn Trainable>, Value), Error>;

/// The [`Trainable`] of a page, whatever its type.
pub struct Trainer(ReadSettings);

impl Trainer {
    /// That of a page whose configuration is `C`.
    pub const fn of<C: Trainable + DeserializeOwned + Serialize + 'static>() -> Self {
        Self(|slug, settings| {
            let config: C = typed(settings, slug, "its settings")?;
            let resolved = json!(config);
            Ok((Box::new(config), resolved))
        })
    }
}

/// A method with its settings, from which a run is trained.
///
/// A recipe names the method, and beside it the method's own settings, `seed`, and in `[train]` whatever of the loop's table is to
/// differ from the method's. A recipe of the catalogue stands for the settings of one of its budgets.
pub struct Lesson {
    method: &'static Method,
    model: Box<dyn Trainable>,
    /// The settings, with their defaults filled in.
    config: Value,
    /// What `[train]` changes.
    changes: Table,
    table: TrainTable,
    seed: u64,
}

impl Lesson {
    /// The method that a text names, if it is a recipe of one.
    pub fn method_of(text: &str) -> Option<String> {
        toml::from_str::<Table>(text).ok()?.get("method")?.as_str().map(str::to_owned)
    }

    /// Reads a recipe and applies `key.path=value` settings.
    ///
    /// # Errors
    /// A method that trains no model by itself, an unknown key, a value of another type.
    pub fn parse(method: &'static Method, text: &str, budget: Budget, sets: &[String]) -> Result<Self, Error> {
        let bad = |why: String| method.refused(why);
        let mut table: Table = toml::from_str(text).map_err(|e| bad(e.message().trim().replace('\n', " ")))?;
        if table.contains_key("holds") {
            let recipe: Recipe = typed(table, method.slug, "its recipe")?;
            table = recipe.settings(budget);
        }
        for set in sets {
            apply(&mut table, set)?;
        }
        table.remove("method");
        Self::new(method, table)
    }

    fn new(method: &'static Method, mut settings: Table) -> Result<Self, Error> {
        let bad = |why: String| method.refused(why);
        let trainer = method.model.as_ref().ok_or_else(|| {
            bad(format!("it trains no single model; `pentimento reproduce {}` runs all of it", method.slug))
        })?;
        let seed = match settings.remove("seed") {
            None => 0,
            Some(v) => v.as_integer().and_then(|n| u64::try_from(n).ok()).ok_or_else(|| bad(not("seed", &v)))?,
        };
        let changes = match settings.remove("train") {
            None => Table::new(),
            Some(toml::Value::Table(changes)) => changes,
            Some(v) => return Err(bad(format!("train = {v}; must be a table"))),
        };
        check_numbers(method.slug, &settings, &(method.settings)())?;
        let (model, config) = (trainer.0)(method.slug, settings)?;
        let table = Self::changed(method.slug, &model.table(), &changes)?;
        Ok(Self { method, model, config, changes, table, seed })
    }

    /// The page's table under the changes of the recipe.
    fn changed(slug: &str, own: &TrainTable, changes: &Table) -> Result<TrainTable, Error> {
        let bad = |why: String| Error::Recipe { slug: slug.into(), why };
        let mut table = Table::try_from(own).map_err(|e| bad(e.to_string()))?;
        table.extend(changes.clone());
        let mut table: TrainTable = typed(table, slug, "[train]")?;
        // A claim has no cadences; a run looks at itself and is saved ten times, unless told otherwise.
        let tenth = table.images.div_ceil(10).max(table.batch as u64);
        for (key, cadence) in [
            ("validate_images", &mut table.validate_images),
            ("sample_images", &mut table.sample_images),
            ("save_images", &mut table.save_images),
        ] {
            *cadence = if changes.contains_key(key) { *cadence } else { tenth };
        }
        let positive = table.images > 0 && table.batch > 0 && table.lr > 0.0 && table.log_images > 0;
        if !positive || table.workers == 0 || table.keep == 0 {
            return Err(bad("[train]: images, batch, lr, log_images, workers and keep must be above 0".into()));
        }
        if table.precision != Precision::Fp32 || table.micro_batch != 0 {
            return Err(bad(
                "[train]: a method's own step knows neither precision nor micro_batch; leave them out".into()
            ));
        }
        Ok(table)
    }

    /// Lengths, step sizes and cadences of the run.
    pub fn table(&self) -> &TrainTable {
        &self.table
    }

    /// All that makes the run what it is, as checkpoints keep it.
    fn recipe(&self) -> Value {
        let mut all = self.config.clone();
        if let Value::Object(map) = &mut all {
            map.insert("method".into(), json!(self.method.slug));
            map.insert("seed".into(), json!(self.seed));
            map.insert("train".into(), json!(self.table));
        }
        all
    }

    /// The recipe with its defaults filled in, as it can be trained again.
    fn text(&self) -> String {
        let mut all = Table::new();
        all.insert("method".into(), self.method.slug.into());
        all.insert("seed".into(), toml::Value::Integer(self.seed.cast_signed()));
        all.extend(table_of(&self.config));
        if !self.changes.is_empty() {
            all.insert("train".into(), toml::Value::Table(self.changes.clone()));
        }
        toml::to_string(&all).unwrap_or_default()
    }

    /// Everything that is checked before training: opens the data and builds the model.
    ///
    /// # Errors
    /// Data that is not there or too small, settings that do not fit it.
    pub fn job(&self, outdir: PathBuf, device: Device) -> Result<Job, Error> {
        /// Of the data, for the validation loss: the share that claims choose settings on.
        const HELD: f64 = 0.02;
        let all = self.model.data()?;
        let (data, validation) = held_out(&all, HELD);
        let t = self.table();
        if usize::try_from(data.len()).is_ok_and(|n| n < t.batch) {
            let why = format!("batch = {}; the data has only {} items to learn from", t.batch, data.len());
            return Err(self.method.refused(why));
        }
        let shape = all.size();
        let signature = Signature { input: shape, classes: all.classes().to_vec(), factors: all.factors().to_vec() };
        let learner = self.model.build(&signature, device, self.seed)?;
        let parameters = parameters(learner.as_ref());
        let plan = json!({
            "name": self.method.slug,
            "recipe": self.recipe(),
            "signature": signature,
            "parameters": parameters,
            "steps": t.images.div_ceil(t.batch as u64),
            "data_hash": all.fingerprint(),
            "train_images_available": data.len(),
            "device": format!("{device:?}"),
            "products": "fp32",
        });
        Ok(Job {
            outdir,
            recipe: self.recipe(),
            toml: self.text(),
            plan,
            table: t.clone(),
            seed: self.seed,
            device,
            augment: Augment::default(),
            painter: painter(&validation, signature.classes.len(), device)?,
            validation_draw: learner.draw(),
            data,
            validation,
            signature,
            data_hash: all.fingerprint(),
            learner,
        })
    }

    /// The lines of `--dry-run`.
    pub fn describe(&self, job: &Job) -> String {
        let ([c, h, w], t) = (job.signature.input, self.table());
        format!(
            "{}\n# resolved\n# run folder   {}\n# data         {} items to learn from, {} held out, {c}x{h}x{w}, {} classes\n\
             # model        {:.3} M parameters\n# length       {} steps of {} images, learning rate {}\n# device       {:?}\n",
            self.text(),
            job.outdir.display(),
            job.data.len(),
            job.validation.len(),
            job.signature.classes.len(),
            parameters(job.learner.as_ref()) as f64 / 1e6,
            t.images.div_ceil(t.batch as u64),
            t.batch,
            t.lr,
            job.device,
        )
    }
}

/// A configuration as TOML, which has no word for what is absent.
fn table_of(config: &Value) -> Table {
    fn present(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), present(v))).collect()
            }
            other => other.clone(),
        }
    }
    Table::try_from(present(config)).unwrap_or_default()
}

fn not(key: &str, value: &toml::Value) -> String {
    format!("{key} = {value}; must be a whole number from 0 on")
}

/// Scalars that a learner owns.
pub fn parameters(learner: &dyn Learner) -> usize {
    learner.params().iter().map(|(_, p)| p.count()).sum()
}

/// Held-out items, what becomes of them in the model, and what it makes up, as far as it can do either.
fn painter(held: &Arc<dyn Dataset>, classes: usize, device: Device) -> Result<Painter, pentimento_train::Error> {
    const COLUMNS: u64 = 10;
    const ROWS: u64 = 4;
    let numbers: Vec<u64> = (0..held.len().min(COLUMNS)).collect();
    let batch = gather(held.as_ref(), &numbers)?.upload(device);
    Ok(Box::new(move |learner, _| {
        let _guard = tch::no_grad_guard();
        let Some(trained) = learner.trained() else { return Ok(None) };
        let again = trained.reconstruct(&batch.x, &batch.noise(0));
        let rows = if again.is_some() { 1 } else { ROWS };
        let classes = if trained.heeds_classes() { classes } else { 0 };
        let y: Vec<i64> = (0..rows * COLUMNS).map(|i| class_of(None, i, classes)).collect();
        let drawn = trained.generate(&Noise::new(0, (0..rows * COLUMNS).collect()), &under(&y, device));
        let mut shown = Vec::new();
        if let Some(again) = again {
            shown.extend([batch.x.shallow_clone(), again]);
        }
        shown.extend(drawn.iter().flat_map(|x| x.split(COLUMNS.cast_signed(), 0)));
        if shown.is_empty() {
            return Ok(None);
        }
        let picture = Picture::rows("", &shown).map_err(|e| match e {
            Error::Train(e) => e,
            other => pentimento_train::Error::Setting { setting: "pictures".into(), why: other.to_string() },
        })?;
        Ok(Some(picture.png))
    }))
}

/// Classes as a condition; none where there are none.
fn under(y: &[i64], device: Device) -> Condition {
    let told = y.first().is_some_and(|&y| y != NO_LABEL);
    Condition { y: told.then(|| Tensor::from_slice(y).to_device(device)), c: None }
}

/// A run of a method, open for use.
pub struct LearnedModel {
    /// The method.
    pub method: &'static Method,
    /// What it was built for.
    pub signature: Signature,
    /// Images it has seen.
    pub images: u64,
    learner: Box<dyn Learner>,
    lesson: Lesson,
    device: Device,
}

impl LearnedModel {
    /// The model of a checkpoint; `find` knows the catalogue.
    ///
    /// # Errors
    /// A method that is gone, settings or weights that no longer fit.
    pub fn of(
        saved: &Checkpoint,
        device: Device,
        find: impl Fn(&str) -> Result<&'static Method, Error>,
    ) -> Result<Self, Error> {
        let method = find(saved.method().unwrap_or_default())?;
        let mut settings = table_of(&saved.meta.recipe);
        settings.remove("method");
        let lesson = Lesson::new(method, settings)?;
        let signature = saved.meta.signature.clone();
        let mut learner = lesson.model.build(&signature, device, lesson.seed)?;
        saved.restore_learner(learner.as_mut())?;
        for (_, params) in learner.params() {
            params.freeze();
        }
        Ok(Self { method, signature, images: saved.meta.images, learner, lesson, device })
    }

    /// The data it learned from, or another set by name or path.
    ///
    /// # Errors
    /// Data that is not there.
    pub fn open(&self, name: Option<&str>, px: usize) -> Result<Arc<dyn Dataset>, Error> {
        match name {
            None => self.lesson.model.data(),
            Some(name) => Ok(open_fitted(self.lesson.model.options(), self.signature.input, name, px)?),
        }
    }

    /// Its features of a data set as a table; beside them, if wanted, the items and the features of the model as it was before
    /// training.
    ///
    /// # Errors
    /// A model without features, data of another shape.
    pub fn features(
        &self,
        data: &Arc<dyn Dataset>,
        (items, seed): (u64, u64),
        beside: Beside,
        observe: &mut dyn FnMut(&str, u64, u64),
    ) -> Result<Features, Error> {
        let fresh = match beside {
            Beside::Nothing => None,
            Beside::Baselines => Some(self.lesson.model.build(&self.signature, self.device, self.lesson.seed)?),
        };
        let ask = Ask { device: self.device, items, seed };
        let about = (&self.signature, self.images);
        Ok(learner_table(self.learner.as_ref(), fresh.as_deref(), about, data, &ask, observe)?)
    }

    /// Draws pictures; how is the method's own business, and not said in `drawing`.
    ///
    /// # Errors
    /// A model that draws none.
    pub fn draw(&self, drawing: &Drawing, observe: &mut dyn FnMut(u64, u64)) -> Result<Drawn, Error> {
        let _guard = tch::no_grad_guard();
        let (mut parts, mut labels) = (Vec::new(), Vec::new());
        let all: Vec<usize> = (0..drawing.n).collect();
        for places in all.chunks(drawing.batch.max(1)) {
            let y: Vec<i64> = places.iter().map(|&i| drawing.class_of(i, self.classes().len())).collect();
            let noise = Noise::new(drawing.seed, places.iter().map(|&i| drawing.first + i as u64).collect());
            let found = self.trained().and_then(|t| t.generate(&noise, &under(&y, self.device)));
            let x = found.ok_or(pentimento_train::Error::Cannot {
                what: "way to draw new pictures; `pentimento encode` reads it",
            })?;
            parts.push(x.to_device(Device::Cpu).to_kind(Kind::Float));
            labels.extend(y);
            observe(labels.len() as u64, drawing.n as u64);
        }
        Ok(Drawn { x: Tensor::cat(&parts, 0), y: labels })
    }

    /// A class by name or number.
    ///
    /// # Errors
    /// A name it does not know, with the nearest one; any, where it was not told classes.
    pub fn class(&self, name: &str) -> Result<usize, Error> {
        Ok(class_named(self.classes(), name)?)
    }

    /// The classes that can be asked for; none where it was not told any.
    pub fn classes(&self) -> &[String] {
        if self.trained().is_some_and(Trained::heeds_classes) { &self.signature.classes } else { &[] }
    }

    /// What can be asked of it.
    pub fn trained(&self) -> Option<&dyn Trained> {
        self.learner.trained()
    }

    /// The text that goes into picture i of a drawing.
    pub fn text(&self, drawing: &Drawing, i: usize) -> String {
        json!({
            "recipe": self.lesson.recipe(), "images": self.images, "seed": drawing.seed, "number": drawing.first + i as u64,
            "pentimento": env!("CARGO_PKG_VERSION"),
        })
        .to_string()
    }
}

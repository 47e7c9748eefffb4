//! Runs the arms of a claim over seeds until the rule has decided. Finished runs are kept under the hash of all that decides
//! them, so that an interrupted claim goes on where it stopped and the same inputs give the same verdict.

use crate::evidence::{Cell, Evidence, FORMAT_VERSION, Found};
use crate::revision::{Checkout, demand_committed, of_build};
use crate::store::{Store, key};
use crate::{Arm, Budget, Claim, Context, Error, Fixed, LOOKS, Method, Metrics, Picture, Predicate, Recipe};
use pentimento_io::atomic;
use pentimento_train::{Monitor, Silent};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Device;

/// Where and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seeds at most; the rule's own number if absent. Below 5 nothing is judged and nothing written.
    pub seeds: Option<usize>,
    /// Where tensors live.
    pub device: Device,
    /// Folder of finished runs and shared weights.
    pub cache: PathBuf,
    /// Folder of evidence.
    pub evidence: PathBuf,
    /// The checkout that says which revision runs and whether the recipe is committed, if the program runs in one.
    pub checkout: Option<Checkout>,
}

/// Watches a claim.
pub trait Watch: Monitor {
    /// A run begins.
    fn begin(&mut self, _arm: &str, _seed: u64) {}
    /// A run is there, now or from an earlier call.
    fn cell(&mut self, _cell: &Cell, _kept: bool) {}
    /// All arms of a seed are there.
    fn seed(&mut self, _found: &Found) {}
}

impl Watch for Silent {}

/// How long a run of an arm is expected to take.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The arm.
    pub arm: String,
    /// Seconds of one seed.
    pub seconds: f64,
    /// Peak memory so far, MiB.
    pub peak_mib: f64,
}

/// A claim with its recipe, checked and ready.
pub struct Case<'a> {
    method: &'a Method,
    /// The recipe.
    pub recipe: Recipe,
    budget: Budget,
    /// Whether settings are not the recipe's: then nothing is judged.
    changed: bool,
    /// The arms.
    pub claim: Claim,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The primary predicate with its verdict.
    pub primary: Found,
    /// The others.
    pub also: Vec<Found>,
    /// The file that was written; absent below five seeds.
    pub written: Option<PathBuf>,
}

/// All arms at one seed, judged by nobody.
#[derive(Debug)]
pub struct Trial {
    /// What the predicates compare, the primary one first.
    pub compared: Vec<(Predicate, f64)>,
    /// The pictures drawn, in the cache, and what they show.
    pub pictures: Vec<(PathBuf, String)>,
}

impl<'a> Case<'a> {
    /// Checks recipe, configuration and data: everything that can be known before the first tensor.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(method: &'a Method, budget: Budget) -> Result<Self, Error> {
        Self::changed(method, budget, &[])
    }

    /// The same with `key=value` settings in place of the recipe's, for trials.
    ///
    /// # Errors
    /// As [`Case::new`], and settings that cannot be applied.
    pub fn changed(method: &'a Method, budget: Budget, sets: &[String]) -> Result<Self, Error> {
        let recipe = Recipe::of(method)?.changed(method, budget, sets)?;
        let claim = (method.claim)(&recipe, budget)?;
        for predicate in recipe.also.iter().chain([&recipe.holds]) {
            for name in [&predicate.arm, &predicate.against] {
                if !claim.arms.iter().any(|a| a.name == name) {
                    let known: Vec<&str> = claim.arms.iter().map(|a| a.name).collect();
                    let why = format!("[holds] names the arm {name}; there are {}", known.join(", "));
                    return Err(method.refused(why));
                }
            }
        }
        Ok(Self { method, recipe, budget, changed: !sets.is_empty(), claim })
    }

    /// Hash of page, configuration, data, predicates and numerics.
    pub fn plan(&self) -> String {
        let predicates = json!({"holds": self.recipe.holds, "also": self.recipe.also});
        key(&json!({"shared": self.shared(Device::Cpu), "predicates": predicates}))
    }

    fn page(&self) -> String {
        blake3::hash(self.method.page.as_bytes()).to_hex().to_string()
    }

    /// All that decides a number besides arm and seed. The text of the page is part of it: a page that was edited is run anew.
    fn shared(&self, device: Device) -> Value {
        json!({
            "method": self.method.slug,
            "page": self.page(),
            "config": self.claim.config,
            "data": self.claim.data,
            "numerics": pentimento_core::numerics(tch::Kind::Float),
            "device": format!("{device:?}"),
        })
    }

    fn stem(&self, arm: &str, seed: u64, device: Device) -> String {
        let identity = json!({"shared": self.shared(device), "arm": arm, "seed": seed});
        format!("{}-{arm}-{seed}-{}", self.method.slug, key(&identity))
    }

    /// Measures a short stretch of every arm and extends it to its length: training grows with the length, the rest stays.
    ///
    /// # Errors
    /// As a run.
    pub fn estimate(&self, device: Device, monitor: &mut dyn Monitor) -> Result<Vec<Estimate>, Error> {
        const SHARES: [f64; 2] = [0.01, 0.03];
        let (store, page) = (Store::memory(), self.page());
        let mut timed = |arm: &Arm, share: f64, seed: u64| -> Result<f64, Error> {
            let start = Instant::now();
            let (page, data) = (&page, &self.claim.data);
            (arm.run)(&mut Context { seed, device, share, store: &store, page, data, monitor: &mut *monitor })?;
            Ok(start.elapsed().as_secs_f64())
        };
        if let Some(first) = self.claim.arms.first() {
            // The first of all runs loads kernels and data; it tells nothing of the others.
            timed(first, SHARES[0], u64::MAX >> 16)?;
        }
        let mut all = Vec::new();
        for arm in &self.claim.arms {
            let (short, long) = (timed(arm, SHARES[0], 0)?, timed(arm, SHARES[1], 0)?);
            let slope = ((long - short) / (SHARES[1] - SHARES[0])).max(0.0);
            let seconds = short + slope * (1.0 - SHARES[0]);
            let peak_mib = pentimento_io::system::memory().peak_mib;
            all.push(Estimate { arm: arm.name.into(), seconds, peak_mib });
        }
        Ok(all)
    }

    /// Seconds of one seed of every arm as earlier runs took them, where each arm has one.
    ///
    /// # Errors
    /// An unreadable cache.
    pub fn remembered(&self, options: &Options) -> Result<Option<Vec<Estimate>>, Error> {
        let store = Store::folder(&options.cache)?;
        let known = self.claim.arms.iter().map(|arm| {
            let cell = kept(&store, &self.stem(arm.name, 0, options.device))?;
            Ok(cell.map(|(c, _)| Estimate { arm: c.arm, seconds: c.seconds, peak_mib: c.peak_mib }))
        });
        known.collect()
    }

    /// Runs until the rule has decided, and writes the evidence.
    ///
    /// # Errors
    /// A recipe that is not committed, a number that cannot be compared, an interruption, what training meets.
    pub fn run(&self, options: &Options, watch: &mut dyn Watch) -> Result<Outcome, Error> {
        let slug = self.method.slug;
        let judged = options.seeds.is_none_or(|n| n >= LOOKS[0].0);
        if judged && self.changed {
            let why =
                "its settings were changed for a trial, and a claim is judged by the recipe as it is committed".into();
            return Err(Error::Recipe { slug: slug.into(), why });
        }
        let checkout = options.checkout.as_ref();
        let recipe_path = format!("recipes/{}/{slug}.toml", self.method.family);
        if let (Some(checkout), true) = (checkout, judged) {
            demand_committed(checkout, &recipe_path, self.method.recipe)?;
        }
        let store = Store::folder(&options.cache)?;
        let mut runs: Vec<(Cell, Vec<Picture>)> = Vec::new();
        let mut primary = Found::new(&self.recipe.holds, Vec::new());
        let most = options.seeds.unwrap_or(usize::MAX);
        let wanted = |d: &[f64]| match judged {
            true => self.recipe.holds.rule().wants(d).map(|n| n.min(most)).filter(|&n| n > d.len()),
            false => Some(most).filter(|&n| n > d.len()),
        };
        while let Some(target) = wanted(&primary.differences) {
            for seed in primary.differences.len()..target {
                for arm in &self.claim.arms {
                    runs.push(self.cell(arm, seed as u64, &store, options.device, watch)?);
                }
                let d = self.differences(&self.recipe.holds, &runs)?;
                primary = Found::new(&self.recipe.holds, d);
                watch.seed(&primary);
            }
        }
        let also = self.recipe.also.iter().map(|p| Ok(Found::new(p, self.differences(p, &runs)?)));
        let also = also.collect::<Result<Vec<_>, Error>>()?;
        let mut outcome = Outcome { primary, also, written: None };
        if judged {
            let fixed = checkout.map_or_else(Fixed::default, |c| c.fixed(&recipe_path, self.method.recipe));
            let revision = checkout.map_or_else(of_build, Checkout::revision);
            outcome.written = Some(self.write(&outcome, &runs, fixed, revision, options)?);
        }
        Ok(outcome)
    }

    /// Runs every arm at one seed and judges nothing: how sizes are found, on seeds that no verdict looks at.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub fn trial(&self, seed: u64, options: &Options, watch: &mut dyn Watch) -> Result<Trial, Error> {
        let store = Store::folder(&options.cache)?;
        let (mut runs, mut pictures) = (Vec::new(), Vec::new());
        for arm in &self.claim.arms {
            let run = self.cell(arm, seed, &store, options.device, watch)?;
            let stem = self.stem(arm.name, seed, options.device);
            let of_run = run.1.iter().enumerate();
            pictures.extend(of_run.map(|(i, p)| (options.cache.join(picture_name(&stem, i)), p.caption.clone())));
            runs.push(run);
        }
        let all = std::iter::once(&self.recipe.holds).chain(&self.recipe.also);
        let compared = all.map(|p| Ok((p.clone(), self.difference(p, &runs, seed)?))).collect::<Result<_, Error>>()?;
        Ok(Trial { compared, pictures })
    }

    /// One arm at one seed, from the cache or run now.
    fn cell(
        &self,
        arm: &Arm,
        seed: u64,
        store: &Store,
        device: Device,
        watch: &mut dyn Watch,
    ) -> Result<(Cell, Vec<Picture>), Error> {
        let stem = self.stem(arm.name, seed, device);
        if let Some(found) = kept(store, &stem)? {
            watch.cell(&found.0, true);
            return Ok(found);
        }
        watch.begin(arm.name, seed);
        let start = Instant::now();
        let data = &self.claim.data;
        let Metrics { values, pictures } = (arm.run)(&mut Context {
            seed,
            device,
            share: 1.0,
            store,
            page: &self.page(),
            data,
            monitor: &mut *watch,
        })?;
        let cell = Cell {
            arm: arm.name.into(),
            seed,
            metrics: values.into_iter().map(|(k, v)| (k, json!(v))).collect::<Map<_, _>>(),
            pictures: pictures.iter().map(|p| p.caption.clone()).collect(),
            seconds: start.elapsed().as_secs_f64(),
            peak_mib: pentimento_io::system::memory().peak_mib,
        };
        for (i, picture) in pictures.iter().enumerate() {
            store.put(&picture_name(&stem, i), picture.png.clone())?;
        }
        // The numbers come last: a cell that can be read has its pictures.
        store.put(&format!("{stem}.json"), json!(cell).to_string().into_bytes())?;
        watch.cell(&cell, false);
        Ok((cell, pictures))
    }

    /// d_i of the seeds that all arms have run.
    fn differences(&self, p: &Predicate, runs: &[(Cell, Vec<Picture>)]) -> Result<Vec<f64>, Error> {
        let seeds = runs.len().checked_div(self.claim.arms.len()).unwrap_or(0);
        (0..seeds as u64).map(|seed| self.difference(p, runs, seed)).collect()
    }

    /// d of a seed.
    fn difference(&self, p: &Predicate, runs: &[(Cell, Vec<Picture>)], seed: u64) -> Result<f64, Error> {
        let number = |arm: &str, metric: &str| -> Result<f64, Error> {
            let cell = runs.iter().map(|(c, _)| c).find(|c| c.arm == arm && c.seed == seed);
            let value = cell.and_then(|c| c.metrics.get(metric));
            value.and_then(Value::as_f64).ok_or_else(|| Error::NotComparable {
                slug: self.method.slug.into(),
                arm: arm.into(),
                seed,
                metric: metric.into(),
                value: value.map_or("not measured".into(), |_| "not finite".into()),
                why: "a claim needs a finite number from every run; look at the training of this arm",
            })
        };
        let (a, b) = (number(&p.arm, &p.metric)?, number(&p.against, p.other_metric())?);
        let d = p.rule().difference(a, b);
        if d.is_finite() {
            return Ok(d);
        }
        Err(Error::NotComparable {
            slug: self.method.slug.into(),
            arm: p.arm.clone(),
            seed,
            metric: p.metric.clone(),
            value: format!("{a} against {b}"),
            why: "a ratio needs positive numbers",
        })
    }

    fn write(
        &self,
        outcome: &Outcome,
        runs: &[(Cell, Vec<Picture>)],
        margin_fixed: Fixed,
        revision: String,
        options: &Options,
    ) -> Result<PathBuf, Error> {
        let (method, card) = (self.method, self.method.card()?);
        let folder = &options.evidence;
        fs::create_dir_all(folder).map_err(|e| pentimento_io::Error::os(folder, "make", e))?;
        let path = Evidence::path(folder, method.slug, self.budget);
        let evidence = Evidence {
            format_version: FORMAT_VERSION,
            method: method.slug.into(),
            title: card.title,
            arxiv: card.arxiv,
            family: method.family.into(),
            budget: self.budget,
            claim: self.recipe.holds.sentence(),
            verdict: outcome.primary.verdict,
            primary: outcome.primary.clone(),
            also: outcome.also.clone(),
            margin_fixed,
            diagnosis: self.recipe.diagnosis.clone(),
            plan: self.plan(),
            revision,
            numerics: pentimento_core::numerics(tch::Kind::Float),
            machine: pentimento_train::machine(),
            device: format!("{:?}", options.device).to_lowercase(),
            config: self.claim.config.clone(),
            data: self.claim.data.clone(),
            arms: self.claim.arms.iter().map(|a| (a.name.into(), a.what.into())).collect(),
            runs: runs.iter().map(|(c, _)| c.clone()).collect(),
            seconds: runs.iter().map(|(c, _)| c.seconds).sum(),
            peak_mib: runs.iter().map(|(c, _)| c.peak_mib).fold(0.0, f64::max),
        };
        for (cell, pictures) in runs {
            for (i, picture) in pictures.iter().enumerate() {
                atomic::write_bytes(&picture_path(&path, cell, i), &picture.png)?;
            }
        }
        evidence.write(&path)?;
        Ok(path)
    }
}

/// The i-th picture of a run, beside the evidence.
pub fn picture_path(evidence: &Path, cell: &Cell, i: usize) -> PathBuf {
    let stem = evidence.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    evidence.with_file_name(format!("{stem}-{}-{}-{i}.png", cell.arm, cell.seed))
}

/// The i-th picture of a cell, in the store.
fn picture_name(stem: &str, i: usize) -> String {
    format!("{stem}.{i}.png")
}

fn kept(store: &Store, stem: &str) -> Result<Option<(Cell, Vec<Picture>)>, Error> {
    // What cannot be read is measured again.
    let Some(cell) = store.get(&format!("{stem}.json"))?.and_then(|b| serde_json::from_slice::<Cell>(&b).ok()) else {
        return Ok(None);
    };
    let mut pictures = Vec::new();
    for (i, caption) in cell.pictures.iter().enumerate() {
        let Some(png) = store.get(&picture_name(stem, i))? else { return Ok(None) };
        pictures.push(Picture { caption: caption.clone(), png });
    }
    Ok(Some((cell, pictures)))
}

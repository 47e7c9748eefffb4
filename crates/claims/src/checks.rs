//! The harness on methods without networks: what is kept, what is run again, what is written.

use crate::{
    Arm, Budget, Case, Cell, Claim, Context, Error, Evidence, Found, Method, Metrics, Options, Picture, Recipe, Store,
    Verdict, Watch, probe_codes, settings, try_run,
};
use pentimento_core::{At, Batch, Draws, Objective, Params, SingleLoss, Stream, Terms};
use pentimento_train::{Monitor, Silent};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use tch::{Device, Kind, Tensor};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    effect: f64,
    noise: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { effect: 1.0, noise: 0.1 }
    }
}

const PAGE: &str = "//! # A coin\n//! arXiv 0000.00000 (1999)\n//!\n//! **Gives.** A number.\n//! **How.** x\n\
    //! **Needs.** Nothing.\n//! **Departs.** Nowhere.\n//! **Holds if.** It is higher.\n";
const RECIPE: &str = "method = \"coin\"\n[small]\n[paper]\nnoise = 0\n[holds]\nmetric = \"score\"\narm = \"coin\"\n\
    against = \"plain\"\ndirection = \"higher\"\nmargin = 1.0\n";

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let arm = |name, gain: f64, noise: f64| {
        Arm::new(name, "a number", move |ctx| {
            let score = gain + noise * Draws::at(ctx.seed, 0, 0, Stream::Own).normal();
            let mut metrics = Metrics::new([("score", score), ("broken", f64::NAN)]);
            metrics.pictures.push(Picture { caption: format!("seed {}", ctx.seed), png: vec![1, 2, 3] });
            Ok(metrics)
        })
    };
    Ok(Claim {
        config: json!(config),
        data: vec!["no data".into()],
        arms: vec![arm("plain", 0.0, 0.0), arm("coin", config.effect, config.noise)],
    })
}

fn method(recipe: &'static str) -> Method {
    Method { slug: "coin", family: "toys", page: PAGE, recipe, settings: settings::<Config>, model: None, claim }
}

fn options(folder: &Path) -> Options {
    let (cache, evidence) = (folder.join("cache"), folder.join("evidence"));
    Options { seeds: None, device: Device::Cpu, cache, evidence, checkout: None }
}

/// Counts what ran and what was kept.
#[derive(Default)]
struct Count {
    ran: usize,
    kept: usize,
    seeds: usize,
}

impl Monitor for Count {}

impl Watch for Count {
    fn cell(&mut self, _: &Cell, kept: bool) {
        (self.ran, self.kept) = (self.ran + usize::from(!kept), self.kept + usize::from(kept));
    }
    fn seed(&mut self, _: &Found) {
        self.seeds += 1;
    }
}

#[test]
fn a_claim_runs_to_its_verdict_and_the_evidence_reads_back() {
    let (dir, method) = (tempfile::tempdir().unwrap(), method(RECIPE));
    let case = Case::new(&method, Budget::Small).unwrap();
    let mut count = Count::default();
    let outcome = case.run(&options(dir.path()), &mut count).unwrap();
    assert_eq!((outcome.primary.verdict, count.ran, count.seeds), (Verdict::Reproduced, 10, 5));
    let path = outcome.written.unwrap();
    let evidence = Evidence::read(&path).unwrap();
    assert_eq!((evidence.verdict, evidence.runs.len(), evidence.plan.len()), (Verdict::Reproduced, 10, 16));
    assert_eq!(evidence.primary.differences.len(), 5);
    assert_eq!(evidence.runs[1].metrics["broken"], json!(null));
    assert_eq!(crate::picture_path(&path, &evidence.runs[1], 0), dir.path().join("evidence/coin-coin-0-0.png"));
    assert!(crate::picture_path(&path, &evidence.runs[1], 0).is_file());

    let html = crate::page(&evidence, &path).unwrap();
    assert!(html.contains("coin: reproduced") && html.contains("coin, seed 4: seed 4") && html.contains("AQID"));
    let gallery = crate::gallery(&[(evidence, path.clone())]).unwrap();
    assert!(gallery.contains("score of coin is higher than plain by 1") && gallery.contains("AQID"));

    // Once more: nothing runs, and the file is the same to the byte.
    let before = std::fs::read(&path).unwrap();
    let mut again = Count::default();
    case.run(&options(dir.path()), &mut again).unwrap();
    assert_eq!((again.ran, again.kept), (0, 10));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn what_an_interrupted_claim_has_finished_is_kept() {
    let (dir, method) = (tempfile::tempdir().unwrap(), method(RECIPE));
    let case = Case::new(&method, Budget::Small).unwrap();
    let first = Options { seeds: Some(2), ..options(dir.path()) };
    let outcome = case.run(&first, &mut Silent).unwrap();
    assert_eq!((outcome.primary.verdict, outcome.written), (Verdict::Open, None), "two seeds judge nothing");
    assert!(!dir.path().join("evidence").exists());
    // A result that cannot be read is measured again.
    let files = std::fs::read_dir(options(dir.path()).cache).unwrap().map(|e| e.unwrap().path());
    let results: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    std::fs::write(&results[0], "{").unwrap();
    let mut count = Count::default();
    case.run(&options(dir.path()), &mut count).unwrap();
    assert_eq!((count.ran, count.kept), (7, 3));
}

#[test]
fn noise_asks_for_ten_seeds_and_then_leaves_it_open() {
    let recipe: &'static str = "method = \"coin\"\n[small]\neffect = 0.7\nnoise = 2\n[paper]\n[holds]\nmetric = \"score\"\n\
        arm = \"coin\"\nagainst = \"plain\"\ndirection = \"higher\"\nmargin = 1.0\n";
    let (dir, method) = (tempfile::tempdir().unwrap(), method(recipe));
    let case = Case::new(&method, Budget::Small).unwrap();
    let mut count = Count::default();
    let outcome = case.run(&options(dir.path()), &mut count).unwrap();
    assert_eq!((outcome.primary.verdict, count.seeds), (Verdict::Inconclusive, 10));
    assert_eq!(outcome.primary.looks.len(), 2);
}

#[test]
fn every_part_of_the_plan_changes_its_hash() {
    let plan = |recipe: &str, budget| {
        let method = method(recipe.to_owned().leak());
        Case::new(&method, budget).unwrap().plan()
    };
    let plain = plan(RECIPE, Budget::Small);
    assert_eq!(plain, plan(RECIPE, Budget::Small));
    for other in [RECIPE.replace("margin = 1.0", "margin = 2.0"), RECIPE.replace("[small]", "[small]\neffect = 2")] {
        assert_ne!(plain, plan(&other, Budget::Small));
    }
    assert_ne!(plain, plan(RECIPE, Budget::Paper));
}

#[test]
fn recipes_that_do_not_fit_are_one_sentence() {
    let say = |recipe: String| {
        let method = method(recipe.leak());
        Case::new(&method, Budget::Small).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let misspelt = say(RECIPE.replace("[small]", "[small]\nefect = 2"));
    assert!(
        misspelt.contains("[small]: unknown field `efect`") && misspelt.contains("did you mean `effect`?"),
        "{misspelt}"
    );
    assert!(say(RECIPE.replace("\"plain\"", "\"bare\"")).contains("names the arm bare; there are plain, coin"));
    assert!(say(RECIPE.replace("1.0", "0")).contains("margin = 0 of score; must be above 0"));
    assert!(say(RECIPE.replace("\"coin\"\n[small]", "\"dice\"\n[small]")).contains("the page is called coin"));
    let broken = method(RECIPE.replace("\"score\"", "\"broken\"").leak());
    let dir = tempfile::tempdir().unwrap();
    let case = Case::new(&broken, Budget::Small).unwrap();
    let said = case.run(&options(dir.path()), &mut Silent).unwrap_err().to_string();
    assert!(said.starts_with("coin: broken of arm coin at seed 0 is not finite"), "{said}");
}

#[test]
fn foreign_evidence_is_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coin.json");
    let say = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Evidence::read(&path).unwrap_err().to_string()
    };
    assert!(say("{").contains("is no JSON"));
    assert!(say("{\"format_version\": 9}").contains("format version 9 and this program reads 1"));
    assert!(say("{\"format_version\": 1}").contains("does not fit this program (missing field `method`"));
}

struct Still {
    params: Params,
    w: Tensor,
}

impl Objective for Still {
    fn loss(&self, _: &Batch, _: &At) -> Terms {
        Terms::one("none", self.w.square().sum(Kind::Float))
    }
    fn params(&self) -> &Params {
        &self.params
    }
}

/// The base is trained once for each page, seed and setting, and reaches the second arm bit for bit.
#[test]
fn shared_weights_are_trained_once_for_each_seed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::folder(dir.path()).unwrap();
    let mut trained = 0;
    let mut value = |page: &str, seed: u64, lr: f64| {
        let mut silent = Silent;
        let (share, device, store) = (1.0, Device::Cpu, &store);
        let mut ctx = Context { seed, device, share, store, page, data: &[], monitor: &mut silent };
        let params = Params::new(Device::Cpu, seed);
        let w = params.root().zeros("w", &[2]);
        let mut learner = SingleLoss::new(Still { params, w }, Kind::Float);
        ctx.base("net", &json!({"lr": lr}), seed, &mut learner, |ctx, learner| {
            trained += 1;
            let _guard = tch::no_grad_guard();
            learner.objective().w.shallow_clone().copy_(&Tensor::from_slice(&[ctx.seed as f32, 0.5]));
            Ok(())
        })
        .unwrap();
        Vec::<f32>::try_from(&learner.objective().w).unwrap()
    };
    assert_eq!(value("a", 1, 0.1), value("a", 1, 0.1));
    assert_eq!(value("a", 2, 0.1), [2.0, 0.5]);
    assert_eq!(value("a", 1, 0.2), [1.0, 0.5]);
    assert_eq!(value("edited", 1, 0.2), [1.0, 0.5]);
    assert_eq!(trained, 4);
}

#[test]
fn estimates_extend_a_short_stretch() {
    let method = method(RECIPE);
    let case = Case::new(&method, Budget::Small).unwrap();
    let estimates = case.estimate(Device::Cpu, &mut Silent).unwrap();
    assert_eq!(estimates.iter().map(|e| e.arm.as_str()).collect::<Vec<_>>(), ["plain", "coin"]);
    assert!(estimates.iter().all(|e| e.seconds < 1.0 && e.peak_mib > 1.0));
    let lengths = try_run(|ctx| Ok(Metrics::new([("whole", ctx.length(1000, 10) as f64)])), 0, &mut Silent);
    assert_eq!(lengths.unwrap().get("whole"), Some(1000.0));
}

/// The best of several, a single one without a trial, and the first where every trial breaks down.
#[test]
fn a_setting_is_chosen_by_its_score() {
    let broken = || {
        let (layer, last) = (String::new(), String::new());
        Err(Error::Train(pentimento_train::Error::NonFinite { steps: 1, step: 0, layer, last }))
    };
    let chosen = |settings: &[f64], breaks: bool| {
        let run = |ctx: &mut Context| {
            let best = ctx.choose(settings, |_, x| if breaks { broken() } else { Ok(-(x - 3.0_f64).abs()) })?;
            Ok(Metrics::new([("best", best)]))
        };
        try_run(run, 0, &mut Silent).unwrap().get("best").unwrap()
    };
    assert_eq!(chosen(&[1.0, 2.5, 9.0], false), 2.5);
    assert_eq!(chosen(&[7.0, 8.0], true), 7.0);
    assert_eq!(chosen(&[5.0], true), 5.0);
    let none = try_run(|ctx| ctx.choose(&[] as &[f64], |_, _| Ok(0.0)).map(|_| Metrics::default()), 0, &mut Silent);
    assert!(matches!(none, Err(Error::NoChoice)));
}

/// Codes that are the same for every item are no candidate either, and what else goes wrong stops the arm.
#[test]
fn dead_codes_lose_and_other_errors_stop() {
    let dead =
        || probe_codes([0, 1, 2].map(|_| (Tensor::ones([6, 2], (Kind::Float, Device::Cpu)), vec![0, 1, 0, 1, 0, 1])));
    let run = |ctx: &mut Context| {
        let best = ctx.choose(&[1.0, 2.0], |_, x| if *x < 1.5 { Ok(dead()?.score) } else { Ok(0.1) })?;
        Ok(Metrics::new([("best", best)]))
    };
    assert_eq!(try_run(run, 0, &mut Silent).unwrap().get("best"), Some(2.0));
    let stopped = try_run(
        |ctx| ctx.choose(&[1.0, 2.0], |_, _| Err(Error::NoClasses)).map(|_| Metrics::default()),
        0,
        &mut Silent,
    );
    assert!(matches!(stopped, Err(Error::NoClasses)));
}

/// Pictures are of seed 0 and of trials, whose seeds no verdict looks at.
#[test]
fn the_first_seed_and_trials_are_shown() {
    let told = |ctx: &mut Context| Ok(Metrics::new([("shown", f64::from(u8::from(ctx.shown())))]));
    let shown = |seed| try_run(told, seed, &mut Silent).unwrap().get("shown");
    assert_eq!([0, 1, 9, 10, 100].map(shown), [1.0, 0.0, 0.0, 1.0, 1.0].map(Some));
}

/// A trial runs all arms at its seed under changed settings, says what predicates compare, and writes nothing.
#[test]
fn a_trial_judges_nothing() {
    let (dir, method) = (tempfile::tempdir().unwrap(), method(RECIPE));
    let case = Case::changed(&method, Budget::Small, &["effect=4.0".into(), "noise=0.0".into()]).unwrap();
    let mut count = Count::default();
    let found = case.trial(100, &options(dir.path()), &mut count).unwrap();
    assert_eq!((found.compared.len(), found.compared[0].1, count.ran), (1, 4.0, 2));
    let shown = |(path, caption): &(std::path::PathBuf, String)| path.is_file() && caption == "seed 100";
    assert!(found.pictures.len() == 2 && found.pictures.iter().all(shown), "{:?}", found.pictures);
    let judged = case.run(&options(dir.path()), &mut Count::default()).unwrap_err().to_string();
    assert!(judged.contains("changed for a trial") && !dir.path().join("evidence").exists(), "{judged}");
    let refused =
        |set: &str| Case::changed(&method, Budget::Small, &[set.into()]).err().map(|e| e.to_string()).unwrap();
    assert!(refused("efect=1").contains("did you mean `effect`?"));
    assert!(refused("noise=-1").contains("noise = -1; must be at least 0"));
    assert!(
        refused("noise=nan").contains("noise = nan or inf; must be finite") && refused("noise").contains("has no =")
    );
}

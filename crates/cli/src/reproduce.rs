//! `pentimento reproduce`

use crate::exit::{DONE, INTERRUPTED_CODE, NEGATIVE, Outcome};
use crate::methods::evidence_folder;
use crate::terminal::{Steps, catch_interrupts, duration, interrupted, result, say};
use pentimento_claims::revision::Checkout;
use pentimento_claims::{
    Budget, Case, Cell, Error, Estimate, Evidence, Found, LOOKS, Options, Predicate, Verdict, Watch, page, summary,
};
use pentimento_io::atomic;
use pentimento_methods::find;
use pentimento_train::{Monitor, Progress, parse_device};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// A method's name, as `pentimento methods` lists it.
    slug: String,
    /// Seeds at most; 5, and 10 where 5 do not decide, if absent. Fewer than 5 try the arms and judge nothing.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=10))]
    seeds: Option<u8>,
    /// `small` (two cores, minutes) or `paper`.
    #[arg(long, default_value = "small")]
    budget: Budget,
    /// `cpu`, `cuda` or `cuda:<n>`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Print the claim and how long it would take, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Run every arm at this one seed, print all it measures, and judge nothing: how sizes are found. Take one above 9.
    #[arg(long = "try", value_name = "SEED", conflicts_with_all = ["seeds", "dry_run"])]
    trial: Option<u64>,
    /// With --try: change a setting of the page: --set images=20000. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "trial")]
    sets: Vec<String>,
    /// Folder of evidence; that of the checkout if absent.
    #[arg(long)]
    evidence: Option<PathBuf>,
    /// Folder of finished runs and shared weights: what an interrupted claim goes on from.
    #[arg(long, default_value = "runs/claims")]
    cache: PathBuf,
}

pub fn run(args: &Args) -> Outcome {
    let method = find(&args.slug)?;
    let device = parse_device(&args.device)?;
    let case = Case::changed(method, args.budget, &args.sets)?;
    let options = Options {
        seeds: args.seeds.map(usize::from),
        device,
        cache: args.cache.clone(),
        evidence: evidence_folder(args.evidence.as_ref()),
        checkout: Checkout::around(Path::new(".")),
    };
    catch_interrupts();
    say(&format!("claim: {}", case.recipe.holds.sentence()));
    for arm in &case.claim.arms {
        say(&format!("  {:<14} {}", arm.name, arm.what));
    }
    let mut table = Live::new(&case.recipe.holds);
    if let Some(seed) = args.trial {
        table.whole = true;
        let found = case.trial(seed, &options, &mut table);
        drop(table.bar.take());
        let found = found?;
        for (predicate, d) in &found.compared {
            result(&format!("{d:+.4}  {}", predicate.sentence()));
        }
        for (path, caption) in &found.pictures {
            say(&format!("{}  {caption}", path.display()));
        }
        return Ok(DONE);
    }
    let done = estimate(&case, &options, &mut table).and_then(|()| match args.dry_run {
        true => Ok(None),
        false => case.run(&options, &mut table).map(Some),
    });
    drop(table.bar.take());
    let outcome = match done {
        Ok(Some(outcome)) => outcome,
        Ok(None) => return Ok(DONE),
        Err(e @ Error::Interrupted) => {
            say(&e.to_string());
            return Ok(ExitCode::from(INTERRUPTED_CODE));
        }
        Err(e) => return Err(e.into()),
    };
    result(&summary(&outcome.primary));
    outcome.also.iter().for_each(|f| result(&format!("beside it, {}", summary(f))));
    let Some(path) = &outcome.written else {
        say(&format!("{} seeds judge nothing, so no evidence is written", outcome.primary.differences.len()));
        return Ok(DONE);
    };
    let html = write_page(path, &site_beside(&options.evidence))?;
    say(&format!("{}\n{}", path.display(), html.display()));
    Ok(if outcome.primary.verdict == Verdict::Reproduced { DONE } else { NEGATIVE })
}

/// Writes the page of an evidence file into the folder of the static site.
pub fn write_page(evidence: &Path, site: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(site)?;
    let html = site.join(evidence.with_extension("html").file_name().unwrap_or_default());
    let mut read = Evidence::read(evidence)?;
    read.diagnosis = find(&read.method)?.diagnosis().or(read.diagnosis);
    let text = page(&read, evidence)?;
    atomic::write_bytes(&html, text.as_bytes())?;
    Ok(html)
}

/// `site` beside the folder of evidence.
pub fn site_beside(evidence: &Path) -> PathBuf {
    evidence.parent().unwrap_or(Path::new("")).join("site")
}

/// Says how long all seeds take: from earlier runs where there are any, else by a short stretch of every arm.
fn estimate(case: &Case, options: &Options, table: &mut Live) -> Result<(), Error> {
    let remembered = case.remembered(options)?;
    let source = if remembered.is_some() { "as earlier runs took" } else { "by a short stretch of every arm" };
    let list = match remembered {
        Some(list) => list,
        None => {
            say("timing a short stretch of every arm");
            case.estimate(options.device, table)?
        }
    };
    let seconds: f64 = list.iter().map(|e| e.seconds).sum();
    let peak = list.iter().map(|e| e.peak_mib).fold(0.0, f64::max);
    for Estimate { arm, seconds, .. } in &list {
        say(&format!("  {arm:<14} about {} a seed", duration(*seconds)));
    }
    let n = options.seeds.unwrap_or(LOOKS[0].0);
    say(&format!("about {} for {n} seeds ({source}), peak memory {peak:.0} MiB", duration(seconds * n as f64)));
    Ok(())
}

/// A line per run and per seed, and a bar for what is running.
struct Live {
    metric: String,
    label: String,
    bar: Option<Steps>,
    /// Whether every number is printed.
    whole: bool,
}

impl Live {
    fn new(primary: &Predicate) -> Self {
        Self { metric: primary.metric.clone(), label: "timing".into(), bar: None, whole: false }
    }
}

impl Monitor for Live {
    fn progress(&mut self, p: &Progress) {
        self.bar.get_or_insert_with(|| Steps::new("training")).at(&self.label, p.images.min(p.total), p.total);
    }
    fn stop(&mut self) -> bool {
        interrupted()
    }
}

impl Watch for Live {
    fn begin(&mut self, arm: &str, seed: u64) {
        self.label = format!("seed {seed} {arm}");
    }
    fn cell(&mut self, cell: &Cell, kept: bool) {
        drop(self.bar.take());
        // An arm that does not measure what is claimed shows the first number that it does.
        let other = || cell.metrics.keys().next().unwrap_or(&self.metric);
        let name = if cell.metrics.contains_key(&self.metric) { &self.metric } else { other() };
        let value = cell.number(name).map_or("not finite".into(), |v| format!("{v:.4}"));
        let took = if kept { "kept".into() } else { duration(cell.seconds) };
        say(&format!("seed {:<3} {:<14} {name} {value:<12} {took}", cell.seed, cell.arm));
        if self.whole {
            for (name, _) in &cell.metrics {
                let value = cell.number(name).map_or("not finite".into(), |v| format!("{v:.5}"));
                say(&format!("  {name:<24} {value}"));
            }
        }
    }
    fn seed(&mut self, found: &Found) {
        let d = found.differences.last().copied().unwrap_or(f64::NAN);
        let look = found
            .looks
            .last()
            .map_or(String::new(), |l| format!("; mean {:+.4} [{:+.4}, {:+.4}]", l.mean, l.low, l.high));
        say(&format!("seed {:<3} difference {d:+.4}{look}", found.differences.len().saturating_sub(1)));
    }
}

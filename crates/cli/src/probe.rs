//! `pentimento probe`

use crate::exit::{DONE, Outcome};
use crate::terminal::{Steps, open_model, result};
use clap::ValueEnum;
use pentimento_io::{atomic, features::Features};
use pentimento_measure::ProbeConfig;
use pentimento_train::{ProbeReport, ProbeRow, is_run, open_for, probe_features, probe_run, usual};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// A table made by `pentimento encode` (.parquet or .npz); or a run folder, to probe all its blocks and levels beside
    /// raw pixels and a random network.
    features: PathBuf,
    /// `label`, or a factor's name; may be repeated. All continuous factors and the label if absent.
    #[arg(long)]
    target: Vec<String>,
    /// The probe.
    #[arg(long, value_enum, default_value = "linear")]
    kind: Kind,
    /// With a run folder: data set, by name or path; that of the recipe if absent.
    #[arg(long)]
    data: Option<String>,
    /// With a run folder: items.
    #[arg(short, default_value_t = 3000)]
    n: u64,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Logistic regression for labels, ridge regression for factors.
    Linear,
    /// Nearest neighbours.
    Knn,
}

pub fn run(args: &Args) -> Outcome {
    if args.features.is_dir() {
        return of_run(args);
    }
    let table = read(&args.features)?;
    let config = match args.kind {
        Kind::Linear => ProbeConfig::linear(),
        Kind::Knn => ProbeConfig::knn(),
    };
    let targets = if args.target.is_empty() { default_targets(&table) } else { args.target.clone() };
    let rows = targets.iter().map(|t| probe_features(&table, t, &config)).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        result(&serde_json::to_string(&rows)?);
    } else {
        rows.iter().for_each(print);
    }
    Ok(DONE)
}

fn read(path: &Path) -> anyhow::Result<Features> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("npz") => Ok(Features::read_npz(path)?),
        _ => Ok(Features::read_parquet(path)?),
    }
}

fn default_targets(table: &Features) -> Vec<String> {
    let label = table.label.is_some().then(|| "label".to_owned());
    label.into_iter().chain(table.factors.iter().filter(|(_, v)| many(v)).map(|(n, _)| n.clone())).collect()
}

/// Whether a factor takes enough values for a regression.
fn many(values: &[f64]) -> bool {
    let mut seen: Vec<f64> = values.iter().take(1000).copied().collect();
    seen.sort_by(f64::total_cmp);
    seen.dedup();
    seen.len() > 32
}

fn of_run(args: &Args) -> Outcome {
    anyhow::ensure!(is_run(&args.features), "{}: is a folder without a run", args.features.display());
    let model = open_model(&args.features, "cpu")?;
    let name = args.data.clone().unwrap_or_else(|| model.recipe.data.name.clone());
    let data = open_for(&model, &name, 0)?;
    let targets = if !args.target.is_empty() {
        args.target.clone()
    } else if data.factors().is_empty() {
        vec!["label".into()]
    } else {
        ["x", "y", "scale"].iter().filter(|t| data.factors().iter().any(|f| f == *t)).map(ToString::to_string).collect()
    };
    let mut bar = Steps::new("reading");
    let report = probe_run(&model, &data, &usual(args.n), &targets, &mut |what, done, all| {
        bar.at(what, done, all);
    })?;
    drop(bar);
    let text = serde_json::to_string_pretty(&report)?;
    atomic::write_bytes(&args.features.join("probe.json"), text.as_bytes())?;
    if args.json {
        result(&text)
    } else {
        lines(&report)
    }
    Ok(DONE)
}

fn lines(report: &ProbeReport) {
    report.rows.iter().for_each(print);
    for (target, pixels, random) in &report.gains {
        let gain = |d: &pentimento_measure::Difference| {
            format!("{:+.3} [{:+.3}, {:+.3}]", d.value, d.interval.low, d.interval.high)
        };
        result(&format!("{target:<8} gain over pixels {}, over a random network {}", gain(pixels), gain(random)));
    }
}

fn print(r: &ProbeRow) {
    result(&format!(
        "{:<8} {:<44} {:>5} wide  {:.3} [{:.3}, {:.3}]",
        r.target, r.features, r.width, r.score, r.interval.low, r.interval.high
    ));
}

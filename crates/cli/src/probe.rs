//! `pentimento probe`

use crate::exit::{DONE, Outcome};
use crate::terminal::{Opened, Steps, open_any, own_data, result, say};
use clap::ValueEnum;
use pentimento_io::{atomic, features::Features};
use pentimento_measure::ProbeConfig;
use pentimento_train::{Beside, ProbeReport, ProbeRow, is_run, open_for, probe_features, probe_run, usual};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// A table made by `pentimento encode` (.parquet or .npz); or a run folder, to probe all its blocks and levels. Both
    /// beside raw pixels and a random network.
    features: PathBuf,
    /// `label`, `factor` for all continuous factors, or a factor by name; may be repeated. If absent, both of a table; of
    /// a run the factors, or the label where there are none.
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

impl Kind {
    fn config(self) -> ProbeConfig {
        match self {
            Self::Linear => ProbeConfig::linear(),
            Self::Knn => ProbeConfig::knn(),
        }
    }
}

pub fn run(args: &Args) -> Outcome {
    if args.features.is_dir() {
        return of_run(args);
    }
    let report = probe_features(&read(&args.features)?, &args.target, &args.kind.config())?;
    if args.json {
        result(&serde_json::to_string(&report)?);
    } else {
        lines(&report);
        if report.gains.is_empty() {
            say(
                "the table has no columns `pixels` and `random` to compare with; write it with `pentimento encode`, without --no-baselines",
            );
        }
    }
    Ok(DONE)
}

fn read(path: &Path) -> anyhow::Result<Features> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("npz") => Ok(Features::read_npz(path)?),
        _ => Ok(Features::read_parquet(path)?),
    }
}

fn of_run(args: &Args) -> Outcome {
    anyhow::ensure!(is_run(&args.features), "{}: is a folder without a run", args.features.display());
    let mut bar = Steps::new("reading");
    let mut observe = |what: &str, done, all| bar.at(what, done, all);
    let report = match open_any(&args.features, "cpu")? {
        Opened::Method(model) => {
            let data = model.open(args.data.as_deref(), 0)?;
            let table = model.features(&data, (args.n, 0), Beside::Baselines, &mut observe)?;
            probe_features(&table, &args.target, &args.kind.config())?
        }
        Opened::Diffusion(model) => {
            let data = open_for(&model, &own_data(&model, args.data.as_deref(), &args.features, "give --data")?, 0)?;
            probe_run(&model, &data, &usual(args.n), &args.target, &args.kind.config(), &mut observe)?
        }
    };
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

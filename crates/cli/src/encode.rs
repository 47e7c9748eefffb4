//! `pentimento encode`

use crate::exit::{DONE, Outcome};
use crate::terminal::{Steps, open_model, result};
use pentimento_train::{Beside, Pool, ReadOptions, features_table, open_for};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A run folder, or a model.safetensors.
    run: PathBuf,
    /// A data set, by name or path.
    data: String,
    /// Block to read; the middle one if absent.
    #[arg(long)]
    block: Option<String>,
    /// Time in [0, 1] at which the data is noised before it is shown; 0 = clean.
    #[arg(long, default_value_t = 0.1)]
    level: f64,
    /// mean, grid2, grid4, ... or flat
    #[arg(long, default_value = "mean")]
    pool: Pool,
    /// Items read, the first n; 0 = all.
    #[arg(short, default_value_t = 0)]
    n: u64,
    /// Edge to which pictures are fitted; the model's if absent.
    #[arg(long, default_value_t = 0)]
    px: usize,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Leave out the columns `pixels` and `random` (the items, and the features of the untrained network), beside which
    /// `probe` judges the features.
    #[arg(long)]
    no_baselines: bool,
    /// Table to write, .parquet or .npz; <run>/features.parquet if absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// cpu, cuda or cuda:<n>
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub fn run(args: &Args) -> Outcome {
    let model = open_model(&args.run, &args.device)?;
    let data = open_for(&model, &args.data, args.px)?;
    let blocks = model.blocks();
    let block = args.block.clone().unwrap_or_else(|| blocks[blocks.len() >> 1].clone());
    let options =
        ReadOptions { blocks: vec![block], levels: vec![args.level], pool: args.pool, items: args.n, seed: args.seed };
    let beside = if args.no_baselines { Beside::Nothing } else { Beside::Baselines };
    let mut bar = Steps::new("reading");
    let mut table = features_table(&model, &data, &options, beside, &mut |what, done, all| {
        bar.at(what, done, all);
    })?;
    drop(bar);
    table.provenance.insert("run".into(), args.run.display().to_string());
    let default = if args.run.is_dir() { args.run.join("features.parquet") } else { "features.parquet".into() };
    let out = args.out.clone().unwrap_or(default);
    match out.extension().and_then(|e| e.to_str()) {
        Some("parquet") => table.write_parquet(&out)?,
        Some("npz") => table.write_npz(&out)?,
        _ => anyhow::bail!("--out {}: the name must end in .parquet or .npz", out.display()),
    }
    let [n, width] = [0, 1].map(|axis| table.feature.shape()[axis]);
    result(&format!("{} [{n}, {width}]", out.display()));
    Ok(DONE)
}

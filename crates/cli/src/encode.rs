//! `pentimento encode`

use crate::exit::{DONE, Outcome};
use crate::terminal::{Opened, Steps, open_any, own_data, result};
use pentimento_train::{Beside, Pool, ReadOptions, features_table, open_for};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A run folder, or a model.safetensors.
    run: PathBuf,
    /// A data set, by name or path; what the run learned from if absent.
    data: Option<String>,
    /// Of a diffusion model the block to read; the middle one if absent.
    #[arg(long)]
    block: Option<String>,
    /// Of a diffusion model the time in [0, 1] at which the data is noised before it is shown, 0 = clean; 0.1 if absent.
    #[arg(long)]
    level: Option<f64>,
    /// Of a diffusion model: mean, grid2, grid4, ... or flat; mean if absent.
    #[arg(long)]
    pool: Option<Pool>,
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
    let beside = if args.no_baselines { Beside::Nothing } else { Beside::Baselines };
    let mut bar = Steps::new("reading");
    let mut observe = |what: &str, done, all| bar.at(what, done, all);
    let mut table = match open_any(&args.run, &args.device)? {
        Opened::Method(model) => {
            let given = args.block.is_some() || args.level.is_some() || args.pool.is_some();
            anyhow::ensure!(
                !given,
                "--block, --level and --pool say where a diffusion model is read; {} has one code: leave them out",
                model.method.slug
            );
            let data = model.open(args.data.as_deref(), args.px)?;
            model.features(&data, (args.n, args.seed), beside, &mut observe)?
        }
        Opened::Diffusion(model) => {
            let data =
                open_for(&model, &own_data(&model, args.data.as_deref(), &args.run, "name some behind it")?, args.px)?;
            let blocks = model.blocks();
            let block = args.block.clone().unwrap_or_else(|| blocks[blocks.len() >> 1].clone());
            let (levels, pool) = (vec![args.level.unwrap_or(0.1)], args.pool.unwrap_or(Pool::Mean));
            let options = ReadOptions { blocks: vec![block], levels, pool, items: args.n, seed: args.seed };
            features_table(&model, &data, &options, beside, &mut observe)?
        }
    };
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

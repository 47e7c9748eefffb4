//! `pentimento encode`

use crate::exit::{DONE, Outcome};
use crate::terminal::{Steps, open_model, result};
use pentimento_io::features::Features;
use pentimento_io::{Array, Values};
use pentimento_train::{Pool, ReadOptions, encode, open_for};
use std::collections::BTreeMap;
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
    let options = ReadOptions {
        blocks: vec![block.clone()],
        levels: vec![args.level],
        pool: args.pool,
        items: args.n,
        seed: args.seed,
    };
    let mut bar = Steps::new("reading");
    let read = encode(&model, &data, &options, &mut |done, all| {
        bar.at("reading", done, all);
    })?;
    drop(bar);
    let n = read.index.len();
    let (width, values) = read.features.into_values().next().unwrap_or_default();
    let provenance = BTreeMap::from([
        ("features".to_owned(), format!("{block} @ {}", args.level)),
        ("run".into(), args.run.display().to_string()),
        ("data".into(), data.fingerprint()),
        ("images".into(), model.images.to_string()),
        ("pool".into(), args.pool.to_string()),
        ("seed".into(), args.seed.to_string()),
    ]);
    let table = Features {
        feature: Array::new(vec![n, width], Values::F32(values)),
        index: read.index.iter().map(|i| i.cast_signed()).collect(),
        label: (!read.labels.is_empty()).then_some(read.labels),
        split: None,
        factors: read.factors.into_iter().map(|(name, v)| (name, v.into_iter().map(f64::from).collect())).collect(),
        provenance,
    };
    let default = if args.run.is_dir() { args.run.join("features.parquet") } else { "features.parquet".into() };
    let out = args.out.clone().unwrap_or(default);
    match out.extension().and_then(|e| e.to_str()) {
        Some("parquet") => table.write_parquet(&out)?,
        Some("npz") => table.write_npz(&out)?,
        _ => anyhow::bail!("--out {}: the name must end in .parquet or .npz", out.display()),
    }
    result(&format!("{} [{n}, {width}]", out.display()));
    Ok(DONE)
}

//! `pentimento import`

use crate::exit::{DONE, Outcome};
use crate::terminal::{result, say};
use pentimento_train::import;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Weights in the names of the original DiT or ADM, or in those of diffusers: a .safetensors file, a sharded index, or
    /// a folder with one of them (diffusers' config.json beside it is read).
    weights: PathBuf,
    /// What the weights do not say: a TOML file with [diffusion] and [sample], and, without a config.json, [network] and
    /// [input] (size = [channels, height, width], classes = how many or their names).
    #[arg(long)]
    recipe: PathBuf,
    /// What the names of the tensors begin with, as in `--prefix model.`
    #[arg(long, default_value = "")]
    prefix: String,
    /// Run folder; runs/<recipe> if absent.
    #[arg(long)]
    outdir: Option<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    let name = args.recipe.file_stem().unwrap_or_default();
    let outdir = args.outdir.clone().unwrap_or_else(|| PathBuf::from("runs").join(name));
    let done = import(&args.weights, &args.recipe, &args.prefix, &outdir)?;
    result(&format!("{}  {} parameters by {} names", done.model.display(), done.parameters, done.names));
    say(&format!("next: pentimento sample {0}, pentimento encode {0} DATA", outdir.display()));
    Ok(DONE)
}

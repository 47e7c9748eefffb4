//! `pentimento train`

use crate::exit::{DONE, INTERRUPTED_CODE, Outcome};
use crate::terminal::{TrainBar, catch_interrupts, result, say};
use pentimento_train::{Ending, Options, Plan, train};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// Run folder; runs/<recipe> if absent. Repeating the command continues the run in it.
    #[arg(long)]
    outdir: Option<PathBuf>,
    /// Change a setting: --set train.lr=2e-4. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Seed of weights, data order and noise; the recipe's if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// cpu, cuda or cuda:<n>
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Leave out unreadable items of the data, as `data.skip_bad = true` does.
    #[arg(long)]
    skip_bad: bool,
    /// Print the checked plan and stop.
    #[arg(long)]
    dry_run: bool,
    /// Remove what an earlier run left in the run folder.
    #[arg(long)]
    fresh: bool,
}

pub fn run(args: &Args) -> Outcome {
    let mut sets = args.sets.clone();
    sets.extend(args.seed.map(|s| format!("seed={s}")));
    sets.extend(args.skip_bad.then(|| "data.skip_bad=true".to_owned()));
    let options = Options { outdir: args.outdir.clone(), device: Some(args.device.clone()) };
    let plan = Plan::read(&args.recipe, &sets, &options)?;
    if args.dry_run {
        result(&plan.describe());
        return Ok(DONE);
    }
    if args.fresh {
        pentimento_train::RunFolder::clear(&plan.outdir)?;
    }
    catch_interrupts();
    say(&format!(
        "{}: {:.2} M parameters, {} images, into {}",
        plan.name,
        plan.parameters as f64 / 1e6,
        plan.recipe.train.images,
        plan.outdir.display()
    ));
    let mut bar = TrainBar::new(plan.recipe.train.images);
    let ending = train(&plan, &mut bar)?;
    drop(bar);
    match ending {
        Ending::Finished { weights } => {
            result(&format!("weights {weights}"));
            say(&format!("done; next: pentimento sample {0}, pentimento report {0}", plan.outdir.display()));
            Ok(DONE)
        }
        Ending::Interrupted { images } => {
            let line: Vec<String> = std::env::args().filter(|a| a != "--fresh").collect();
            say(&format!("saved at {images} images; continue with: {}", line.join(" ")));
            Ok(ExitCode::from(INTERRUPTED_CODE))
        }
    }
}

//! `pentimento train`

use crate::exit::{DONE, INTERRUPTED_CODE, Outcome};
use crate::terminal::{TrainBar, catch_interrupts, result, say};
use pentimento_claims::{Budget, Lesson, Method, parameters};
use pentimento_io::text;
use pentimento_methods::find;
use pentimento_train::{Ending, Options, Plan, RunFolder, parse_device, train};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// The recipe, a TOML file; or the name of a method of the catalogue, for its own.
    recipe: PathBuf,
    /// Of a recipe of the catalogue: `small` (two cores, minutes) or `paper`.
    #[arg(long, default_value = "small")]
    budget: Budget,
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
    if let Some((method, text)) = of_catalogue(&args.recipe)? {
        return teach(args, method, &text, &sets);
    }
    sets.extend(args.skip_bad.then(|| "data.skip_bad=true".to_owned()));
    let options = Options { outdir: args.outdir.clone(), device: Some(args.device.clone()) };
    let plan = Plan::read(&args.recipe, &sets, &options)?;
    if args.dry_run {
        result(&plan.describe());
        return Ok(DONE);
    }
    begin(args, &plan.outdir, &plan.name, plan.parameters, plan.recipe.train.images)?;
    let mut bar = TrainBar::new(plan.recipe.train.images);
    let ending = train(&plan, &mut bar)?;
    drop(bar);
    end(&ending, &plan.outdir, "sample")
}

/// The method and text of a recipe of the catalogue: a file that names one, or the name itself.
fn of_catalogue(recipe: &Path) -> anyhow::Result<Option<(&'static Method, String)>> {
    if !recipe.exists() {
        let slug = recipe.to_string_lossy();
        // What looks like a path is a file that is missing.
        let typed = recipe.extension().is_none() && recipe.components().count() == 1;
        return Ok(if typed { Some(find(&slug).map(|m| (m, m.recipe.to_owned()))?) } else { None });
    }
    let text = text::read(recipe)?;
    Ok(match Lesson::method_of(&text) {
        Some(slug) => Some((find(&slug)?, text)),
        None => None,
    })
}

/// Trains the model of a method.
fn teach(args: &Args, method: &'static Method, text: &str, sets: &[String]) -> Outcome {
    anyhow::ensure!(!args.skip_bad, "--skip-bad: a method reads its data whole; leave it out");
    let lesson = Lesson::parse(method, text, args.budget, sets)?;
    let outdir = args.outdir.clone().unwrap_or_else(|| PathBuf::from("runs").join(method.slug));
    let job = lesson.job(outdir.clone(), parse_device(&args.device)?)?;
    if args.dry_run {
        result(&lesson.describe(&job));
        return Ok(DONE);
    }
    let images = lesson.table().images;
    begin(args, &outdir, method.slug, parameters(job.learner.as_ref()), images)?;
    let mut bar = TrainBar::new(images);
    let ending = job.train(&mut bar)?;
    drop(bar);
    end(&ending, &outdir, "probe")
}

fn begin(args: &Args, outdir: &Path, name: &str, parameters: usize, images: u64) -> anyhow::Result<()> {
    if args.fresh {
        RunFolder::clear(outdir)?;
    }
    catch_interrupts();
    let millions = parameters as f64 / 1e6;
    say(&format!("{name}: {millions:.2} M parameters, {images} images, into {}", outdir.display()));
    Ok(())
}

fn end(ending: &Ending, outdir: &Path, next: &str) -> Outcome {
    match ending {
        Ending::Finished { weights } => {
            result(&format!("weights {weights}"));
            say(&format!("done; next: pentimento {next} {0}, pentimento report {0}", outdir.display()));
            Ok(DONE)
        }
        Ending::Interrupted { images } => {
            let line: Vec<String> = std::env::args().filter(|a| a != "--fresh").collect();
            say(&format!("saved at {images} images; continue with: {}", line.join(" ")));
            Ok(ExitCode::from(INTERRUPTED_CODE))
        }
    }
}

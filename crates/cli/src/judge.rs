//! `pentimento judge`

use crate::exit::{DONE, Outcome};
use crate::terminal::{Steps, open_model, result};
use pentimento_diffusion::Sampler;
use pentimento_train::{Options, Plan, judge};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A run folder whose recipe has a [judge] table.
    run: PathBuf,
    /// Guidance scales to try, instead of the recipe's: --sweep 1,1.5,2
    #[arg(long, value_delimiter = ',')]
    sweep: Option<Vec<f64>>,
    /// Guidance that counts as the one shown, instead of the recipe's.
    #[arg(long)]
    guidance: Option<f64>,
    /// Times between which guidance acts, instead of the recipe's: --interval 0,0.7
    #[arg(long, value_parser = crate::sample::interval)]
    interval: Option<[f64; 2]>,
    /// Sampler, instead of the recipe's.
    #[arg(long)]
    sampler: Option<Sampler>,
    /// Steps of the sampler, instead of the recipe's.
    #[arg(long)]
    steps: Option<usize>,
    /// Pictures per scale, instead of the recipe's.
    #[arg(short)]
    n: Option<usize>,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
    /// cpu, cuda or cuda:<n>
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub fn run(args: &Args) -> Outcome {
    let model = open_model(&args.run, &args.device)?;
    let mut recipe = model.recipe.clone();
    if let Some(sweep) = &args.sweep {
        recipe.sample.sweep.clone_from(sweep);
    }
    recipe.sample.sampler = args.sampler.unwrap_or(recipe.sample.sampler);
    recipe.sample.steps = args.steps.unwrap_or(recipe.sample.steps);
    recipe.sample.interval = args.interval.unwrap_or(recipe.sample.interval);
    recipe.sample.guidance = args.guidance.unwrap_or(recipe.sample.guidance);
    if let (Some(n), Some(j)) = (args.n, &mut recipe.judge) {
        j.samples = n;
    }
    let options = Options { outdir: Some(args.run.clone()), device: Some(args.device.clone()) };
    let name = args.run.file_name().map_or("run".into(), |n| n.to_string_lossy().into_owned());
    let plan = Plan::new(recipe, name, &options)?;
    let mut bar = Steps::new("judging");
    let j = judge(&plan, &model, &mut |what, done, all| {
        bar.at(what, done, all);
    })?;
    drop(bar);
    if args.json {
        result(&serde_json::to_string(&j)?);
        return Ok(DONE);
    }
    let list = |v: &[(String, f64)]| v.iter().map(|(n, x)| format!("{n} {x:.3}")).collect::<Vec<_>>().join(", ");
    let r2 = if j.judge_r2.is_empty() { String::new() } else { format!("; R^2 {}", list(&j.judge_r2)) };
    result(&format!("judge: {:.2} % of held-out items right{r2}", 100.0 * j.judge_accuracy));
    result(&format!("real test images: Frechet distance {:.2}, coverage {:.3}", j.real_frechet, j.real_coverage));
    for p in &j.sweep {
        let a = &p.agreement;
        let ks = if p.ks.is_empty() { String::new() } else { format!("  KS {}", list(&p.ks)) };
        let shown = if (p.guidance - j.shown).abs() < 1e-9 { "  (shown)" } else { "" };
        result(&format!(
            "guidance {:<4} agreement {:.1} % [{:.1}, {:.1}]  Frechet {:.2}  coverage {:.3}{ks}{shown}",
            p.guidance,
            100.0 * a.value,
            100.0 * a.low,
            100.0 * a.high,
            p.frechet,
            p.coverage,
        ));
    }
    Ok(DONE)
}

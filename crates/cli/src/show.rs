//! `pentimento show`

use crate::exit::{DONE, Outcome};
use crate::methods::evidence_folder;
use crate::terminal::result;
use pentimento_claims::{Evidence, summary};
use pentimento_methods::find;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A method's name, as `pentimento methods` lists it.
    slug: String,
    /// Folder of evidence; that of the checkout if absent.
    #[arg(long)]
    evidence: Option<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    let method = find(&args.slug)?;
    result(&method.header());
    result("\n# Settings");
    for s in (method.settings)() {
        result(&format!("  {:<20} {:<8} {}", s.key, s.kind, s.default));
    }
    if method.model.is_some() {
        result(&format!("\n# Model\n  pentimento train {} [--set KEY=VALUE]", method.slug));
    }
    result(&format!("\n# Recipe\n{}", method.recipe.trim_end()));
    result("\n# Evidence");
    match Evidence::of(&evidence_folder(args.evidence.as_ref()), method.slug)? {
        Some(e) => evidence(&Evidence { diagnosis: method.diagnosis().or(e.diagnosis.clone()), ..e }),
        None => result(&format!("  none; `pentimento reproduce {}` makes it", method.slug)),
    }
    Ok(DONE)
}

fn evidence(e: &Evidence) {
    result(&format!("  {}", summary(&e.primary)));
    e.also.iter().for_each(|f| result(&format!("  beside it, {}", summary(f))));
    if let Some(diagnosis) = &e.diagnosis {
        result(&format!("  diagnosis: {diagnosis}"));
    }
    result(&format!("  revision {}, margin fixed by {}, plan {}", e.revision, e.margin_fixed.revision, e.plan));
    let threads = e.machine.get("threads").map_or("?", String::as_str);
    result(&format!("  {:.0} s of runs on {} with {threads} threads, peak {:.0} MiB", e.seconds, e.device, e.peak_mib));
}

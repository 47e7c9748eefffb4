//! `pentimento report`

use crate::exit::{DONE, Outcome};
use crate::methods::evidence_folder;
use crate::reproduce::{site_beside, write_page};
use crate::terminal::result;
use pentimento_claims::{Evidence, gallery};
use pentimento_io::atomic;
use pentimento_methods::all;
use pentimento_train::write_report;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A run folder.
    #[arg(required_unless_present = "all")]
    run: Option<PathBuf>,
    /// The page; <run>/report.html if absent. With --all the folder of the site; `site` beside the evidence if absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write one static site of all evidence.
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// With --all: folder of evidence; that of the checkout if absent.
    #[arg(long, requires = "all")]
    evidence: Option<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    if let Some(run) = &args.run {
        let page = write_report(run, args.out.as_deref())?;
        result(&page.display().to_string());
        return Ok(DONE);
    }
    let folder = evidence_folder(args.evidence.as_ref());
    let site = args.out.clone().unwrap_or_else(|| site_beside(&folder));
    std::fs::create_dir_all(&site)?;
    let mut list = Vec::new();
    for method in all() {
        if let Some(evidence) = Evidence::of(&folder, method.slug)? {
            let path = Evidence::path(&folder, method.slug, evidence.budget);
            write_page(&path, &site)?;
            list.push((evidence, path));
        }
    }
    let index = site.join("index.html");
    atomic::write_bytes(&index, gallery(&list)?.as_bytes())?;
    result(&index.display().to_string());
    Ok(DONE)
}

//! `pentimento report`

use crate::exit::{DONE, Outcome};
use crate::terminal::result;
use pentimento_train::write_report;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A run folder.
    run: PathBuf,
    /// The page; <run>/report.html if absent.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    let page = write_report(&args.run, args.out.as_deref())?;
    result(&page.display().to_string());
    Ok(DONE)
}

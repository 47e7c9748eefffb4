//! A tiny run of the real program, read back by the tensorboard package.

#![expect(clippy::print_stderr, reason = "a command line speaks")]

use crate::fixtures;
use crate::repo::Repo;
use crate::tally::Totals;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::Command;

/// Enough of everything that is logged: lines, validation, pictures.
const RECIPE: &str = r#"
[data]
name = "digits"
[network.dit]
width = 32
depth = 1
heads = 2
patch = 4
[train]
images = 256
batch = 32
lr = 1e-3
log_images = 64
sample_images = 128
[sample]
steps = 2
"#;

/// Trains, then reads the events with `fixtures/tensorboard/check.py`: every step once, in order, pictures that are PNGs.
pub fn check(repo: &Repo) -> Result<Totals> {
    let python = fixtures::environment(repo, "tensorboard-env", "fixtures/tensorboard/requirements.txt")?;
    let folder = repo.target.join("read-back");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{}: cannot remove", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot make", folder.display()))?;
    let (recipe, run) = (folder.join("tiny.toml"), folder.join("run"));
    fs::write(&recipe, RECIPE).with_context(|| format!("{}: cannot write", recipe.display()))?;
    let mut program = Command::new(repo.program());
    let trained = program.arg("train").arg(&recipe).arg("--outdir").arg(&run).env("OMP_NUM_THREADS", "1").status()?;
    ensure!(trained.success(), "the tiny run stopped with {trained}");
    let script = repo.root.join("fixtures/tensorboard/check.py");
    let seen = Command::new(python).arg(script).arg(&run).output().context("python does not start")?;
    let text = String::from_utf8_lossy(&seen.stdout);
    let whole = ["train/loss", "val/loss", "samples"].iter().all(|tag| text.contains(&format!("\"{tag}\"")));
    if !seen.status.success() || !whole {
        eprintln!("tensorboard reads: {text}{}", String::from_utf8_lossy(&seen.stderr));
    }
    Ok(Totals::one(seen.status.success() && whole))
}

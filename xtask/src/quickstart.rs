//! `cargo xtask quickstart`: the main job, command by command, each printed as a user would type it.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a command line speaks")]

use crate::repo::Repo;
use crate::setup;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// Where the run is kept; running the quickstart again resumes it.
const RUN: &str = "runs/quickstart";

/// What is run, in order: the stage, and the arguments of `pentimento`.
const COMMANDS: [(&str, &[&str]); 5] = [
    ("train", &["train", "recipes/quickstart.toml", "--outdir", RUN]),
    ("sample", &["sample", RUN, "-n", "90", "--seed", "0"]),
    ("probe", &["probe", RUN]),
    ("judge", &["judge", RUN]),
    ("report", &["report", RUN]),
];

/// What the last command leaves for the reader.
const REPORT: &str = "runs/quickstart/report.html";

/// Sets up, builds and runs [`COMMANDS`]; false if one of them ended with a negative result.
pub fn run(repo: &Repo) -> Result<bool> {
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let start = Instant::now();
    let ground = setup::run(repo, &setup::Ask::default())?;
    times.push(("set-up", start.elapsed()));
    eprintln!("{ground}");

    let start = Instant::now();
    eprintln!("$ cargo build --workspace");
    let status = repo.cargo().args(["build", "--workspace"]).status().context("cargo does not start")?;
    ensure!(status.success(), "the build failed; its errors are above");
    times.push(("build", start.elapsed()));

    let program = repo.program();
    let shown = program.strip_prefix(&repo.root).unwrap_or(&program).display().to_string();
    let mut good = true;
    for (stage, arguments) in COMMANDS {
        eprintln!("\n$ {shown} {}", arguments.join(" "));
        let start = Instant::now();
        let status = std::process::Command::new(&program)
            .args(arguments)
            .current_dir(&repo.root)
            .status()
            .with_context(|| format!("{shown}: does not start"))?;
        times.push((stage, start.elapsed()));
        // 1 is a result that is negative, which is an answer; anything else is a stop.
        good &= status.success();
        ensure!(
            status.success() || status.code() == Some(1),
            "`{shown} {}` stopped with {status}",
            arguments.join(" ")
        );
    }
    eprintln!();
    for (stage, time) in &times {
        eprintln!("{stage:>8} {:7.1} s", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time)| time).sum();
    eprintln!("{:>8} {:7.1} s", "total", total.as_secs_f64());
    eprintln!("the report, a single file for any browser:");
    println!("{}", repo.root.join(REPORT).display());
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_begins_with_its_stage() {
        for (stage, arguments) in COMMANDS {
            assert_eq!(arguments.first(), Some(&stage));
        }
    }
}

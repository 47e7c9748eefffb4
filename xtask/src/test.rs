//! `cargo xtask test`: the stages one after the other, then one closing line of totals.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a command line speaks")]

use crate::read_back;
use crate::repo::Repo;
use crate::tally::{Reader, Skip, Totals};
use crate::{setup, tidy};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What a run was asked for.
struct Ask<'a> {
    repo: &'a Repo,
    filter: Option<&'a str>,
    require_data: bool,
}

/// One stage: counts what it checked; an error means that it could not be run at all.
type Stage = (&'static str, fn(&Ask) -> Result<Totals>);

/// The stage without which the others only repeat its errors.
const BUILD: &str = "build";

/// A stage more is a function and a line here.
const STAGES: [Stage; 6] = [
    (BUILD, build),
    ("tests", tests),
    ("read back by tensorboard", read_back_events),
    ("format", format),
    ("clippy", clippy),
    ("tidy", tidy_up),
];

/// With a filter, the quick loop of someone who writes: only these.
const FILTERED: [&str; 2] = [BUILD, "tests"];

/// Sets up, runs every stage even if one before it failed, and prints the totals; true if nothing failed.
pub fn run(repo: &Repo, filter: Option<&str>, require_data: bool) -> Result<bool> {
    let ground = setup::run(repo, &setup::Ask::default())?;
    eprintln!("{ground}");
    let ask = Ask { repo, filter, require_data };
    let mut totals = Totals::default();
    for (name, stage) in STAGES.iter().filter(|(name, _)| filter.is_none() || FILTERED.contains(name)) {
        let start = Instant::now();
        eprintln!("== {name}");
        let counted = stage(&ask).unwrap_or_else(|error| {
            eprintln!("error: {name}: {error:#}");
            Totals::one(false)
        });
        eprintln!("== {name}: {counted}, {:.1} s", start.elapsed().as_secs_f64());
        totals += counted;
        if *name == BUILD && counted.failed > 0 {
            eprintln!("== nothing else is run on a tree that does not compile");
            break;
        }
    }
    println!("{totals}");
    Ok(totals.failed == 0)
}

/// Compiles everything: the program itself, of which `tidy` reads what it links, with the features that its tests have.
fn build(ask: &Ask) -> Result<Totals> {
    let built = ask.repo.cargo().args(["build", "--workspace"]).status()?.success();
    let tests = ask.repo.cargo().args(["test", "--workspace", "--no-run"]).status()?.success();
    Ok(Totals::one(built && tests))
}

/// Unit tests, integration tests and doctests of all crates; the tests of a crate are threads of one process.
fn tests(ask: &Ask) -> Result<Totals> {
    let mut cargo = ask.repo.cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).args(ask.filter).args(["--", "--show-output"]);
    threads(&mut cargo);
    let data = data_folder(ask.repo);
    cargo.env("PENTIMENTO_DATA", &data).stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cargo does not start")?;
    let mut reader = Reader::default();
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')) {
        let line = String::from_utf8_lossy(&line.context("the output of cargo test breaks off")?).into_owned();
        if reader.line(&line) {
            eprintln!("{line}");
        }
    }
    let status = child.wait()?;
    let mut totals = reader.totals;
    for Skip { test, why } in &reader.skips {
        eprintln!("skipped: {test}: {why}");
    }
    if !status.success() && totals.failed == 0 {
        // A crash or a failure to compile prints no result line.
        eprintln!("error: cargo test stopped with {status}");
        totals.failed += 1;
    }
    if ask.require_data && data.is_dir() {
        for Skip { test, why } in reader.skips.iter().filter(|s| s.why.contains("data")) {
            eprintln!("error: {test} was skipped ({why}) although {} is there", data.display());
            totals.failed += 1;
        }
    }
    Ok(totals)
}

/// One test per core, each computing on one thread: libtorch's own threads would only get in each other's way.
fn threads(cargo: &mut Command) {
    for (name, value) in [("OMP_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1")] {
        if std::env::var_os(name).is_none() {
            cargo.env(name, value);
        }
    }
}

/// The folder with real data, which tests look for and say `skipped:` without.
fn data_folder(repo: &Repo) -> PathBuf {
    match std::env::var_os("PENTIMENTO_DATA").filter(|v| !v.is_empty()) {
        Some(given) => repo.root.join(given),
        None => repo.root.join("../shared/data"),
    }
}

fn format(ask: &Ask) -> Result<Totals> {
    let mut cargo = ask.repo.cargo();
    let held = cargo.args(["fmt", "--all", "--check"]).status()?.success();
    if !held {
        eprintln!("cargo fmt --all puts it right (if it is missing: rustup component add rustfmt)");
    }
    Ok(Totals::one(held))
}

fn clippy(ask: &Ask) -> Result<Totals> {
    let mut cargo = ask.repo.cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--no-deps", "--quiet", "--", "-D", "warnings"]);
    let held = cargo.status()?.success();
    if !held {
        eprintln!("if clippy itself is missing: rustup component add clippy");
    }
    Ok(Totals::one(held))
}

fn read_back_events(ask: &Ask) -> Result<Totals> {
    read_back::check(ask.repo)
}

fn tidy_up(ask: &Ask) -> Result<Totals> {
    tidy::check(&ask.repo.root)
}

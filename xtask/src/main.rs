//! `cargo xtask`: everything around the program itself. `cargo xtask --help` lists the commands.
//!
//! People read stderr; stdout carries results (the closing line of `test`). Exit codes: 0 all is well, 1 a check
//! failed, 2 wrong usage, 3 the machine lacks something.

#![expect(clippy::print_stderr, reason = "a command line speaks")]

mod bench;
mod fixtures;
mod page;
mod planned;
mod quickstart;
mod read_back;
mod repo;
mod setup;
mod status;
mod tally;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use repo::Repo;
use std::path::PathBuf;
use std::process::ExitCode;

/// Set-up, tests, tidy and the quickstart of Pentimento.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or fetch libtorch and link it as target/libtorch; touches no network once that is done.
    Setup {
        /// Use this folder: a libtorch 2.11.0, or the three wheels that ARCHITECTURE.md names, brought by hand.
        #[arg(long, value_name = "FOLDER")]
        from: Option<PathBuf>,
        /// Look again even if target/libtorch is already good.
        #[arg(long)]
        again: bool,
    },
    /// Set up, then run every test, the format check, clippy and tidy; with a filter, only the tests that match.
    Test {
        /// Part of a test's name.
        filter: Option<String>,
        /// Fail when a test was skipped for want of data although PENTIMENTO_DATA is there.
        #[arg(long)]
        require_data: bool,
    },
    /// Check the invariants of ARCHITECTURE.md that a program can check.
    Tidy,
    /// Set up, build, train a small model, sample from it, probe it and write its report.
    Quickstart,
    /// Write the skeleton of a method's page, its recipe and its line in the registry.
    New {
        /// The family and the slug, as in `geometry/my-slug`.
        name: String,
        /// The paper's number, as in 2401.01234.
        arxiv: String,
    },
    /// Make the README's table of claims anew from evidence/.
    Readme,
    /// Make the table of planned papers anew from the headings of their cards.
    Planned {
        /// Folder of cards, one `FAMILY.md` each.
        cards: PathBuf,
    },
    /// Compare with PyTorch and its libraries; benches/README.md says how.
    #[command(subcommand)]
    Bench(Bench),
    /// Make the Python environment of the fixtures and run their scripts again.
    Fixtures {
        /// Folders under fixtures/; all of them if none is named.
        topics: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Ours and the fastest configuration of the peer in turn, row by row; writes benches/runs/<date>-<machine>.
    Peers(bench::peers::Ask),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let outcome = Repo::find().and_then(|repo| match command {
        Command::Setup { from, again } => {
            setup::run(&repo, &setup::Ask { from, again }).map(|ground| eprintln!("{ground}")).map(|()| true)
        }
        Command::Test { filter, require_data } => test::run(&repo, filter.as_deref(), require_data),
        Command::Tidy => tidy::run(&repo.root),
        Command::Quickstart => quickstart::run(&repo),
        Command::New { name, arxiv } => page::run(&repo.root, &name, &arxiv).and_then(|()| {
            // Lists of pages break their lines as the formatter does.
            Ok(repo.cargo().args(["fmt", "--package", "pentimento-methods"]).status()?.success())
        }),
        Command::Readme => tidy::renew_readme(&repo.root).map(|()| true),
        Command::Planned { cards } => planned::run(&repo.root, &cards).map(|()| true),
        Command::Bench(Bench::Peers(ask)) => bench::peers::run(&repo, &ask),
        Command::Fixtures { topics } => fixtures::run(&repo, &topics).map(|()| true),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}

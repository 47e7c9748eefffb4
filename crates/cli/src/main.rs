//! `pentimento`: train, draw, read and measure diffusion models and latent spaces.
//!
//! Output for people goes to stderr, results to stdout. Exit codes: 0 done, 1 the result is negative, 2 wrong usage or
//! input, 3 the machine or its disk, 4 interrupted and resumable.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

mod data;
mod doctor;
mod encode;
mod exit;
mod extract;
mod import;
mod judge;
mod measure;
mod methods;
mod probe;
mod report;
mod representation;
mod reproduce;
mod sample;
mod show;
mod terminal;
mod train;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "pentimento", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Threads of libtorch's kernels; all cores if absent.
    #[arg(long, global = true, value_parser = clap::value_parser!(i32).range(1..=1024))]
    threads: Option<i32>,
}

#[derive(Subcommand)]
enum Command {
    /// Train a recipe, or continue where it stopped.
    Train(train::Args),
    /// Make a run of published weights, to draw from and to read.
    Import(import::Args),
    /// Draw pictures from a run.
    Sample(sample::Args),
    /// Read features of data from a run into a table.
    Encode(encode::Args),
    /// Fit linear or nearest-neighbour probes to features.
    Probe(probe::Args),
    /// Ask an independent judge, trained on data the model never saw, what the model draws.
    Judge(judge::Args),
    /// Compare two sets of pictures or features, or score one.
    Measure(measure::Args),
    /// Write one HTML page about a run, or a static site of all evidence.
    Report(report::Args),
    /// List the catalogue: every method with the verdict on its claim.
    Methods(methods::Args),
    /// Print a method's page, its recipe and its evidence.
    Show(show::Args),
    /// Train method and baseline over seeds and write the measured verdict.
    Reproduce(reproduce::Args),
    /// List, check or fetch data sets.
    Data(data::Args),
    /// Print what was found on this machine: libtorch, processor, CUDA, data, disk.
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(exit::USAGE_CODE) } else { ExitCode::SUCCESS };
        }
    };
    pentimento_io::system::keep_freed_memory();
    if let Some(n) = cli.threads {
        tch::set_num_threads(n);
    }
    let work = move || match cli.command {
        Command::Train(a) => train::run(&a),
        Command::Import(a) => import::run(&a),
        Command::Sample(a) => sample::run(&a),
        Command::Encode(a) => encode::run(&a),
        Command::Probe(a) => probe::run(&a),
        Command::Judge(a) => judge::run(&a),
        Command::Measure(a) => measure::run(&a),
        Command::Report(a) => report::run(&a),
        Command::Methods(a) => methods::run(&a),
        Command::Show(a) => show::run(&a),
        Command::Reproduce(a) => reproduce::run(&a),
        Command::Data(a) => data::run(&a),
        Command::Doctor(a) => doctor::run(&a),
    };
    exit::guard(work)
}

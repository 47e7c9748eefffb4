//! Our side of `cargo xtask bench`: `serve` answers the line protocol of `benches/README.md`, `limits` measures what the
//! machine can do at most, `layers` what the fused layers gain, `scaling` how cost grows with work.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks")]

mod ask;
mod autoencoder;
mod contrast;
mod layers;
mod limits;
mod loading;
mod networks;
mod program;
mod reading;
mod sampling;
mod scaling;
mod serve;

use clap::{Parser, Subcommand};
use limits::Limits;
use std::process::ExitCode;
use tch::Device;

/// Our side of the comparison with PyTorch; `cargo xtask bench` drives it.
#[derive(Parser)]
#[command(name = "pentimento-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the line protocol on stdin and stdout.
    Serve,
    /// Print the machine's rate of matrix products and its memory bandwidth as a table.
    Limits {
        /// Largest edge of the matrices.
        #[arg(long, default_value_t = 4096)]
        edge: i64,
        /// Of so many threads alone, as one line of JSON.
        #[arg(long)]
        threads: Option<i32>,
        /// Of that device, with `--threads`.
        #[arg(long, default_value = "cpu", requires = "threads")]
        device: String,
    },
    /// Print how the cost of a picture grows with tokens, width, batch and threads as tables.
    Scaling,
    /// Print what each fused layer gains over libtorch's own operations as a table.
    Layers,
}

fn main() -> ExitCode {
    // As the program does: what is compared is what users run.
    pentimento_io::system::keep_freed_memory();
    let outcome = match Cli::parse().command {
        Command::Serve => serve::run(std::io::stdin().lock(), std::io::stdout()),
        Command::Limits { edge, threads: None, .. } => {
            print!("{}", limits::table(&[1, 2].map(|threads| Limits::reached(Device::Cpu, threads, edge))));
            Ok(())
        }
        Command::Limits { edge, threads: Some(threads), device } => {
            pentimento_train::parse_device(&device).map_err(Into::into).map(|device| {
                println!("{}", serde_json::json!(Limits::reached(device, threads, edge)));
            })
        }
        Command::Scaling => scaling::tables().map(|text| print!("{text}")),
        Command::Layers => {
            print!("{}", layers::table());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}

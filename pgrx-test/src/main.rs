//! Command line of the harness; everything it does is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pgrx_test::{bench, demo, install, matrix, provision, run_dir};

#[derive(Parser)]
#[command(
    name = "pgrx-test",
    about = "Provisions Postgres servers and tests pg_tenancy on them"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show on one Postgres what the extension does
    Demo(demo::Args),
    /// Run every test tier on every version of Postgres
    Matrix(matrix::Args),
    /// Measure the extension against the alternatives
    Bench(bench::Args),
    /// Provision servers and print their pg_config
    Provision {
        #[arg(required = true)]
        versions: Vec<u32>,
    },
    /// Stop what `--keep` has left running and delete it
    Stop {
        /// The folder of the run
        run: PathBuf,
    },
    /// Run cargo on the extension with the compiler and the headers that it needs, as in
    /// `cargo 17 clippy -p pg_tenancy --no-default-features --features pg17`
    Cargo {
        version: u32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if all went well; an error is for what could not even be tried.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Demo(args) => demo::run(&args)?,
        Command::Matrix(args) => return matrix::run(&args),
        Command::Bench(args) => bench::run(&args)?,
        Command::Provision { versions } => {
            for version in versions {
                println!("{}", provision::server(version)?.pg_config().display());
            }
        }
        Command::Stop { run } => run_dir::stop_kept(&run)?,
        Command::Cargo { version, arguments } => {
            let mut cargo = install::extension_cargo(&provision::server(version)?)?;
            return Ok(cargo.args(arguments).status()?.success());
        }
    }
    Ok(true)
}

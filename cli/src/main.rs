//! The program `kubectl-weft`: arguments, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use weft_cli::run;
use weft_cli::settings::Cli;

fn main() -> ExitCode {
    match run::run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(run::COULD_NOT_TELL)
        }
    }
}

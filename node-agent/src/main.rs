//! `weft-agent`: parses arguments, starts telemetry, and does what the first argument says.

use std::process::ExitCode;

use clap::Parser;
use weft_agent::cli::{self, Cli, Command};
use weft_agent::{administration, run, supervisor, telemetry};

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(settings) => {
            telemetry::start(&settings)?;
            Ok(supervisor::run(&settings)?)
        }
        Command::Work(arguments) => {
            telemetry::start(&arguments.settings)?;
            Ok(run::run(&arguments)?)
        }
        Command::Show(arguments) => Ok(administration::show(&arguments)?),
        Command::Cleanup(settings) => {
            telemetry::start(&settings)?;
            Ok(administration::cleanup(&settings)?)
        }
        Command::Unlock(settings) => Ok(administration::unlock(&settings)?),
        Command::Completion { shell } => {
            cli::completion(shell);
            Ok(())
        }
        Command::Version => {
            println!("weft-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

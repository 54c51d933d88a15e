//! The program `weft-operator`: arguments, telemetry, run.

use clap::{CommandFactory, Parser};
use weft_daemon::telemetry;
use weft_operator::run;
use weft_operator::settings::{Cli, Command};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(settings) => {
            telemetry::start(&settings.log, settings.log_format, "weft_operator")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run::run(*settings))?;
            // Requests that still hang do not keep the process.
            runtime.shutdown_background();
        }
        Command::Completion { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "weft-operator", &mut std::io::stdout());
        }
        Command::Version => println!("weft-operator {}", env!("CARGO_PKG_VERSION")),
    }
    Ok(())
}

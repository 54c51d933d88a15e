//! `weft-dns`: parses arguments, starts telemetry, and does what the first argument says.

use clap::{CommandFactory, Parser};
use weft_daemon::telemetry;
use weft_dns::settings::{Cli, Command};
use weft_dns::{query, run};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(settings) => {
            telemetry::start(&settings.log, settings.log_format, "weft_dns")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run::run(*settings))?;
            // Requests that still hang do not keep the process.
            runtime.shutdown_background();
        }
        Command::Query(settings) => query::run(&settings)?,
        Command::Completion { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "weft-dns",
                &mut std::io::stdout(),
            );
        }
        Command::Version => println!("weft-dns {}", env!("CARGO_PKG_VERSION")),
    }
    Ok(())
}

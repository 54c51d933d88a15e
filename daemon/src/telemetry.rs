//! The log: lines for people, or JSON.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `target` is the module that an error names in its example.
///
/// # Errors
/// A filter that cannot be read.
pub fn start(filter: &str, format: LogFormat, target: &str) -> anyhow::Result<()> {
    // What a request met with is said once, by whoever sent it.
    let quiet = format!("kube_client=off,kube_runtime=off,tower=off,{filter}");
    let filter = EnvFilter::try_new(quiet).map_err(|error| {
        anyhow::anyhow!(
            "--log {filter:?} cannot be read ({error}): write info, debug, or {target}=debug"
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

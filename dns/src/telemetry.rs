//! The log: lines for people, or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// Starts logging to standard error.
///
/// # Errors
/// A filter that cannot be read.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    // What a request met with is said once, by whoever sent it.
    let quiet = format!("kube_client=off,kube_runtime=off,tower=off,{filter}");
    let filter = EnvFilter::try_new(quiet).map_err(|error| {
        anyhow::anyhow!(
            "--log {filter:?} cannot be read ({error}): write info, debug, or weft_dns=debug"
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

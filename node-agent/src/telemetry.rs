//! Starts the log: one line per event on standard error, as text or JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::cli::{LogFormat, Settings};

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log {0:?} is not a filter: write error, warn, info, debug, trace or directives such as weft_agent=debug"
)]
pub struct Error(String, #[source] ParseError);

/// Starts the log of this process.
///
/// # Errors
/// Where the filter cannot be read.
pub fn start(settings: &Settings) -> Result<(), Error> {
    let filter = EnvFilter::try_new(quieted(&settings.log))
        .map_err(|error| Error(settings.log.clone(), error))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // Only a second start in one process can fail here, and then the first one stands.
    let _ = match settings.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// A bare level is meant for our own modules; libraries report to us, and we log what matters of it.
fn quieted(filter: &str) -> String {
    match filter {
        "error" | "warn" | "info" => {
            format!("{filter},kube=off,kube_client=off,kube_runtime=off,tower=off")
        }
        _ => filter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_taken_as_they_are() {
        assert_eq!(
            quieted("weft_agent=debug,kube=trace"),
            "weft_agent=debug,kube=trace"
        );
        assert!(quieted("info").starts_with("info,kube"));
        assert!(EnvFilter::try_new(quieted("info")).is_ok());
        assert!(EnvFilter::try_new("weft_agent=loud").is_err());
    }
}

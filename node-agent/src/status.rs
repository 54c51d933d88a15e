//! What the agent writes to the API: its NodeNetwork's status, its NodeReport, the PodAddresses of
//! its pods, and Events on its Node object.
//!
//! Each writer owns its state, keeps only the latest of what is wanted, and waits out an API server
//! that does not answer; none of them ever makes the engine wait. Every object carries the node's
//! name where the cluster's admission policy looks for it.

pub mod events;
pub mod node_network;
pub mod node_report;
pub mod pod_address;

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::errors;
use crate::metrics::Metrics;

/// Owner of the fields that we apply.
pub const FIELD_MANAGER: &str = "weft-agent";
/// For one request, its answer included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A write that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("the API server did not take it")]
    Refused(#[source] Box<kube::Error>),
    /// No answer in time.
    #[error("no answer in {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
}

impl Error {
    /// The HTTP status code, where there was an answer.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout => None,
        }
    }
}

/// Bounds and counts one request.
async fn request<T>(
    metrics: &Metrics,
    kind: &'static str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    let result = match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(result) => result.map_err(|error| Error::Refused(Box::new(error))),
        Err(_) => Err(Error::Timeout),
    };
    metrics.wrote(kind, &result);
    result
}

/// The attempts of one writer, logged when they begin to fail and when they work again.
#[derive(Debug)]
struct Attempts {
    kind: &'static str,
    backoff: Backoff,
}

impl Attempts {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            backoff: backoff(),
        }
    }

    fn succeeded(&mut self) {
        if self.backoff.failures() > 0 {
            tracing::info!(kind = self.kind, "writes to the API work again");
        }
        self.backoff.reset();
    }

    /// How long to wait before the next attempt.
    fn failed(&mut self, error: &Error) -> Duration {
        if self.backoff.failures() == 0 {
            tracing::warn!(
                kind = self.kind,
                error = errors::chain(error),
                "write to the API failed; trying again"
            );
        }
        self.backoff.pause()
    }
}

/// Between the attempts of one write.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(250), Duration::from_secs(10))
}

/// What every writer needs.
#[derive(Clone)]
pub struct Writer {
    /// The API server.
    pub client: kube::Client,
    /// This node's name.
    pub node: String,
    /// Where writes are counted.
    pub metrics: Arc<Metrics>,
}

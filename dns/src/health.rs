//! What the probes are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hyper::StatusCode;
use weft_daemon::probes::Probed;

use crate::metrics::Metrics;

/// Whether questions should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Readiness {
    /// Nothing is known yet.
    Waiting = 0,
    /// What the last process wrote down is served.
    FromDisk = 1,
    /// All is known.
    Ready = 2,
    /// The server is about to end.
    Stopping = 3,
}

/// What the probes ask for.
#[derive(Debug, Default)]
pub struct Health {
    readiness: AtomicU8,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

impl Health {
    /// Shows the numbers.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            readiness: AtomicU8::new(Readiness::Waiting as u8),
            metrics,
        }
    }

    /// Whether questions should be sent here: a word for the agent of the node.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.readiness.load(Ordering::Relaxed) {
            0 => "waiting",
            1 | 2 => "serving",
            _ => "stopping",
        }
    }

    /// Says how it stands; what is stopping is never ready again.
    pub fn set(&self, readiness: Readiness) {
        self.readiness.fetch_max(readiness as u8, Ordering::Relaxed);
    }
}

impl Probed for Health {
    fn readyz(&self) -> (StatusCode, &'static str) {
        match self.readiness.load(Ordering::Relaxed) {
            0 => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not all of the cluster has been listed yet: can the API server be reached?\n",
            ),
            1 => (
                StatusCode::OK,
                "ok, from the snapshot on disk: the API server has not been reached yet\n",
            ),
            2 => (StatusCode::OK, "ok\n"),
            _ => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the server is about to end\n",
            ),
        }
    }
    fn metrics(&self) -> String {
        self.metrics.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopping_is_not_ready_again() {
        let health = Health::default();
        assert_eq!(health.readyz().0, StatusCode::SERVICE_UNAVAILABLE);
        for (readiness, status) in [
            (Readiness::FromDisk, StatusCode::OK),
            (Readiness::Ready, StatusCode::OK),
            (Readiness::Stopping, StatusCode::SERVICE_UNAVAILABLE),
            (Readiness::Ready, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            health.set(readiness);
            assert_eq!(health.readyz().0, status, "{readiness:?}");
        }
    }
}

//! What the probes are told.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;
use weft_daemon::probes::Probed;

use crate::metrics::Metrics;

/// What the probes ask for.
#[derive(Debug, Default)]
pub struct Health {
    /// Every store has synced.
    pub synced: AtomicBool,
    /// The numbers.
    pub metrics: Metrics,
}

impl Probed for Health {
    fn readyz(&self) -> (StatusCode, &'static str) {
        if self.synced.load(Ordering::Relaxed) {
            return (StatusCode::OK, "ok\n");
        }
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the watches have not all synced yet: can the API server be reached, and are the CustomResourceDefinitions there?\n",
        )
    }

    fn metrics(&self) -> String {
        self.metrics.encode()
    }
}

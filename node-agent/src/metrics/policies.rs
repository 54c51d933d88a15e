//! Metrics of network policies.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::engine::Enforced;

/// All metrics of network policies.
#[derive(Debug)]
pub struct PolicyMetrics {
    seconds: Histogram,
    compared: Counter,
    failures: Counter,
}

impl Default for PolicyMetrics {
    fn default() -> Self {
        Self {
            seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            compared: Counter::default(),
            failures: Counter::default(),
        }
    }
}

impl PolicyMetrics {
    /// Policies are in the kernel.
    pub fn enforced(&self, enforced: &Enforced) {
        self.seconds.observe(enforced.took.as_secs_f64());
        if enforced.whole {
            self.compared.inc();
        }
    }

    /// The kernel refused elements.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// Registers all; `registry` is the agent's own.
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            seconds,
            compared,
            failures,
        } = self;
        registry.register(
            "policy_enforce_seconds",
            "From a change that policies depend on until the packet filter agrees",
            seconds.clone(),
        );
        registry.register(
            "policy_comparisons",
            "Times that all elements of policies were compared with the kernel",
            compared.clone(),
        );
        registry.register(
            "policy_failures",
            "Updates of policies that the kernel refused",
            failures.clone(),
        );
    }
}

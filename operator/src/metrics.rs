//! What /metrics says, in the OpenMetrics text form.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::compile::ApiPlan;
use crate::snapshot::Snapshot;

/// Labels of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    /// What was written.
    pub change: &'static str,
    /// What became of it: done, overtaken, failed.
    pub result: &'static str,
}

/// Labels of what belongs to a pool and a family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoolLabels {
    /// The IPPool's name.
    pub pool: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
}

/// All metrics of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Whether this process leads.
    pub leading: Gauge,
    /// Compilations.
    pub compiles: Counter,
    /// Writes by kind and result.
    pub writes: Family<WriteLabels, Counter>,
    blocks: Family<PoolLabels, Gauge>,
    allocated: Family<PoolLabels, Gauge<f64, AtomicU64>>,
    free: Family<PoolLabels, Gauge<f64, AtomicU64>>,
    nodes: Gauge,
    findings: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weft_operator");
        let leading = Gauge::default();
        registry.register(
            "leading",
            "1 while this process holds the Lease",
            leading.clone(),
        );
        let compiles = Counter::default();
        registry.register(
            "compiles",
            "Compilations of the whole plan",
            compiles.clone(),
        );
        let writes = Family::default();
        registry.register(
            "writes",
            "Writes to the API by kind and result",
            writes.clone(),
        );
        let blocks = Family::default();
        registry.register("pool_blocks", "Blocks granted", blocks.clone());
        let allocated = Family::default();
        registry.register(
            "pool_addresses_allocated",
            "Addresses that pods have",
            allocated.clone(),
        );
        let free = Family::default();
        registry.register(
            "pool_addresses_free",
            "Addresses that pods could get",
            free.clone(),
        );
        let nodes = Gauge::default();
        registry.register("nodes", "Nodes known", nodes.clone());
        let findings = Gauge::default();
        registry.register(
            "findings",
            "Exhausted pools and overlapping blocks",
            findings.clone(),
        );
        Self {
            registry,
            leading,
            compiles,
            writes,
            blocks,
            allocated,
            free,
            nodes,
            findings,
        }
    }
}

impl Metrics {
    /// Takes the numbers of a compilation.
    pub fn record(&self, snapshot: &Snapshot, plan: &ApiPlan) {
        self.compiles.inc();
        self.nodes.set(count(snapshot.nodes.len()));
        self.findings.set(count(plan.blocks.findings.len()));
        self.blocks.clear();
        self.allocated.clear();
        self.free.clear();
        for (name, pool) in &plan.pools {
            for family in &pool.status.families {
                let labels = PoolLabels {
                    pool: name.clone(),
                    family: family.family.clone(),
                };
                self.blocks
                    .get_or_create(&labels)
                    .set(family.blocks.parse().unwrap_or(0));
                self.allocated
                    .get_or_create(&labels)
                    .set(number(&family.allocated));
                self.free.get_or_create(&labels).set(number(&family.free));
            }
        }
    }

    /// The text of /metrics.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

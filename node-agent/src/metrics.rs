//! What Prometheus reads from `/metrics`: every name begins with `weft_agent_`, but those of services,
//! which have kube-proxy's names.

mod policies;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::engine::Counters;
use crate::services::metrics::ServiceMetrics;
pub use policies::PolicyMetrics;

/// Bounds of the buckets for CNI requests, in seconds: the goals of the product (10 ms, 40 ms,
/// 500 ms) are bounds.
const CNI_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

/// Label `kind`: a kind of the API.
#[derive(EncodeLabelSet, Clone, Debug, Hash, PartialEq, Eq)]
pub struct Kind {
    /// Such as `NodeNetwork`.
    pub kind: &'static str,
}

/// Labels of a write to the API.
#[derive(EncodeLabelSet, Clone, Debug, Hash, PartialEq, Eq)]
pub struct Write {
    /// Such as `PodAddress`.
    pub kind: &'static str,
    /// `ok` or `error`.
    pub result: &'static str,
}

/// Label `verb`: a CNI verb.
#[derive(EncodeLabelSet, Clone, Debug, Hash, PartialEq, Eq)]
pub struct Verb {
    /// Such as `ADD`.
    pub verb: &'static str,
}

/// Labels of a failed CNI request.
#[derive(EncodeLabelSet, Clone, Debug, Hash, PartialEq, Eq)]
pub struct Failure {
    /// Such as `ADD`.
    pub verb: &'static str,
    /// CNI error code.
    pub code: u32,
}

/// Label `verb` of a request to the API server.
#[derive(EncodeLabelSet, Clone, Debug, Hash, PartialEq, Eq)]
pub struct ApiVerb {
    /// `watch`, `list`, `get`, `create`, `patch` or `delete`.
    pub verb: &'static str,
}

/// All metrics of the worker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Watches that ended with an error and were started again.
    pub watch_restarts: Family<Kind, Counter>,
    /// Requests that list a collection.
    pub api_lists: Counter,
    /// Requests to the API server.
    pub api_requests: Family<ApiVerb, Counter>,
    /// Writes to the API, after their last attempt.
    pub writes: Family<Write, Counter>,
    /// From the first byte of a CNI request to its answer.
    pub cni_seconds: Family<Verb, Histogram, fn() -> Histogram>,
    /// CNI requests answered with an error.
    pub cni_failures: Family<Failure, Counter>,
    /// 1 once the first full plan is in the kernel.
    pub ready: Gauge,
    /// 1 while the DNS server of this node answers.
    pub dns_serving: Gauge,
    /// What this node does in place of kube-proxy.
    pub services: Arc<ServiceMetrics>,
    /// Network policies.
    pub policies: PolicyMetrics,
    engine: EngineMetrics,
    memory: Gauge,
}

/// The engine counts by itself; its totals are copied here.
#[derive(Debug, Default)]
struct EngineMetrics {
    adds: Counter,
    add_failures: Counter,
    dels: Counter,
    reclaimed: Counter,
    repairs: Counter,
    nft_commits: Counter,
    kernel_dumps: Counter,
    attachments: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            watch_restarts: Family::default(),
            api_lists: Counter::default(),
            api_requests: Family::default(),
            writes: Family::default(),
            cni_seconds: Family::new_with_constructor(|| Histogram::new(CNI_SECONDS)),
            cni_failures: Family::default(),
            ready: Gauge::default(),
            dns_serving: Gauge::default(),
            services: Arc::default(),
            policies: PolicyMetrics::default(),
            engine: EngineMetrics::default(),
            memory: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        if let Some(bytes) = anonymous_memory() {
            self.memory.set(bytes);
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Takes the engine's totals.
    pub fn count_engine(&self, counters: &Counters) {
        let Counters {
            adds,
            add_failures,
            dels,
            reclaimed,
            repairs,
            nft_commits,
            kernel_dumps,
            attachments,
        } = *counters;
        let set = |counter: &Counter<u64, AtomicU64>, total| {
            counter.inner().store(total, Ordering::Relaxed)
        };
        set(&self.engine.adds, adds);
        set(&self.engine.add_failures, add_failures);
        set(&self.engine.dels, dels);
        set(&self.engine.reclaimed, reclaimed);
        set(&self.engine.repairs, repairs);
        set(&self.engine.nft_commits, nft_commits);
        set(&self.engine.kernel_dumps, kernel_dumps);
        self.engine
            .attachments
            .set(i64::try_from(attachments).unwrap_or(i64::MAX));
    }

    /// Counts a write to the API.
    pub fn wrote<T, E>(&self, kind: &'static str, result: &Result<T, E>) {
        let result = if result.is_ok() { "ok" } else { "error" };
        self.writes.get_or_create(&Write { kind, result }).inc();
    }

    fn register(&mut self) {
        let Self {
            registry,
            watch_restarts,
            api_lists,
            api_requests,
            writes,
            cni_seconds,
            cni_failures,
            ready,
            dns_serving,
            services,
            policies,
            engine,
            memory,
        } = self;
        services.register(registry);
        let registry = registry.sub_registry_with_prefix("weft_agent");
        policies.register(registry);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the agent", version);
        registry.register(
            "watch_restarts",
            "Watches started again after an error",
            watch_restarts.clone(),
        );
        registry.register(
            "api_lists",
            "Requests that list a collection",
            api_lists.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server",
            api_requests.clone(),
        );
        registry.register(
            "writes",
            "Writes to the API by kind and result",
            writes.clone(),
        );
        registry.register(
            "cni_request_duration_seconds",
            "Time to answer a CNI request",
            cni_seconds.clone(),
        );
        registry.register(
            "cni_failures",
            "CNI requests answered with an error",
            cni_failures.clone(),
        );
        registry.register(
            "ready",
            "1 once the first full plan is in the kernel",
            ready.clone(),
        );
        registry.register(
            "dns_serving",
            "1 while the DNS server of this node answers",
            dns_serving.clone(),
        );
        registry.register(
            "memory_anonymous_bytes",
            "Anonymous resident memory (RssAnon)",
            memory.clone(),
        );
        let EngineMetrics {
            adds,
            add_failures,
            dels,
            reclaimed,
            repairs,
            nft_commits,
            kernel_dumps,
            attachments,
        } = engine;
        let counters = [
            ("adds", "ADD requests answered with success", adds),
            (
                "add_failures",
                "ADD requests answered with an error",
                add_failures,
            ),
            ("dels", "DEL requests answered", dels),
            (
                "reclaimed",
                "Addresses taken back because their sandbox was gone",
                reclaimed,
            ),
            ("repairs", "Changes by others that were put right", repairs),
            (
                "nft_commits",
                "nf_tables transactions committed",
                nft_commits,
            ),
            ("kernel_dumps", "Dumps asked of the kernel", kernel_dumps),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("attachments", "Attachments at present", attachments.clone());
    }
}

/// `RssAnon` of this process, in bytes (proc_pid_status(5)).
fn anonymous_memory() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: i64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention() {
        let metrics = Metrics::default();
        metrics
            .watch_restarts
            .get_or_create(&Kind {
                kind: "NodeNetwork",
            })
            .inc();
        metrics
            .cni_seconds
            .get_or_create(&Verb { verb: "ADD" })
            .observe(0.004);
        metrics
            .cni_failures
            .get_or_create(&Failure {
                verb: "ADD",
                code: 11,
            })
            .inc();
        metrics.wrote("PodAddress", &Ok::<(), ()>(()));
        metrics.count_engine(&Counters {
            adds: 7,
            attachments: 3,
            ..Counters::default()
        });
        let text = metrics.render();
        for line in [
            "weft_agent_watch_restarts_total{kind=\"NodeNetwork\"} 1",
            "weft_agent_api_lists_total 0",
            "weft_agent_cni_request_duration_seconds_bucket{le=\"0.005\",verb=\"ADD\"} 1",
            "weft_agent_cni_failures_total{verb=\"ADD\",code=\"11\"} 1",
            "weft_agent_writes_total{kind=\"PodAddress\",result=\"ok\"} 1",
            "weft_agent_adds_total 7",
            "weft_agent_attachments 3",
            "weft_agent_ready 0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        let others = text.lines().filter(|line| {
            !line.starts_with('#')
                && !line.starts_with("weft_agent_")
                && !line.starts_with("kubeproxy_")
        });
        assert_eq!(others.count(), 0);
    }

    #[test]
    fn this_process_has_anonymous_memory() {
        assert!(anonymous_memory().is_some_and(|bytes| bytes > 4096));
    }
}

//! Metrics of services, by the names that kube-proxy has for the same, so that dashboards, alerts and
//! the scalability tests of Kubernetes read them as they are.
//!
//! <https://github.com/kubernetes/community/blob/master/sig-scalability/slos/network_programming_latency.md>

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use weft_core::services::NoLocalEndpoints;
use weft_core::view::Family as Ip;

use crate::engine::{Balanced, Reconciled};

/// Label `ip_family`.
#[derive(EncodeLabelSet, Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct IpFamily {
    /// `IPv4` or `IPv6`.
    pub ip_family: &'static str,
}

/// Label `code`.
#[derive(EncodeLabelSet, Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Code {
    /// Status of HTTP.
    pub code: u16,
}

/// Labels of services without an endpoint where they need one.
#[derive(EncodeLabelSet, Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Policy {
    /// `internal` or `external`.
    pub traffic_policy: &'static str,
    /// `IPv4` or `IPv6`.
    pub ip_family: &'static str,
}

type Seconds = Family<IpFamily, Histogram, fn() -> Histogram>;
type Moment = Family<IpFamily, Gauge<f64, AtomicU64>>;

/// All metrics of services.
#[derive(Debug)]
pub struct ServiceMetrics {
    sync: Seconds,
    sync_full: Seconds,
    sync_partial: Seconds,
    programming: Seconds,
    last: Moment,
    last_queued: Moment,
    endpoint_changes: Counter,
    endpoint_changes_pending: Gauge,
    service_changes: Counter,
    service_changes_pending: Gauge,
    failures: Family<IpFamily, Counter>,
    no_local_endpoints: Family<Policy, Gauge>,
    healthz: Family<Code, Counter>,
    livez: Family<Code, Counter>,
    reconciled: Seconds,
    deleted: Family<IpFamily, Counter>,
}

impl Default for ServiceMetrics {
    fn default() -> Self {
        let rules = || Family::new_with_constructor(rule_seconds as fn() -> Histogram);
        Self {
            sync: rules(),
            sync_full: rules(),
            sync_partial: rules(),
            programming: Family::new_with_constructor(programming_seconds),
            last: Family::default(),
            last_queued: Family::default(),
            endpoint_changes: Counter::default(),
            endpoint_changes_pending: Gauge::default(),
            service_changes: Counter::default(),
            service_changes_pending: Gauge::default(),
            failures: Family::default(),
            no_local_endpoints: Family::default(),
            healthz: Family::default(),
            livez: Family::default(),
            reconciled: rules(),
            deleted: Family::default(),
        }
    }
}

impl ServiceMetrics {
    /// A Service was sent to the engine.
    pub fn queued_service(&self) {
        self.service_changes.inc();
        self.service_changes_pending.inc();
        self.queued();
    }

    /// An EndpointSlice was sent to the engine.
    pub fn queued_endpoints(&self) {
        self.endpoint_changes.inc();
        self.endpoint_changes_pending.inc();
        self.queued();
    }

    fn queued(&self) {
        let now = unix_seconds();
        for family in Ip::ALL {
            self.last_queued.get_or_create(&label(family)).set(now);
        }
    }

    /// The rules are up to date.
    pub fn balanced(&self, balanced: &Balanced) {
        let Balanced {
            heard: _,
            services: service_changes,
            slices: endpoint_changes,
            took,
            whole,
            programmed,
            no_local_endpoints,
            effort: _,
        } = balanced;
        let NoLocalEndpoints { internal, external } = no_local_endpoints;
        let pending = |total: &Counter, done: u64| {
            i64::try_from(total.get().saturating_sub(done)).unwrap_or(i64::MAX)
        };
        self.service_changes_pending
            .set(pending(&self.service_changes, *service_changes));
        self.endpoint_changes_pending
            .set(pending(&self.endpoint_changes, *endpoint_changes));
        let now = unix_seconds();
        for (at, family) in Ip::ALL.into_iter().enumerate() {
            let label = label(family);
            let scope = if *whole {
                &self.sync_full
            } else {
                &self.sync_partial
            };
            for histogram in [&self.sync, scope] {
                histogram.get_or_create(&label).observe(took.as_secs_f64());
            }
            self.last.get_or_create(&label).set(now);
            for (traffic_policy, counts) in [("internal", internal), ("external", external)] {
                let policy = Policy {
                    traffic_policy,
                    ip_family: label.ip_family,
                };
                let count = i64::try_from(counts[at]).unwrap_or(i64::MAX);
                self.no_local_endpoints.get_or_create(&policy).set(count);
            }
        }
        for (family, took) in programmed {
            self.programming
                .get_or_create(&label(*family))
                .observe(took.as_secs_f64());
        }
    }

    /// The kernel refused rules.
    pub fn failed(&self) {
        for family in Ip::ALL {
            self.failures.get_or_create(&label(family)).inc();
        }
    }

    /// Connections were looked through.
    pub fn reconciled(&self, reconciled: &Reconciled) {
        let Reconciled {
            family,
            took,
            deleted,
        } = *reconciled;
        let label = label(family);
        self.reconciled
            .get_or_create(&label)
            .observe(took.as_secs_f64());
        self.deleted.get_or_create(&label).inc_by(deleted);
    }

    /// `/healthz` was answered.
    pub fn asked_health(&self, code: u16) {
        self.healthz.get_or_create(&Code { code }).inc();
    }

    /// `/livez` was answered.
    pub fn asked_life(&self, code: u16) {
        self.livez.get_or_create(&Code { code }).inc();
    }

    /// Makes them known under `kubeproxy_`.
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            sync,
            sync_full,
            sync_partial,
            programming,
            last,
            last_queued,
            endpoint_changes,
            endpoint_changes_pending,
            service_changes,
            service_changes_pending,
            failures,
            no_local_endpoints,
            healthz,
            livez,
            reconciled,
            deleted,
        } = self;
        let registry = registry.sub_registry_with_prefix("kubeproxy");
        for (name, help, metric) in [
            (
                "sync_proxy_rules_duration_seconds",
                "Time of a round to bring the rules of Services up to date",
                sync,
            ),
            (
                "sync_full_proxy_rules_duration_seconds",
                "The same of rounds that compared everything with the kernel",
                sync_full,
            ),
            (
                "sync_partial_proxy_rules_duration_seconds",
                "The same of rounds that committed what had changed",
                sync_partial,
            ),
            (
                "network_programming_duration_seconds",
                "From the change of a Service or pod until its rules were in the kernel",
                programming,
            ),
            (
                "conntrack_reconciler_sync_duration_seconds",
                "Time to look for connections to endpoints that are gone",
                reconciled,
            ),
        ] {
            registry.register(name, help, metric.clone());
        }
        for (name, help, metric) in [
            (
                "sync_proxy_rules_last_timestamp_seconds",
                "When the rules were last brought up to date",
                last,
            ),
            (
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "When a change last arrived",
                last_queued,
            ),
        ] {
            registry.register(name, help, metric.clone());
        }
        for (name, help, metric) in [
            (
                "sync_proxy_rules_endpoint_changes",
                "Changes of EndpointSlices that arrived",
                endpoint_changes,
            ),
            (
                "sync_proxy_rules_service_changes",
                "Changes of Services that arrived",
                service_changes,
            ),
        ] {
            registry.register(name, help, metric.clone());
        }
        for (name, help, metric) in [
            (
                "sync_proxy_rules_endpoint_changes_pending",
                "Changes of EndpointSlices that are not in the kernel yet",
                endpoint_changes_pending,
            ),
            (
                "sync_proxy_rules_service_changes_pending",
                "Changes of Services that are not in the kernel yet",
                service_changes_pending,
            ),
        ] {
            registry.register(name, help, metric.clone());
        }
        registry.register(
            "sync_proxy_rules_nftables_sync_failures",
            "Rounds in which the kernel refused rules",
            failures.clone(),
        );
        registry.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Services with a traffic policy Local, and endpoints, but none on this node",
            no_local_endpoints.clone(),
        );
        for (name, help, metric) in [
            ("proxy_healthz", "Answers of /healthz", healthz),
            ("proxy_livez", "Answers of /livez", livez),
        ] {
            registry.register(name, help, metric.clone());
        }
        registry.register(
            "conntrack_reconciler_deleted_entries",
            "Connections to endpoints that are gone, deleted",
            deleted.clone(),
        );
    }

    /// What a registry with nothing else has.
    #[cfg(test)]
    pub fn text(&self) -> String {
        let mut registry = Registry::default();
        self.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

fn label(family: Ip) -> IpFamily {
    let ip_family = match family {
        Ip::V4 => "IPv4",
        Ip::V6 => "IPv6",
    };
    IpFamily { ip_family }
}

/// kube-proxy's bounds: 1 ms, 2 ms, 4 ms … 16.384 s; and one below, which ours mostly are.
fn rule_seconds() -> Histogram {
    Histogram::new(
        [0.0005]
            .into_iter()
            .chain(exponential_buckets(0.001, 2.0, 15)),
    )
}

/// kube-proxy's bounds: a quarter, a half, each second to one minute, each five to two, each 30 to five;
/// and some below, which ours mostly are.
fn programming_seconds() -> Histogram {
    let seconds = (1..60).map(f64::from);
    let fives = (60..120).step_by(5).map(f64::from);
    let thirties = (120..=300).step_by(30).map(f64::from);
    let small = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5];
    Histogram::new(
        small
            .into_iter()
            .chain(seconds)
            .chain(fives)
            .chain(thirties),
    )
}

fn unix_seconds() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Effort;

    fn has(text: &str, line: &str) {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }

    #[test]
    fn names_and_labels_are_those_of_kube_proxy() {
        let metrics = ServiceMetrics::default();
        metrics.queued_service();
        metrics.queued_endpoints();
        metrics.queued_endpoints();
        has(
            &metrics.text(),
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2",
        );
        metrics.balanced(&Balanced {
            heard: 2,
            services: 1,
            slices: 1,
            took: Duration::from_micros(1500),
            whole: false,
            programmed: vec![(Ip::V6, Duration::from_millis(700))],
            no_local_endpoints: NoLocalEndpoints {
                internal: [1, 2],
                external: [3, 4],
            },
            effort: Effort::default(),
        });
        metrics.failed();
        metrics.reconciled(&Reconciled {
            family: Ip::V4,
            took: Duration::from_millis(3),
            deleted: 5,
        });
        let text = metrics.text();
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.001\",ip_family=\"IPv4\"} 0",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.002\",ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"0.5\",ip_family=\"IPv6\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"1.0\",ip_family=\"IPv6\"} 1",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 1",
            "kubeproxy_sync_proxy_rules_service_changes_total 1",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\",ip_family=\"IPv6\"} 4",
            "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 5",
        ] {
            has(&text, line);
        }
        assert!(text.contains("kubeproxy_sync_proxy_rules_last_timestamp_seconds{"));
        assert!(text.contains("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{"));
    }
}

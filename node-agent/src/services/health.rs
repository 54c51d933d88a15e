//! Answers `/healthz` and `/livez` as kube-proxy does on its port 10256, because load balancers of
//! clouds ask there: is this node's service proxy up to date, and is the node to stay?
//!
//! Unhealthy is who has had a change for a minute and not brought it into the kernel. `/healthz` also
//! fails where the node is about to go (KEP-3836); `/livez` does not.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use super::metrics::ServiceMetrics;
use crate::http;

/// A change may wait so long: kube-proxy's is twice its `syncPeriod` of 30 s.
const LATE: Duration = Duration::from_secs(60);

/// Families have the same rules, made at the same time; each is told of all the same, as kube-proxy's are.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// What is known of the health of this node's service proxy.
#[derive(Debug, Default)]
pub struct ProxyHealth {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Changes that were sent to the engine.
    queued: u64,
    /// When the oldest that is not in the kernel was sent.
    since: Option<Instant>,
    /// When the rules were last brought up to date.
    updated: Option<Timestamp>,
    /// The node is known, and is to stay.
    eligible: bool,
}

/// The answer.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Answer {
    last_updated: Time,
    current_time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    status: std::collections::BTreeMap<&'static str, Family>,
}

/// The answer of one family.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Family {
    last_updated: Time,
    healthy: bool,
}

/// A moment, or none: as Go writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time(Option<Timestamp>);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(at) => serializer.collect_str(&at),
            None => serializer.serialize_str("0001-01-01T00:00:00Z"),
        }
    }
}

impl ProxyHealth {
    /// A change of a Service or an EndpointSlice was sent to the engine.
    pub fn queued(&self, now: Instant) {
        self.change(|state| {
            state.queued += 1;
            state.since.get_or_insert(now);
        });
    }

    /// The kernel has the rules of everything that the engine had heard of, `heard` changes in all.
    pub fn updated(&self, heard: u64, now: Instant) {
        self.change(|state| {
            state.updated = Some(Timestamp::now());
            state.since = (heard < state.queued).then_some(now);
        });
    }

    /// Whether the node is to stay: not deleted, not about to be (taint `ToBeDeletedByClusterAutoscaler`).
    pub fn set_eligible(&self, eligible: bool) {
        self.change(|state| state.eligible = eligible);
    }

    /// No change has waited too long.
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.with(|state| state.is_healthy(now))
    }

    /// Status and text; `eligibility` is part of them where the node's future matters.
    fn answer(&self, eligibility: bool, now: Instant) -> (StatusCode, String) {
        let (answer, fine) = self.with(|state| state.answer(eligibility, now));
        let status = if fine {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (status, serde_json::to_string(&answer).unwrap_or_default())
    }

    fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn is_healthy(&self, now: Instant) -> bool {
        self.since
            .is_none_or(|since| now.saturating_duration_since(since) < LATE)
    }

    fn answer(&self, eligibility: bool, now: Instant) -> (Answer, bool) {
        let healthy = self.is_healthy(now);
        let fine = healthy && (self.eligible || !eligibility);
        let current = Timestamp::now();
        let families = FAMILIES.into_iter().filter(|_| self.updated.is_some());
        let answer = Answer {
            // To who is well, the moment of the last change says nothing: now is as good.
            last_updated: Time(if fine { Some(current) } else { self.updated }),
            current_time: Time(Some(current)),
            node_eligible: eligibility.then_some(self.eligible),
            healthy,
            status: families
                .map(|family| {
                    let last_updated = Time(self.updated);
                    (
                        family,
                        Family {
                            last_updated,
                            healthy,
                        },
                    )
                })
                .collect(),
        };
        (answer, fine)
    }
}

/// Serves for ever.
pub async fn run(
    address: IpAddr,
    port: u16,
    health: Arc<ProxyHealth>,
    metrics: Arc<ServiceMetrics>,
) {
    let listener = http::listen(address, port).await;
    let answer = |request: &Request<Incoming>| respond(request.uri().path(), &health, &metrics);
    http::serve(listener, answer).await;
}

fn respond(path: &str, health: &ProxyHealth, metrics: &ServiceMetrics) -> Response<Full<Bytes>> {
    let now = Instant::now();
    let (status, text) = match path {
        "/healthz" => {
            let (status, text) = health.answer(true, now);
            metrics.asked_health(status.as_u16());
            (status, text)
        }
        "/livez" => {
            let (status, text) = health.answer(false, now);
            metrics.asked_life(status.as_u16());
            (status, text)
        }
        _ => {
            let mut response = Response::new(Full::from("there are /healthz and /livez\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    json(status, text, [])
}

/// An answer in JSON.
pub(super) fn json<const N: usize>(
    status: StatusCode,
    text: String,
    more: [(HeaderName, HeaderValue); N],
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.extend(more);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(health: &ProxyHealth, eligibility: bool, now: Instant) -> u16 {
        health.answer(eligibility, now).0.as_u16()
    }

    #[test]
    fn a_node_that_is_to_go_fails_healthz_and_not_livez() {
        let (health, now) = (ProxyHealth::default(), Instant::now());
        // Nothing is known of the node yet.
        assert_eq!(
            (status(&health, true, now), status(&health, false, now)),
            (503, 200)
        );
        health.set_eligible(true);
        assert_eq!(
            (status(&health, true, now), status(&health, false, now)),
            (200, 200)
        );
        health.set_eligible(false);
        assert_eq!(
            (status(&health, true, now), status(&health, false, now)),
            (503, 200)
        );
        assert!(health.is_healthy(now));
    }

    #[test]
    fn a_change_that_waits_for_a_minute_is_unhealthy_until_it_is_in_the_kernel() {
        let (health, start) = (ProxyHealth::default(), Instant::now());
        health.set_eligible(true);
        health.queued(start);
        // A later change makes the first one no younger.
        health.queued(start + Duration::from_secs(59));
        assert!(health.is_healthy(start + Duration::from_secs(59)));
        let late = start + LATE;
        assert!(!health.is_healthy(late));
        assert_eq!(
            (status(&health, true, late), status(&health, false, late)),
            (503, 503)
        );
        // One of two: the other waits since it may have been sent.
        health.updated(1, late);
        assert!(health.is_healthy(late));
        assert!(!health.is_healthy(late + LATE));
        health.updated(2, late);
        assert!(health.is_healthy(late + LATE));
    }

    #[test]
    fn the_answer_is_what_readers_of_kube_proxy_expect() {
        let (health, now) = (ProxyHealth::default(), Instant::now());
        let (_, text) = health.answer(true, now);
        assert!(
            text.starts_with("{\"lastUpdated\":\"0001-01-01T00:00:00Z\",\"currentTime\":\"")
                && text.ends_with("\"nodeEligible\":false,\"healthy\":true}"),
            "{text}"
        );
        health.set_eligible(true);
        health.updated(0, now);
        let (_, text) = health.answer(true, now);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["lastUpdated"], answer["currentTime"]);
        assert_eq!(answer["nodeEligible"], true);
        assert_eq!(answer["status"]["IPv6"]["healthy"], true);
        let (_, text) = health.answer(false, now);
        assert!(!text.contains("nodeEligible"), "{text}");
    }

    #[test]
    fn answers_are_counted_by_code_and_other_paths_are_not_there() {
        let (health, metrics) = (ProxyHealth::default(), ServiceMetrics::default());
        let response = respond("/healthz", &health, &metrics);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(respond("/livez", &health, &metrics).status(), 200);
        assert_eq!(respond("/", &health, &metrics).status(), 404);
        let text = metrics.text();
        for line in [
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
            "kubeproxy_proxy_livez_total{code=\"200\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}

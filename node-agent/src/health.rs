//! Answers `/healthz`, `/livez`, `/readyz` and `/metrics` over HTTP.
//!
//! One loop does all asynchronous work of this process, so that an answer at all proves that it
//! turns; `/livez` fails where the engine's thread, the other one, does not. Ready means: the first full plan is in the kernel and the CNI configuration in place.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::http;
use crate::metrics::Metrics;
use crate::watch::Synced;

/// What Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The engine gives a sign of life every ten seconds. One round with thousands of requests takes a
/// few seconds, on a node that is starved some times that.
const ENGINE_SILENCE: Duration = Duration::from_secs(60);

/// What is known of this worker's health.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The engine's last sign of life; at first the start of this process.
    alive: Instant,
    ready: bool,
    planned: bool,
    obstacle: Option<String>,
    synced: Synced,
}

impl Default for State {
    fn default() -> Self {
        Self {
            alive: Instant::now(),
            ready: false,
            planned: false,
            obstacle: None,
            synced: Synced::default(),
        }
    }
}

impl Health {
    /// The engine's thread has ended a round.
    pub fn set_alive(&self, now: Instant) {
        self.change(|state| state.alive = now);
    }

    /// `None` when both threads turn, else which one does not.
    fn hung(&self, now: Instant) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = now.saturating_duration_since(state.alive);
        (silence > ENGINE_SILENCE).then(|| {
            let seconds = silence.as_secs();
            format!("the engine's thread has not ended a round for {seconds} s\n")
        })
    }

    /// The agent can serve.
    pub fn set_ready(&self) {
        self.change(|state| state.ready = true);
    }

    /// The first full plan is in the kernel.
    pub fn set_planned(&self) {
        self.change(|state| state.planned = true);
    }

    /// What keeps the agent from being ready.
    pub fn set_obstacle(&self, obstacle: Option<String>) {
        self.change(|state| state.obstacle = obstacle);
    }

    /// Which stores have synced.
    pub fn set_synced(&self, synced: Synced) {
        self.change(|state| state.synced = synced);
    }

    /// Whether the agent can serve.
    pub fn is_ready(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ready
    }

    /// `None` when ready, else what is missing.
    fn missing(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ready {
            return None;
        }
        let mut lines = Vec::new();
        let missing = state.synced.missing();
        if !missing.is_empty() {
            lines.push(format!(
                "waiting for the API server to send {}",
                missing.join(", ")
            ));
        }
        if !state.planned {
            lines.push("the first plan is not in the kernel yet".to_owned());
        }
        lines.extend(state.obstacle.clone());
        lines.push("not ready\n".to_owned());
        Some(lines.join("\n"))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Serves for ever.
pub async fn run(address: IpAddr, port: u16, health: Arc<Health>, metrics: Arc<Metrics>) {
    let listener = http::listen(address, port).await;
    let answer = |request: &Request<Incoming>| {
        respond(request.method(), request.uri().path(), &health, &metrics)
    };
    http::serve(listener, answer).await;
}

fn respond(
    method: &Method,
    path: &str,
    health: &Health,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    let (status, text, content_type) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "ok\n".to_owned(), None),
        (&Method::GET | &Method::HEAD, "/livez") => match health.hung(Instant::now()) {
            None => (StatusCode::OK, "ok\n".to_owned(), None),
            Some(hung) => (StatusCode::SERVICE_UNAVAILABLE, hung, None),
        },
        (&Method::GET | &Method::HEAD, "/readyz") => match health.missing() {
            None => (StatusCode::OK, "ok\n".to_owned(), None),
            Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing, None),
        },
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, metrics.render(), Some(OPENMETRICS))
        }
        _ => (
            StatusCode::NOT_FOUND,
            "there are /healthz, /livez, /readyz and /metrics\n".to_owned(),
            None,
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content_type = content_type.unwrap_or("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(path: &str, health: &Health) -> (u16, String) {
        let response = respond(&Method::GET, path, health, &Metrics::default());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing() {
        let health = Health::default();
        assert_eq!(get("/livez", &health).await.0, 200);
        let (status, text) = get("/readyz", &health).await;
        assert_eq!(status, 503);
        assert!(
            text.contains("NodeNetworks, IPBlocks, this Node object")
                && text.contains("first plan"),
            "{text}"
        );
        health.set_synced(Synced {
            nodes: true,
            networks: true,
            blocks: true,
            own_node: true,
        });
        health.set_planned();
        health.set_obstacle(Some("failed to write /x".to_owned()));
        assert_eq!(
            get("/readyz", &health).await,
            (503, "failed to write /x\nnot ready\n".to_owned())
        );
        health.set_ready();
        assert_eq!(get("/readyz", &health).await, (200, "ok\n".to_owned()));
    }

    #[tokio::test]
    async fn a_hung_engine_fails_livez_alone() {
        let health = Health::default();
        let long_ago = Instant::now() - ENGINE_SILENCE - Duration::from_secs(5);
        health.set_alive(long_ago);
        let (status, text) = get("/livez", &health).await;
        assert_eq!(status, 503);
        assert!(text.contains("engine's thread"), "{text}");
        assert_eq!(get("/healthz", &health).await.0, 200);
        health.set_alive(Instant::now());
        assert_eq!(get("/livez", &health).await.0, 200);
    }

    #[tokio::test]
    async fn metrics_are_there_and_anything_else_is_not() {
        let health = Health::default();
        assert!(
            get("/metrics", &health)
                .await
                .1
                .contains("weft_agent_ready 0")
        );
        assert_eq!(get("/", &health).await.0, 404);
        assert_eq!(
            respond(&Method::POST, "/metrics", &health, &Metrics::default()).status(),
            404
        );
    }
}

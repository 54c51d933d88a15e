//! Answers `/healthz`, `/livez`, `/readyz` and `/metrics` over HTTP.
//!
//! One loop does all asynchronous work of this process, so that an answer at all proves that it
//! turns; `/livez` fails where the engine's thread, the other one, does not. Ready means: the first full plan is in the kernel and the CNI configuration in place.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;
use crate::watch::Synced;

/// Connections at one time.
const AT_ONCE: usize = 32;
/// A connection may last so long; probes make a new one each time.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
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
    let listener = listen(address, port).await;
    let mut present = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if present.len() < AT_ONCE => match accepted {
                Ok((stream, _)) => present.push(serve(stream, &health, &metrics)),
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
            Some(()) = present.next() => {}
        }
    }
}

/// At an upgrade the worker before this one may still have the port for a moment.
async fn listen(address: IpAddr, port: u16) -> TcpListener {
    let mut told = false;
    loop {
        let mut result = bind(SocketAddr::new(address, port));
        if result.is_err() && address.is_ipv6() && address.is_unspecified() {
            // Without IPv6 in the kernel, every address is every IPv4 address.
            result = bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
        }
        match result {
            Ok(listener) => return listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, %address, port, "failed to listen for health checks; trying again");
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// `::` takes IPv4 too, whatever the sysctl bindv6only says.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

async fn serve(stream: TcpStream, health: &Health, metrics: &Metrics) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), health, metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(8192)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks off is no news.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
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
    use std::net::Ipv6Addr;

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
    async fn every_address_is_of_both_families() {
        let listener = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok()
        );
        assert!(
            TcpStream::connect((Ipv6Addr::LOCALHOST, port))
                .await
                .is_ok()
        );
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

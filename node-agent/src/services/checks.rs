//! Answers load balancers on the health check node port of each Service with external traffic policy
//! Local: are there endpoints of it on this node, and how many?
//!
//! One port is open for each such Service, on every address of the node. A port that somebody else
//! has is tried again, and told once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use weft_core::services::Health;

use super::health::{ProxyHealth, json};
use crate::http;
use crate::status::events::Notice;

/// How often a port is tried that somebody else has.
const AGAIN: Duration = Duration::from_millis(500);
/// At an upgrade the worker before this one has the port for a moment: no news.
const NEWS: Duration = Duration::from_secs(10);

/// What each port answers.
pub type Checks = BTreeMap<u16, Health>;

/// How many local endpoints stand behind the answer.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// Serves for ever: the ports that there are at any time.
pub async fn run(
    mut checks: watch::Receiver<Checks>,
    health: Arc<ProxyHealth>,
    notices: UnboundedSender<Notice>,
) {
    let mut open: BTreeMap<u16, oneshot::Sender<()>> = BTreeMap::new();
    let changes = checks.clone();
    let mut serving = FuturesUnordered::new();
    loop {
        let wanted: Vec<u16> = checks.borrow_and_update().keys().copied().collect();
        open.retain(|port, _| wanted.contains(port));
        for port in wanted {
            open.entry(port).or_insert_with(|| {
                let (closing, closed) = oneshot::channel();
                serving.push(until(closed, port, &changes, &health, &notices));
                closing
            });
        }
        tokio::select! {
            changed = checks.changed() => if changed.is_err() {
                // The engine is gone, and the process goes with it.
                return;
            },
            Some(()) = serving.next() => {}
        }
    }
}

/// Serves a port until its Service is gone.
async fn until(
    closed: oneshot::Receiver<()>,
    port: u16,
    checks: &watch::Receiver<Checks>,
    health: &ProxyHealth,
    notices: &UnboundedSender<Notice>,
) {
    let serve = async {
        let listener = listen(port, checks, notices).await;
        http::serve(listener, |_| {
            respond(
                checks.borrow().get(&port),
                health.is_healthy(Instant::now()),
            )
        })
        .await;
    };
    tokio::select! {
        _ = closed => {}
        () = serve => {}
    }
}

async fn listen(
    port: u16,
    checks: &watch::Receiver<Checks>,
    notices: &UnboundedSender<Notice>,
) -> TcpListener {
    let since = Instant::now();
    let mut told = false;
    loop {
        let error = match http::bind(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) {
            Ok(listener) => return listener,
            Err(error) => error,
        };
        if since.elapsed() > NEWS && !std::mem::replace(&mut told, true) {
            let service = checks
                .borrow()
                .get(&port)
                .map(|check| check.service.to_string());
            drop(notices.send(Notice {
                warning: true,
                reason: "ServiceHealthCheckFailed",
                message: format!(
                    "failed to listen on health check node port {port} of Service {}: {error}; trying again",
                    service.unwrap_or_default()
                ),
            }));
        }
        sleep(AGAIN).await;
    }
}

fn respond(check: Option<&Health>, healthy: bool) -> Response<Full<Bytes>> {
    let Some(Health { service, ready }) = check else {
        // Closed a moment later.
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    };
    let (namespace, name) = service.parts();
    let answer = Answer {
        service: Name { namespace, name },
        local_endpoints: *ready,
        service_proxy_healthy: healthy,
    };
    let status = if *ready > 0 && healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
    json(status, text, [(WEIGHT, HeaderValue::from(*ready))])
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;
    use weft_core::services::ServiceName;

    use super::*;

    fn check(ready: usize) -> Health {
        Health {
            service: ServiceName::new("shop", "front"),
            ready,
        }
    }

    async fn answer(ready: usize, healthy: bool) -> (u16, String, String) {
        let response = respond(Some(&check(ready)), healthy);
        let status = response.status().as_u16();
        let weight = response.headers()[&WEIGHT].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, weight, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn local_endpoints_and_a_healthy_proxy_answer_200() {
        let (status, weight, text) = answer(2, true).await;
        assert_eq!((status, weight.as_str()), (200, "2"));
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "service": { "namespace": "shop", "name": "front" },
            "localEndpoints": 2,
            "serviceProxyHealthy": true
        });
        assert_eq!(answer, expected);
    }

    #[tokio::test]
    async fn no_local_endpoint_or_a_proxy_that_is_behind_answers_503() {
        let (status, weight, _) = answer(0, true).await;
        assert_eq!((status, weight.as_str()), (503, "0"));
        let (status, weight, text) = answer(3, false).await;
        assert_eq!((status, weight.as_str()), (503, "3"));
        assert!(text.contains("\"serviceProxyHealthy\": false"), "{text}");
    }

    /// The first line of the answer; none where nobody listens.
    async fn ask(port: u16) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        text.lines().next().map(str::to_owned)
    }

    /// Asks until the answer is the expected one, for ten seconds at most.
    async fn ask_until(port: u16, expected: Option<&str>) {
        let mut last = None;
        for _ in 0..100 {
            last = ask(port).await;
            if last.as_deref() == expected {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("port {port} answered {last:?}, not {expected:?}");
    }

    #[tokio::test]
    async fn ports_open_and_close_with_their_services() {
        let free = http::bind(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap();
        let port = free.local_addr().unwrap().port();
        let (sender, receiver) = watch::channel(Checks::from([(port, check(1))]));
        let (notices, _told) = mpsc::unbounded_channel();
        let health = Arc::<ProxyHealth>::default();
        let serve = run(receiver, health, notices);
        let script = async {
            // Somebody else has the port at first.
            sleep(Duration::from_millis(50)).await;
            drop(free);
            ask_until(port, Some("HTTP/1.1 200 OK")).await;
            sender.send_replace(Checks::from([(port, check(0))]));
            ask_until(port, Some("HTTP/1.1 503 Service Unavailable")).await;
            sender.send_replace(Checks::new());
            ask_until(port, None).await;
        };
        tokio::select! {
            () = serve => panic!("ended"),
            () = script => {}
        }
    }
}

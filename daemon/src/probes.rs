//! /healthz, /readyz and /metrics over HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::error::Error;

/// What the probes ask for.
pub trait Probed: Send + Sync + 'static {
    /// Whether this process should be used, and a sentence about it.
    fn readyz(&self) -> (StatusCode, &'static str);
    /// The numbers, in the text form of Prometheus.
    fn metrics(&self) -> String;
}

/// Opens the port on every address, IPv6 and IPv4.
///
/// # Errors
/// The port is taken.
pub async fn listen(port: u16) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { port, source };
    match TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(failed(error)),
        // A kernel without IPv6.
        Err(_) => TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))
            .await
            .map_err(failed),
    }
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, health: Arc<impl Probed>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let health = Arc::clone(&health);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &*health);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A probe that hangs up is no event.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(request: &Request<Incoming>, health: &impl Probed) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let (status, text) = health.readyz();
            (status, text.to_owned())
        }
        "/metrics" => (StatusCode::OK, health.metrics()),
        _ => (
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

//! /healthz, /readyz and /metrics over HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::error::Error;
use crate::metrics::Metrics;

/// Whether questions should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Readiness {
    /// Nothing is known yet.
    Waiting = 0,
    /// What the last process wrote down is served.
    FromDisk = 1,
    /// All is known.
    Ready = 2,
    /// The server is about to end.
    Stopping = 3,
}

/// What the probes ask for.
#[derive(Debug, Default)]
pub struct Health {
    readiness: AtomicU8,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

impl Health {
    /// Shows the numbers.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            readiness: AtomicU8::new(Readiness::Waiting as u8),
            metrics,
        }
    }

    /// Says how it stands; what is stopping is never ready again.
    pub fn set(&self, readiness: Readiness) {
        self.readiness.fetch_max(readiness as u8, Ordering::Relaxed);
    }

    fn readyz(&self) -> (StatusCode, &'static str) {
        match self.readiness.load(Ordering::Relaxed) {
            0 => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not all of the cluster has been listed yet: can the API server be reached?\n",
            ),
            1 => (
                StatusCode::OK,
                "ok, from the snapshot on disk: the API server has not been reached yet\n",
            ),
            2 => (StatusCode::OK, "ok\n"),
            _ => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the server is about to end\n",
            ),
        }
    }
}

/// Opens the port on every address, IPv6 and IPv4.
///
/// # Errors
/// The port is taken.
pub async fn listen(port: u16) -> Result<TcpListener, Error> {
    let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(any).await {
        Ok(listener) => Ok(listener),
        Err(source) if source.kind() == std::io::ErrorKind::AddrInUse => Err(Error::Listen {
            address: any,
            source,
        }),
        // A kernel without IPv6.
        Err(_) => {
            let address = SocketAddr::from(([0, 0, 0, 0], port));
            TcpListener::bind(address)
                .await
                .map_err(|source| Error::Listen { address, source })
        }
    }
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, health: Arc<Health>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let health = Arc::clone(&health);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &health);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A probe that hangs up is no event.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(request: &Request<Incoming>, health: &Health) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let (status, text) = health.readyz();
            (status, text.to_owned())
        }
        "/metrics" => (StatusCode::OK, health.metrics.encode()),
        _ => (
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopping_is_not_ready_again() {
        let health = Health::default();
        assert_eq!(health.readyz().0, StatusCode::SERVICE_UNAVAILABLE);
        for (readiness, status) in [
            (Readiness::FromDisk, StatusCode::OK),
            (Readiness::Ready, StatusCode::OK),
            (Readiness::Stopping, StatusCode::SERVICE_UNAVAILABLE),
            (Readiness::Ready, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            health.set(readiness);
            assert_eq!(health.readyz().0, status, "{readiness:?}");
        }
    }
}

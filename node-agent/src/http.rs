//! Serves short answers over HTTP/1: a listener and a function from a request to its response.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Connections at one time, of one listener.
const AT_ONCE: usize = 32;
/// A connection may last so long; probes make a new one each time.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Listens on an address, as soon as it can: at an upgrade the worker before this one may still have
/// the port for a moment.
pub async fn listen(address: IpAddr, port: u16) -> TcpListener {
    let mut told = false;
    loop {
        match bind(address, port) {
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

/// Listens on an address.
///
/// # Errors
/// When somebody else has the port.
pub fn bind(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let bound = bind_exactly(SocketAddr::new(address, port));
    if bound.is_err() && address.is_ipv6() && address.is_unspecified() {
        // Without IPv6 in the kernel, every address is every IPv4 address.
        return bind_exactly(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).or(bound);
    }
    bound
}

/// `::` takes IPv4 too, whatever the sysctl bindv6only says.
fn bind_exactly(address: SocketAddr) -> io::Result<TcpListener> {
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

/// Serves for ever.
pub async fn serve(
    listener: TcpListener,
    answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
) {
    let mut present = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if present.len() < AT_ONCE => match accepted {
                Ok((stream, _)) => present.push(connection(stream, &answer)),
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
            Some(()) = present.next() => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    answer: &impl Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request);
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

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[tokio::test]
    async fn every_address_is_of_both_families() {
        let listener = bind(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap();
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
}

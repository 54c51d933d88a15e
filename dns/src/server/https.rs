//! DNS over HTTPS (RFC 8484): a request with a message in, a response with a message out.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hickory_proto::op::Message;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::Served;
use crate::message::Transport;
use crate::metrics::Counters;

/// Where questions are asked.
const PATH: &str = "/dns-query";
/// The type of messages.
const MEDIA_TYPE: &str = "application/dns-message";
/// Longest message that is taken.
const LARGEST: usize = 65_535;
/// Questions of one stream that are answered at once.
const IN_FLIGHT: u32 = 32;
/// How long a client may take to send a request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream may be open, silent or not: clients open another one.
const LIFE: Duration = Duration::from_secs(300);

/// Answers the requests of one client until it ends.
pub async fn converse(
    served: Arc<Served>,
    counters: Arc<Counters>,
    encrypted: TlsStream<TcpStream>,
    client: SocketAddr,
) {
    let client = client.ip().to_canonical();
    let service = service_fn(move |request| {
        let (served, counters) = (Arc::clone(&served), Arc::clone(&counters));
        async move { Ok::<_, Infallible>(respond(&served, &counters, request, client).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(IN_FLIGHT)
        .keep_alive_interval(PATIENCE * 2)
        .keep_alive_timeout(PATIENCE);
    // A client that hangs up is no event.
    let _ = timeout(
        LIFE,
        builder.serve_connection(TokioIo::new(encrypted), service),
    )
    .await;
}

async fn respond(
    served: &Served,
    counters: &Counters,
    request: Request<Incoming>,
    client: IpAddr,
) -> Response<Full<Bytes>> {
    let packet = match question(request).await {
        Ok(packet) => packet,
        Err(status) => return refusal(status),
    };
    let answer = served
        .answer(counters, &packet, client, Transport::Stream)
        .await;
    let Some(answer) = answer else {
        return refusal(StatusCode::BAD_REQUEST);
    };
    let age = HeaderValue::try_from(format!("max-age={}", freshness(&answer)));
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.extend(age.ok().map(|age| (CACHE_CONTROL, age)));
    response
}

/// The message in a request.
async fn question(request: Request<Incoming>) -> Result<Vec<u8>, StatusCode> {
    if request.uri().path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    match *request.method() {
        Method::GET => {
            let query = request.uri().query().unwrap_or_default();
            let value = query.split('&').find_map(|pair| pair.strip_prefix("dns="));
            let value = value.ok_or(StatusCode::BAD_REQUEST)?;
            URL_SAFE_NO_PAD
                .decode(value.trim_end_matches('='))
                .map_err(|_| StatusCode::BAD_REQUEST)
        }
        Method::POST => {
            let kind = request.headers().get(CONTENT_TYPE);
            if kind.is_none_or(|kind| kind.as_bytes() != MEDIA_TYPE.as_bytes()) {
                return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            }
            let body = Limited::new(request.into_body(), LARGEST).collect();
            let body = timeout(PATIENCE, body)
                .await
                .map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
            let body = body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
            Ok(body.to_bytes().into())
        }
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
}

/// Seconds that a response may be kept: the smallest time to live of the answer (RFC 8484, 5.1).
fn freshness(answer: &[u8]) -> u32 {
    let Ok(message) = Message::from_vec(answer) else {
        return 0;
    };
    let records = message.answers.iter().chain(&message.authorities);
    records.map(|record| record.ttl).min().unwrap_or(0)
}

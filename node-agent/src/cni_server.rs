//! Serves `weft-cni`: each connection is one request, perhaps with a descriptor, and one answer.
//!
//! The listening socket belongs to the supervisor, so that requests queue while no worker runs. A
//! connection that closes without an answer makes the plugin ask again, which is what a worker does
//! that stops: its successor gives the answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use weft_cni::wire::{MAX_MESSAGE, Request, Response};

use crate::descriptors;
use crate::engine::Input;
use crate::errors;
use crate::metrics::{Failure, Metrics, Verb};

/// Requests served at one time; more wait in the socket's queue.
const AT_ONCE: usize = 256;
/// For a request to arrive, and for an answer to be taken.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);
/// Read in one piece.
const PIECE: usize = 16 * 1024;
/// CNI error code: not decodable (specification 1.1, section 5).
const DECODING: u32 = 6;
/// CNI error code: try again later.
const TRY_AGAIN: u32 = 11;

/// The CNI socket of this node.
pub struct Server {
    /// Where `weft-cni` connects.
    pub listener: UnixListener,
    /// The engine.
    pub inputs: Sender<Input>,
    /// There if the agent has been ready since the node booted.
    pub ready_file: PathBuf,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
}

/// A request that cannot be served.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("a process of user {0} connected; only root may")]
    NotRoot(u32),
    #[error("failed to receive the request")]
    Receive(#[from] io::Error),
    #[error("the request did not arrive within {} s", TRANSFER_TIMEOUT.as_secs())]
    Slow,
    #[error("the request is {0} bytes long, more than {MAX_MESSAGE}")]
    TooLong(usize),
    #[error("failed to understand the request")]
    Json(#[from] serde_json::Error),
    #[error("failed to send the answer")]
    Answer(#[source] io::Error),
}

impl Server {
    /// Serves for ever.
    pub async fn run(self) {
        let mut present = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if present.len() < AT_ONCE => match accepted {
                    Ok((stream, _)) => present.push(self.connection(stream)),
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept on the CNI socket");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(()) = present.next() => {}
            }
        }
    }

    async fn connection(&self, mut stream: UnixStream) {
        if let Err(error) = self.exchange(&mut stream).await {
            tracing::warn!(error = errors::chain(&error), "CNI request not served");
            let refusal = match &error {
                Error::TooLong(_) | Error::Json(_) => {
                    failed(DECODING, "request not understood", &error)
                }
                _ => return,
            };
            let _ = answer(&mut stream, &refusal).await;
        }
    }

    async fn exchange(&self, stream: &mut UnixStream) -> Result<(), Error> {
        let uid = descriptors::peer_uid(stream.as_fd())?;
        if uid != 0 {
            return Err(Error::NotRoot(uid));
        }
        let begun = Instant::now();
        let (request, descriptor) = timeout(TRANSFER_TIMEOUT, receive(stream))
            .await
            .map_err(|_| Error::Slow)??;
        let verb = verb(&request);
        let Some(response) = self.ask(request, descriptor, begun).await else {
            return Ok(());
        };
        self.metrics
            .cni_seconds
            .get_or_create(&Verb { verb })
            .observe(begun.elapsed().as_secs_f64());
        if let Response::Failed { code, msg, details } = &response {
            tracing::warn!(verb, code, msg, details, "CNI request failed");
            self.metrics
                .cni_failures
                .get_or_create(&Failure { verb, code: *code })
                .inc();
        }
        answer(stream, &response).await
    }

    /// The engine's answer. `None`: the engine stops, and its successor will answer.
    async fn ask(
        &self,
        request: Request,
        pod_netlink: Option<OwnedFd>,
        begun: Instant,
    ) -> Option<Response> {
        let status = request == Request::Status;
        let limit = limit(&request);
        let (reply, answer) = oneshot::channel();
        self.inputs
            .send(Input::Cni {
                request,
                pod_netlink,
                reply,
            })
            .ok()?;
        let response = match timeout_at(begun + limit, answer).await {
            Ok(response) => response.ok()?,
            Err(_) => Response::Failed {
                code: TRY_AGAIN,
                msg: "the agent is busy".to_owned(),
                details: format!("no answer within {} ms; try again", limit.as_millis()),
            },
        };
        // An error here takes every pod of the node out of its Services. A node that has served
        // pods since it booted will serve them again.
        if status && self.ready_file.exists() {
            return Some(Response::Done);
        }
        Some(response)
    }
}

/// The plugin waits 15 s for ADD, 2 s for STATUS and 10 s for the others; an answer that comes
/// before it gives up says more than silence.
fn limit(request: &Request) -> Duration {
    match request {
        Request::Add(_) => Duration::from_millis(14_500),
        Request::Status => Duration::from_millis(1_500),
        Request::Del(_) | Request::Check(_) | Request::Gc { .. } => Duration::from_millis(9_500),
    }
}

fn verb(request: &Request) -> &'static str {
    match request {
        Request::Add(_) => "ADD",
        Request::Del(_) => "DEL",
        Request::Check(_) => "CHECK",
        Request::Gc { .. } => "GC",
        Request::Status => "STATUS",
    }
}

async fn receive(stream: &UnixStream) -> Result<(Request, Option<OwnedFd>), Error> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut descriptor = None;
    let mut piece = vec![0; PIECE];
    loop {
        if let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > MAX_MESSAGE {
                return Err(Error::TooLong(length));
            }
            if rest.len() >= length {
                return Ok((serde_json::from_slice(&rest[..length])?, descriptor));
            }
        }
        let received = stream.async_io(Interest::READABLE, || {
            descriptors::receive(stream.as_fd(), &mut piece)
        });
        let (count, descriptors) = received.await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        bytes.extend_from_slice(&piece[..count]);
        // One is what the protocol knows; what else came is closed here.
        descriptor = descriptor.or(descriptors.into_iter().next());
    }
}

async fn answer(stream: &mut UnixStream, response: &Response) -> Result<(), Error> {
    let body = serde_json::to_vec(response)?;
    let length = u32::try_from(body.len()).map_err(|_| Error::TooLong(body.len()))?;
    let message = [&length.to_be_bytes()[..], &body].concat();
    let sent = timeout(TRANSFER_TIMEOUT, stream.write_all(&message)).await;
    sent.map_err(|_| Error::Slow)?.map_err(Error::Answer)
}

fn failed(code: u32, msg: &str, error: &Error) -> Response {
    Response::Failed {
        code,
        msg: msg.to_owned(),
        details: errors::chain(error),
    }
}

#[cfg(test)]
mod tests;

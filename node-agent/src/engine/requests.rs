//! Requests of the CNI plugin, sorted by verb, and the answers to them.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use weft_cni::error::code;
use weft_cni::wire::{Attachment, Request, Response, Valid};
use weft_core::view::AttachmentKey;

/// How long ADD waits for what has been asked for already: a block, or the first plan after a start.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// An ADD that has not been answered.
#[derive(Debug)]
pub(super) struct Add {
    pub(super) attachment: Attachment,
    pub(super) pod_netlink: Option<OwnedFd>,
    pub(super) reply: oneshot::Sender<Response>,
    /// When it is answered whatever has become of it.
    pub(super) deadline: Instant,
    /// What the answer will be then.
    pub(super) refusal: Response,
}

/// A DEL that has not been carried out: from the plugin, or from the spool.
#[derive(Debug)]
pub(super) struct Del {
    pub(super) attachment: Attachment,
    pub(super) reply: Option<oneshot::Sender<Response>>,
    pub(super) file: Option<PathBuf>,
}

/// A CHECK.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) attachment: Attachment,
    pub(super) pod_netlink: Option<OwnedFd>,
    pub(super) reply: oneshot::Sender<Response>,
}

/// One round's requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) adds: Vec<Add>,
    pub(super) dels: Vec<Del>,
    pub(super) checks: Vec<Check>,
    pub(super) gcs: Vec<(Option<Vec<Valid>>, oneshot::Sender<Response>)>,
    pub(super) statuses: Vec<oneshot::Sender<Response>>,
}

impl Requests {
    /// Puts one input to its like.
    pub(super) fn push(
        &mut self,
        request: Request,
        pod_netlink: Option<OwnedFd>,
        reply: oneshot::Sender<Response>,
        now: Instant,
    ) {
        match request {
            Request::Add(attachment) => {
                let refusal = failed(
                    code::TRY_AGAIN,
                    "the agent is not in step with the cluster yet",
                    "try again later",
                );
                self.adds.push(Add {
                    attachment,
                    pod_netlink,
                    reply,
                    deadline: now + PATIENCE,
                    refusal,
                });
            }
            Request::Del(attachment) => self.dels.push(Del {
                attachment,
                reply: Some(reply),
                file: None,
            }),
            Request::Check(attachment) => self.checks.push(Check {
                attachment,
                pod_netlink,
                reply,
            }),
            Request::Gc { valid } => self.gcs.push((valid, reply)),
            Request::Status => self.statuses.push(reply),
        }
    }
}

/// The attachment that a request speaks of.
pub(super) fn key(attachment: &Attachment) -> AttachmentKey {
    AttachmentKey {
        container_id: attachment.container_id.clone(),
        ifname: attachment.ifname.clone(),
    }
}

/// An error for the runtime.
pub(super) fn failed(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Response {
    Response::Failed {
        code,
        msg: msg.into(),
        details: details.into(),
    }
}

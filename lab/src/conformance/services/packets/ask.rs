//! One packet's worth of a flow: a connection or a datagram, and how it ended.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::Result;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockaddrStorage, bind, connect, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::super::format::{Expect, ExpectWord, Flow, Protocol};
use crate::conformance::packets::namespace::Namespace;
use crate::conformance::packets::{has_sctp, open};

/// How long silence must last to be taken for a drop.
const SILENCE: Duration = Duration::from_millis(400);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// How one try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A server answered.
    Answered {
        /// The address and port at which it was reached.
        at: SocketAddr,
        /// The source that it saw.
        seen: SocketAddr,
    },
    /// Refused with an answer.
    Refused,
    /// No answer.
    Silent,
    /// Something else.
    Failed(String),
}

/// Why a flow cannot be sent; `None` when it can.
pub fn inexpressible(flow: &Flow) -> Option<String> {
    if flow.protocol == Protocol::Sctp && !has_sctp() {
        return Some("this kernel has no SCTP".to_owned());
    }
    (flow.from == flow.to && !flow.from.is_loopback())
        .then(|| "what a host sends to its own address never leaves it".to_owned())
}

/// Tries once.
///
/// # Errors
/// When the namespace is gone.
pub fn once(sender: &Namespace, flow: &Flow) -> Result<Reached> {
    let flow = flow.clone();
    let ended = sender.run(move || tried(&flow))?;
    Ok(ended.unwrap_or_else(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Reached::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Reached::Silent,
        // A packet of the node's own that a rule drops is told to its sender.
        ErrorKind::PermissionDenied => Reached::Silent,
        _ if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => Reached::Silent,
        _ => Reached::Failed(error.to_string()),
    }))
}

fn tried(flow: &Flow) -> std::io::Result<Reached> {
    let family = if flow.to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let patience = match flow.expect {
        Expect::Word(ExpectWord::Drop) => SILENCE,
        Expect::Word(_) | Expect::Endpoints { .. } => PATIENCE,
    };
    let opened = open(family, flow.protocol.into(), SockFlag::empty())?;
    let microseconds = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX);
    setsockopt(
        &opened,
        sockopt::SendTimeout,
        &TimeVal::microseconds(microseconds),
    )?;
    bind(
        opened.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(flow.from, 0)),
    )?;
    let to = SocketAddr::new(flow.to, flow.port);
    connect(opened.as_raw_fd(), &SockaddrStorage::from(to))?;
    let mut text = String::new();
    if flow.protocol == Protocol::Udp {
        let socket = UdpSocket::from(opened);
        socket.set_read_timeout(Some(patience))?;
        socket.send(b"who is there?")?;
        let mut buffer = [0; 256];
        let read = socket.recv(&mut buffer)?;
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    } else {
        let mut stream = TcpStream::from(opened);
        stream.set_read_timeout(Some(patience))?;
        stream.read_to_string(&mut text)?;
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let parsed = match words[..] {
        [at, seen] => at.parse().ok().zip(seen.parse().ok()),
        _ => None,
    };
    Ok(match parsed {
        Some((at, seen)) => Reached::Answered { at, seen },
        None => Reached::Failed(format!("the answer was {text:?}")),
    })
}

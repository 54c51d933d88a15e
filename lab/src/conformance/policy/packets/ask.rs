//! Many connections made at the same time, and how each one ended.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockaddrStorage, bind, connect, setsockopt, sockopt,
};
use weft_core::view::Protocol;

use crate::conformance::packets::namespace::Namespace;
use crate::conformance::packets::open;

/// How long silence must last to be taken for a drop.
const SILENCE: Duration = Duration::from_millis(300);
/// How long an answer that is expected may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// A datagram that nobody answered is sent again so often.
const AGAIN: Duration = Duration::from_millis(100);

/// A connection to make.
#[derive(Debug)]
pub struct Question<'p> {
    /// Where it is made.
    pub place: &'p Namespace,
    /// Its source.
    pub from: IpAddr,
    /// Its destination.
    pub to: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its destination port.
    pub port: u16,
    /// An answer is expected.
    pub is_expected: bool,
}

/// A connection under way.
struct Asked {
    protocol: Protocol,
    socket: OwnedFd,
    to: SocketAddr,
    /// How it ended.
    outcome: Option<String>,
}

/// Makes connections, and waits until every one that is expected to be answered was, or patience ends,
/// and until silence has lasted long enough for the rest.
///
/// # Errors
/// When a socket cannot be made.
pub fn all(questions: &[&Question<'_>]) -> Result<Vec<String>> {
    let mut asked = Vec::with_capacity(questions.len());
    for question in questions {
        asked.push(begin(question)?);
    }
    let began = Instant::now();
    let mut sent = began;
    loop {
        let mut waits = questions.iter().zip(&asked);
        let waits = waits.any(|(question, asked)| question.is_expected && asked.outcome.is_none());
        let patience = if waits { PATIENCE } else { SILENCE };
        if began.elapsed() >= patience {
            break;
        }
        if sent.elapsed() >= AGAIN {
            sent = Instant::now();
            for asked in &asked {
                asked.send_again();
            }
        }
        progress(&mut asked)?;
    }
    let outcomes = asked.into_iter();
    Ok(outcomes
        .map(|asked| asked.outcome.unwrap_or_else(|| "blocked".to_owned()))
        .collect())
}

fn begin(question: &Question<'_>) -> Result<Asked> {
    let Question {
        place,
        from,
        to,
        protocol,
        port,
        is_expected: _,
    } = question;
    let (from, protocol) = (SocketAddr::new(*from, 0), *protocol);
    let to = SocketAddr::new(*to, *port);
    let (socket, begun) = place.run(move || -> std::io::Result<(OwnedFd, _)> {
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = open(family, protocol, SockFlag::SOCK_NONBLOCK)?;
        if protocol != Protocol::Sctp {
            // Sources outside are nobody's here.
            setsockopt(&socket, sockopt::IpTransparent, &true)?;
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
        let begun = connect(socket.as_raw_fd(), &SockaddrStorage::from(to));
        Ok((socket, begun))
    })??;
    let mut asked = Asked {
        protocol,
        socket,
        to,
        outcome: None,
    };
    match begun {
        Ok(()) | Err(nix::Error::EINPROGRESS) => asked.send_again(),
        Err(error) => asked.outcome = failed(&error.into()),
    }
    Ok(asked)
}

/// Waits a moment and takes what came.
fn progress(asked: &mut [Asked]) -> Result<()> {
    let open: Vec<usize> = (0..asked.len())
        .filter(|at| asked[*at].outcome.is_none())
        .collect();
    let mut polled: Vec<PollFd<'_>> = open
        .iter()
        .map(|at| PollFd::new(asked[*at].socket.as_fd(), PollFlags::POLLIN))
        .collect();
    poll(&mut polled, PollTimeout::from(20_u8))?;
    let ready: Vec<usize> = open
        .iter()
        .zip(&polled)
        .filter(|(_, polled)| polled.any().unwrap_or_default())
        .map(|(at, _)| *at)
        .collect();
    for at in ready {
        asked[at].outcome = asked[at].read()?;
    }
    Ok(())
}

impl Asked {
    /// Sends the datagram once more. What fails here is told by reading.
    fn send_again(&self) {
        if self.protocol == Protocol::Udp
            && self.outcome.is_none()
            && let Ok(socket) = self.socket.try_clone()
        {
            let _ = UdpSocket::from(socket).send(b"who is there?");
        }
    }

    fn read(&self) -> Result<Option<String>> {
        let mut buffer = [0; 256];
        let socket = self.socket.try_clone()?;
        let read = if self.protocol == Protocol::Udp {
            UdpSocket::from(socket).recv(&mut buffer)
        } else {
            TcpStream::from(socket).read(&mut buffer)
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => return Ok(failed(&error)),
        };
        let text = String::from_utf8_lossy(&buffer[..read]);
        let at = text.split_whitespace().next();
        Ok(Some(match at.and_then(|at| at.parse().ok()) {
            Some(at) if self.to == at => "allowed".to_owned(),
            _ => format!("answered by {text:?}"),
        }))
    }
}

/// How a connection ended that failed; none if it is still under way.
fn failed(error: &std::io::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => None,
        // A packet of the node's own that a rule drops is told to its sender.
        ErrorKind::PermissionDenied => Some("blocked".to_owned()),
        ErrorKind::ConnectionRefused => Some("refused".to_owned()),
        _ => Some(format!("failed ({error})")),
    }
}

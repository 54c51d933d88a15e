//! Asks the agent: one request over its unix socket, one answer within a limit.
//!
//! Where nobody listens this fails at once. An agent whose working process dies in the middle
//! closes the connection; its successor listens on the same socket and gives the same answer to
//! the same request, so the request is sent again until the limit is reached.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::wire::{MAX_MESSAGE, Request, Response};

/// Between two attempts after a broken connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens.
    #[error("no agent listens on {socket} ({source})")]
    Gone {
        /// The agent's socket.
        socket: String,
        /// What connect said.
        source: io::Error,
    },
    /// The limit was reached.
    #[error("the agent on {socket} gave no answer within {} s", limit.as_secs())]
    Late {
        /// The agent's socket.
        socket: String,
        /// The limit.
        limit: Duration,
    },
    /// It answered, but not in the words of [`crate::wire`].
    #[error("the agent on {socket} gave an answer that is not understood: {what}")]
    Foreign {
        /// The agent's socket.
        socket: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Sends a request, with a descriptor where it has one, and waits for the answer.
///
/// # Errors
/// Where nobody listens, nobody answers in time, or the answer is not understood.
pub fn ask(
    path: &Path,
    request: &Request,
    descriptor: Option<&OwnedFd>,
    limit: Duration,
) -> Result<Response, NoAnswer> {
    let name = path.display().to_string();
    let deadline = Instant::now() + limit;
    let foreign = |what: String| NoAnswer::Foreign {
        socket: name.clone(),
        what,
    };
    let message = encode(request).map_err(|error| foreign(error.to_string()))?;
    loop {
        let late = || NoAnswer::Late {
            socket: name.clone(),
            limit,
        };
        let left = deadline
            .checked_duration_since(Instant::now())
            .ok_or_else(late)?;
        let stream = match open(path, left) {
            Ok(stream) => stream,
            Err(error) if is_timeout(&error) => return Err(late()),
            Err(source) => {
                return Err(NoAnswer::Gone {
                    socket: name,
                    source,
                });
            }
        };
        match exchange(stream, &message, descriptor, deadline) {
            Ok(bytes) => {
                return serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()));
            }
            Err(error) if is_timeout(&error) => return Err(late()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(foreign(error.to_string()));
            }
            Err(_) => std::thread::sleep(PAUSE.min(left)),
        }
    }
}

/// A message of the wire: its length in four bytes, big-endian, and its JSON.
///
/// # Errors
/// Where it is longer than [`MAX_MESSAGE`].
pub fn encode<T: serde::Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|length| *length as usize <= MAX_MESSAGE);
    let length = length
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the message is too long"))?;
    Ok([&length.to_be_bytes()[..], &json].concat())
}

fn open(path: &Path, left: Duration) -> io::Result<UnixStream> {
    let descriptor = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // The timeout for sending also limits connect to a listener whose queue is full.
    setsockopt(&descriptor, sockopt::SendTimeout, &timeout(left))?;
    connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(descriptor))
}

fn exchange(
    mut stream: UnixStream,
    message: &[u8],
    descriptor: Option<&OwnedFd>,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    let numbers: Vec<_> = descriptor
        .iter()
        .map(|descriptor| descriptor.as_raw_fd())
        .collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() {
        &[][..]
    } else {
        &rights[..]
    };
    let sent = sendmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &[IoSlice::new(message)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    stream.write_all(&message[sent..])?;
    let mut length = [0; 4];
    receive(&mut stream, &mut length, deadline)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it announces {length} bytes"),
        ));
    }
    let mut bytes = vec![0; length];
    receive(&mut stream, &mut bytes, deadline)?;
    Ok(bytes)
}

/// Fills a buffer; the deadline is the whole answer's, not each read's.
fn receive(stream: &mut UnixStream, buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        setsockopt(&*stream, sockopt::ReceiveTimeout, &timeout(left))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Zero would mean "for ever".
fn timeout(left: Duration) -> TimeVal {
    TimeVal::microseconds(i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

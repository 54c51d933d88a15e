//! What two supervisors on one node say to each other at an upgrade, over a unix socket.
//!
//! The new one asks; the old one stops its worker, sends its descriptors, and lets go of them once
//! the new one has confirmed. A new one that dies before it confirms leaves the old one in charge.
//! Messages are JSON after their length as four bytes, big-endian, like those of the CNI socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::descriptors;

/// The version of these messages. Another one is answered with a refusal.
pub const PROTOCOL: u32 = 1;
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 4096;
/// How long the old supervisor may take to stop its worker before the new one gives up this attempt.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a message that has begun may take.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked of the supervisor in charge.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(tag = "ask", rename_all = "camelCase")]
pub enum Ask {
    /// Stop your worker and give me your descriptors.
    TakeOver {
        /// [`PROTOCOL`].
        protocol: u32,
    },
    /// Stop your worker and close your descriptors, so that the nft table loses its owner.
    Release {
        /// [`PROTOCOL`].
        protocol: u32,
    },
}

/// What is answered.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Answer {
    /// Done; with TakeOver come the descriptors of [`Sockets`], in the order of its fields.
    Done,
    /// Not done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What a supervisor holds for its workers and hands on. Who has it is in charge of the node.
#[derive(Debug)]
pub struct Sockets {
    /// The lock file; the lock lasts while any copy of this descriptor is open.
    pub lock: OwnedFd,
    /// Where the next supervisor asks.
    pub handover: OwnedFd,
    /// Where `weft-cni` connects.
    pub cni: OwnedFd,
    /// The nf_tables socket that owns our table.
    pub nft: OwnedFd,
}

/// Why a handover did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket broke or timed out.
    #[error("failed to talk to the other supervisor")]
    Io(#[from] io::Error),
    /// The message is not one of ours.
    #[error("failed to read the other supervisor's message")]
    Json(#[from] serde_json::Error),
    /// The other supervisor said no.
    #[error("the other supervisor refused: {0}")]
    Refused(String),
    /// The answer came without all descriptors.
    #[error("the other supervisor sent {0} descriptors, not 4")]
    Descriptors(usize),
    /// The peer does not run as root.
    #[error("a process of user {0} asked; only root may")]
    NotRoot(u32),
}

/// Asks the supervisor in charge for its descriptors. It has let go of them when this returns.
///
/// # Errors
/// Where no handover happened; the other one is then still in charge, or gone.
pub fn take_over(stream: &mut UnixStream) -> Result<Sockets, Error> {
    let descriptors = ask(stream, Ask::TakeOver { protocol: PROTOCOL })?;
    let [lock, handover, cni, nft]: [OwnedFd; 4] = descriptors
        .try_into()
        .map_err(|got: Vec<OwnedFd>| Error::Descriptors(got.len()))?;
    stream.write_all(&[1])?;
    Ok(Sockets {
        lock,
        handover,
        cni,
        nft,
    })
}

/// Asks the supervisor in charge to close its descriptors.
///
/// # Errors
/// Where it did not.
pub fn release(stream: &mut UnixStream) -> Result<(), Error> {
    ask(stream, Ask::Release { protocol: PROTOCOL }).map(drop)
}

/// Reads what a newly connected peer asks. Only root is heard.
///
/// # Errors
/// Where the peer is not root, says nothing in time, or says something else.
pub fn hear(stream: &mut UnixStream) -> Result<Ask, Error> {
    let uid = descriptors::peer_uid(stream.as_fd())?;
    if uid != 0 {
        return Err(Error::NotRoot(uid));
    }
    stream.set_read_timeout(Some(MESSAGE_TIMEOUT))?;
    stream.set_write_timeout(Some(MESSAGE_TIMEOUT))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; bounded(length)?];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Answers with the descriptors. The peer is in charge once it has sent a byte; see [`confirmed`].
///
/// # Errors
/// Where the answer could not be sent.
pub fn give(stream: &mut UnixStream, sockets: &Sockets) -> Result<(), Error> {
    let Sockets {
        lock,
        handover,
        cni,
        nft,
    } = sockets;
    let message = frame(&Answer::Done)?;
    let all = [lock.as_fd(), handover.as_fd(), cni.as_fd(), nft.as_fd()];
    let sent = descriptors::send(stream.as_fd(), &message, &all)?;
    Ok(stream.write_all(&message[sent..])?)
}

/// Whether the peer has confirmed: `None` while it has said nothing, false when it is gone.
pub fn confirmed(stream: &mut UnixStream) -> Option<bool> {
    match stream.read(&mut [0]) {
        Ok(1) => Some(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ) =>
        {
            None
        }
        _ => Some(false),
    }
}

/// Answers without descriptors.
///
/// # Errors
/// Where the answer could not be sent.
pub fn answer(stream: &mut UnixStream, answer: &Answer) -> Result<(), Error> {
    Ok(stream.write_all(&frame(answer)?)?)
}

fn ask(stream: &mut UnixStream, ask: Ask) -> Result<Vec<OwnedFd>, Error> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(&frame(&ask)?)?;
    let mut bytes = Vec::new();
    let mut descriptors = Vec::new();
    let mut buffer = [0; MAX_MESSAGE];
    loop {
        if let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = bounded(*length)?;
            if rest.len() >= length {
                return match serde_json::from_slice(&rest[..length])? {
                    Answer::Done => Ok(descriptors),
                    Answer::Refused { reason } => Err(Error::Refused(reason)),
                };
            }
        }
        let (count, more) = descriptors::receive(stream.as_fd(), &mut buffer)?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        bytes.extend_from_slice(&buffer[..count]);
        descriptors.extend(more);
    }
}

fn frame(message: &impl Serialize) -> Result<Vec<u8>, Error> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[..], &body].concat())
}

fn bounded(length: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    match length {
        0..=MAX_MESSAGE => Ok(length),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message too long",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn sockets() -> Sockets {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        Sockets {
            lock: file(),
            handover: file(),
            cni: file(),
            nft: file(),
        }
    }

    fn inode(descriptor: &OwnedFd) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::File::from(descriptor.try_clone().unwrap())
            .metadata()
            .unwrap()
            .ino()
    }

    #[test]
    fn descriptors_arrive_in_order_and_are_confirmed() {
        let (mut new, mut old) = UnixStream::pair().unwrap();
        let held = sockets();
        let wanted = [&held.lock, &held.handover, &held.cni, &held.nft].map(inode);
        let asking = thread::spawn(move || take_over(&mut new).unwrap());
        assert_eq!(
            hear(&mut old).unwrap(),
            Ask::TakeOver { protocol: PROTOCOL }
        );
        give(&mut old, &held).unwrap();
        let got = asking.join().unwrap();
        assert_eq!(
            [&got.lock, &got.handover, &got.cni, &got.nft].map(inode),
            wanted
        );
        assert_eq!(confirmed(&mut old), Some(true));
    }

    #[test]
    fn a_peer_that_dies_before_it_confirms_is_noticed() {
        let (new, mut old) = UnixStream::pair().unwrap();
        old.set_nonblocking(true).unwrap();
        give(&mut old, &sockets()).unwrap();
        assert_eq!(confirmed(&mut old), None);
        drop(new);
        assert_eq!(confirmed(&mut old), Some(false));
    }

    #[test]
    fn a_refusal_carries_its_reason() {
        let (mut new, mut old) = UnixStream::pair().unwrap();
        let reason = "not now".to_owned();
        answer(&mut old, &Answer::Refused { reason }).unwrap();
        let error = take_over(&mut new).unwrap_err();
        assert_eq!(error.to_string(), "the other supervisor refused: not now");
    }

    #[test]
    fn an_answer_without_descriptors_is_not_a_handover() {
        let (mut new, mut old) = UnixStream::pair().unwrap();
        answer(&mut old, &Answer::Done).unwrap();
        assert!(matches!(take_over(&mut new), Err(Error::Descriptors(0))));
    }

    #[test]
    fn nobody_but_root_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let ask = frame(&Ask::TakeOver { protocol: PROTOCOL }).unwrap();
        for user in [65534, 0] {
            let mut peer = descriptors::connect_as(user, &path);
            peer.write_all(&ask).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            match hear(&mut stream) {
                Err(Error::NotRoot(65534)) => assert_eq!(user, 65534),
                heard => assert_eq!(
                    (heard.unwrap(), user),
                    (Ask::TakeOver { protocol: PROTOCOL }, 0)
                ),
            }
        }
    }

    #[test]
    fn garbage_and_oversize_are_refused() {
        for bytes in [&[0, 0, 0, 2, b'{', b'x'][..], &[255, 255, 255, 255][..]] {
            let (mut new, mut old) = UnixStream::pair().unwrap();
            new.write_all(bytes).unwrap();
            assert!(hear(&mut old).is_err(), "{bytes:?}");
        }
    }
}

//! rtnetlink without waiting: batches of requests in one `sendmsg`, dumps, and their replies.
//!
//! The kernel answers a request before `sendmsg` returns, so nothing here ever blocks: what is not
//! in the receive queue afterwards was lost. A batch asks for one acknowledgement, that of its last
//! message; errors of the others are always reported. Sequence numbers tell the replies of this
//! batch from what a predecessor on the same socket left unread.

mod error;
mod reply;
mod transport;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage};
use netlink_packet_core::{NetlinkDeserializable, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

pub use error::{Error, Refusal, words};
pub(crate) use reply::{Message, messages};
pub(crate) use transport::Transport;

/// Messages in one `sendmsg`: their errors must fit into the default receive queue of 208 KiB.
const BATCH: usize = 64;
/// How often a dump is repeated that changes interrupted.
const DUMP_ATTEMPTS: usize = 16;

/// What became of one message.
pub type Outcome = Result<(), Refusal>;

/// One message for the kernel, with the flags that say how it is meant (`NLM_F_CREATE`, …).
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The message.
    pub message: RouteNetlinkMessage,
    /// Flags besides `NLM_F_REQUEST` and `NLM_F_ACK`.
    pub flags: u16,
}

/// An rtnetlink socket; it works on the network namespace that it was opened in.
#[derive(Debug)]
pub struct Socket {
    transport: Transport,
    dumps: u64,
}

impl Request {
    /// A request with these flags.
    #[must_use]
    pub fn new(message: RouteNetlinkMessage, flags: u16) -> Self {
        Self { message, flags }
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses, such as for want of descriptors.
    pub fn open() -> Result<Self, Error> {
        Self::over(Transport::open(netlink_sys::protocols::NETLINK_ROUTE)?)
    }

    /// Takes over a socket that was opened elsewhere, such as in a pod's namespace.
    ///
    /// # Errors
    /// When the descriptor is not a netlink socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let transport = Transport::adopt(fd, netlink_sys::protocols::NETLINK_ROUTE)?;
        Self::over(transport)
    }

    /// Sends all requests in as few `sendmsg` as their number allows, and says what became of each.
    ///
    /// A failed request does not keep the ones behind it from being tried.
    ///
    /// # Errors
    /// When the socket itself fails, or a reply was lost.
    pub fn request(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, Error> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            outcomes.extend(self.exchange(batch, &mut |_| ())?);
        }
        Ok(outcomes)
    }

    /// Sends one request and returns the object that the kernel answers with (`RTM_GET…`).
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses.
    pub fn get(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Result<RouteNetlinkMessage, Refusal>, Error> {
        let (outcomes, mut replies) = self.query(&[Request::new(message, 0)])?;
        let outcome = outcomes.into_iter().next().unwrap_or(Ok(()));
        match (outcome, replies.pop()) {
            (Err(refusal), _) => Ok(Err(refusal)),
            (Ok(()), Some((_, reply))) => Ok(Ok(reply)),
            (Ok(()), None) => Err(Error::Lost),
        }
    }

    /// Like [`Self::request`], for at most 64 requests of which some are answered with objects; those come
    /// back with the index of their request.
    ///
    /// # Errors
    /// When the socket fails, a reply was lost or cannot be read.
    #[expect(clippy::type_complexity, reason = "two lists, each named by its place")]
    pub fn query(
        &mut self,
        requests: &[Request],
    ) -> Result<(Vec<Outcome>, Vec<(usize, RouteNetlinkMessage)>), Error> {
        let mut found = Vec::new();
        let first = self.transport.next_sequence();
        let outcomes = self.exchange(requests, &mut |message| {
            let index = message.header.sequence_number.wrapping_sub(first) as usize;
            found.push((index, decode(message)));
        })?;
        let replies = found
            .into_iter()
            .map(|(index, reply)| reply.map(|reply| (index, reply)))
            .collect::<Result<_, _>>()?;
        Ok((outcomes, replies))
    }

    /// Reads all objects of a kind. `keep` looks at the raw message and may spare its decoding.
    ///
    /// A dump that a change interrupted is repeated.
    ///
    /// # Errors
    /// When the socket fails, the kernel refuses, or the objects change faster than they can be read.
    pub fn dump(
        &mut self,
        message: &RouteNetlinkMessage,
        keep: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.dumps += 1;
        let mut last = Error::Interrupted;
        for _ in 0..DUMP_ATTEMPTS {
            match self.dump_once(message, &keep) {
                Err(error @ (Error::Interrupted | Error::Lost)) => last = error,
                Err(Error::Refused(refusal)) if is_missing_table(message, &refusal) => {
                    return Ok(Vec::new());
                }
                done => return done,
            }
        }
        Err(last)
    }

    /// Number of this socket, by which notifications name who made a change.
    ///
    /// # Errors
    /// When the descriptor has become unusable.
    pub fn port(&self) -> Result<u32, Error> {
        self.transport.port()
    }

    /// How many dumps this socket was asked for.
    #[must_use]
    pub fn dumps(&self) -> u64 {
        self.dumps
    }

    fn over(transport: Transport) -> Result<Self, Error> {
        transport.report_errors_in_full()?;
        transport.filter_dumps_in_kernel();
        Ok(Self {
            transport,
            dumps: 0,
        })
    }

    fn exchange(
        &mut self,
        batch: &[Request],
        object: &mut dyn FnMut(Message<'_>),
    ) -> Result<Vec<Outcome>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.transport.take_sequences(batch.len());
        let last = first.wrapping_add(batch.len() as u32 - 1);
        let mut bytes = Vec::with_capacity(batch.len() * 128);
        for (request, sequence) in batch.iter().zip(0_u32..) {
            let sequence = first.wrapping_add(sequence);
            let ack = if sequence == last { NLM_F_ACK } else { 0 };
            encode(
                &request.message,
                NLM_F_REQUEST | request.flags | ack,
                sequence,
                &mut bytes,
            );
        }
        self.transport.drain();
        self.transport.send(&bytes)?;
        self.collect(batch.len(), first, object)
    }

    fn collect(
        &mut self,
        count: usize,
        first: u32,
        object: &mut dyn FnMut(Message<'_>),
    ) -> Result<Vec<Outcome>, Error> {
        let mut outcomes: Vec<Outcome> = vec![Ok(()); count];
        let mut finished = false;
        while !finished {
            let datagram = self.transport.receive()?.ok_or(Error::Lost)?;
            for message in messages(datagram) {
                let message = message?;
                let index = message.header.sequence_number.wrapping_sub(first) as usize;
                if index >= count {
                    continue;
                }
                match message.acknowledgement() {
                    None => object(message),
                    Some(outcome) => {
                        outcomes[index] = outcome;
                        finished |= index + 1 == count;
                    }
                }
            }
        }
        Ok(outcomes)
    }

    fn dump_once(
        &mut self,
        message: &RouteNetlinkMessage,
        keep: &impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let sequence = self.transport.take_sequences(1);
        let mut bytes = Vec::with_capacity(128);
        encode(message, NLM_F_REQUEST | NLM_F_DUMP, sequence, &mut bytes);
        self.transport.drain();
        self.transport.send(&bytes)?;
        let mut found = Vec::new();
        let complete = self.transport.read_dump(sequence, &mut |message| {
            if keep(message.payload) {
                found.push(decode(message)?);
            }
            Ok(())
        })?;
        if complete {
            Ok(found)
        } else {
            Err(Error::Interrupted)
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

/// Whether a refusal says that what should go is not there.
#[must_use]
pub fn is_absence(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOENT | Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL | Errno::ENXIO
    )
}

/// Whether routes were asked for of a table that does not exist, as in a namespace that has not had an
/// IPv4 route yet: there are none.
fn is_missing_table(message: &RouteNetlinkMessage, refusal: &Refusal) -> bool {
    refusal.errno == Errno::ENOENT && matches!(message, RouteNetlinkMessage::GetRoute(_))
}

fn encode(message: &RouteNetlinkMessage, flags: u16, sequence: u32, bytes: &mut Vec<u8>) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut whole = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message.clone()));
    whole.finalize();
    let start = bytes.len();
    bytes.resize(start + whole.buffer_len().next_multiple_of(4), 0);
    whole.serialize(&mut bytes[start..]);
}

pub(crate) fn decode(message: Message<'_>) -> Result<RouteNetlinkMessage, Error> {
    RouteNetlinkMessage::deserialize(&message.header, message.payload)
        .map_err(|error| Error::Unreadable(error.to_string()))
}

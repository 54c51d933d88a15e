//! The nf_tables socket: batches committed, a table read back.
//!
//! One socket lives as long as the node runs: while it is open, nobody else can change a table that it
//! owns. Processes come and go around it, so what a predecessor left unread is thrown away before every
//! request, and sequence numbers start somewhere else each time.

mod error;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use weft_nft::decode::{Content, DecodeError, Message, Object, Reader};
use weft_nft::encode::{self, Encoded, Request};
use weft_nft::{Batch, Change, Element, Key, Table, TableFlags};

use crate::netlink::{self, Transport};

pub use error::{Error, describe};

/// Room for a batch of some tens of thousands of elements, where the host allows it.
const SEND_BUFFER: usize = 32 << 20;
/// Room for the errors of a large batch.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A batch is tried again this often when the kernel says that the ruleset was changed meanwhile, or that it
/// is short of memory for the moment.
const COMMIT_ATTEMPTS: usize = 8;
/// A table is read again this often when it was changed meanwhile.
const READ_ATTEMPTS: usize = 16;

/// An nf_tables socket of one network namespace.
#[derive(Debug)]
pub struct NftSocket {
    transport: Transport,
    commits: u64,
    messages: u64,
    dumps: u64,
}

/// A table as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The table; one without a name if there is none.
    pub table: Table,
    /// Port of the socket that owns it ([`NftSocket::port`]).
    pub owner_port: Option<u32>,
}

impl NftSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, Error> {
        Self::over(Transport::open(NETLINK_NETFILTER)?)
    }

    /// Takes over a socket that a predecessor used.
    ///
    /// # Errors
    /// When the descriptor is not an nf_tables socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        Self::over(Transport::adopt(fd, NETLINK_NETFILTER)?)
    }

    /// Commits a batch: all of it, or nothing and an error that names the change.
    ///
    /// # Errors
    /// When the batch cannot be encoded, the socket fails, or the kernel refuses. After
    /// [`Error::Unknown`] the batch may stand or not: read the table back.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        let mut last = Error::Unknown;
        for _ in 0..COMMIT_ATTEMPTS {
            self.transport.drain();
            let encoded = encode::batch(batch, self.transport.next_sequence(), None)?;
            self.transport.continue_at(encoded.next_sequence);
            self.commits += 1;
            self.messages += u64::from(encoded.next_sequence.wrapping_sub(encoded.first_sequence));
            match self.exchange(batch, &encoded) {
                Err(Error::Refused { refusal, change }) if is_passing(refusal.errno) => {
                    last = Error::Refused { refusal, change };
                }
                done => return done,
            }
        }
        Err(last)
    }

    /// Commits batches in order, up to the first that fails.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_all(&mut self, batches: &[Batch]) -> Result<(), Error> {
        batches.iter().try_for_each(|batch| self.commit(batch))
    }

    /// Reads a table of family `inet` with all that is in it.
    ///
    /// # Errors
    /// When the socket fails, or the ruleset changes faster than it can be read.
    pub fn read_table(&mut self, name: &str) -> Result<Found, Error> {
        self.read_table_without(name, |_| false)
    }

    /// Reads a table without the elements of some of its sets, which are given by name.
    ///
    /// # Errors
    /// When the socket fails, or the ruleset changes faster than it can be read.
    pub fn read_table_without(
        &mut self,
        name: &str,
        without: impl Fn(&str) -> bool,
    ) -> Result<Found, Error> {
        let mut last = netlink::Error::Interrupted;
        for _ in 0..READ_ATTEMPTS {
            match self.read_once(name, &without) {
                Err(Error::Socket(
                    error @ (netlink::Error::Interrupted | netlink::Error::Lost),
                )) => last = error,
                done => return done,
            }
        }
        Err(last.into())
    }

    /// Finds out which flags this kernel has for tables, by making and deleting one of another name in one batch.
    ///
    /// Not both or none: a table that is owned but does not persist would be gone with its socket.
    ///
    /// # Errors
    /// When the socket fails, or the kernel refuses for another reason, such as for want of CAP_NET_ADMIN.
    pub fn supported_flags(&mut self) -> Result<TableFlags, Error> {
        let flags = TableFlags::OWNED;
        let trial = Batch {
            table: format!("weftnet-trial-{}", self.port()?),
            changes: vec![Change::AddTable { flags: Some(flags) }, Change::DeleteTable],
        };
        match self.commit(&trial) {
            Ok(()) => Ok(flags),
            Err(Error::Refused { refusal, .. })
                if matches!(refusal.errno, Errno::EOPNOTSUPP | Errno::EINVAL) =>
            {
                Ok(TableFlags::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Number of this socket: the kernel names the owner of a table by it.
    ///
    /// # Errors
    /// When the descriptor has become unusable.
    pub fn port(&self) -> Result<u32, Error> {
        Ok(self.transport.port()?)
    }

    /// How many batches were sent, those that failed included.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// How many messages were sent in transactions.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many dumps were asked for.
    #[must_use]
    pub fn dumps(&self) -> u64 {
        self.dumps
    }

    fn over(transport: Transport) -> Result<Self, Error> {
        transport.report_errors_in_full()?;
        transport.grow_buffers(SEND_BUFFER, RECEIVE_BUFFER);
        Ok(Self {
            transport,
            commits: 0,
            messages: 0,
            dumps: 0,
        })
    }

    fn exchange(&mut self, batch: &Batch, encoded: &Encoded) -> Result<(), Error> {
        match self.transport.send(&encoded.bytes) {
            Ok(()) => {}
            Err(netlink::Error::Send {
                bytes,
                errno: Errno::EMSGSIZE | Errno::ENOBUFS,
            }) => {
                return Err(Error::TooLarge { bytes });
            }
            Err(error) => return Err(error.into()),
        }
        let mut first = None;
        loop {
            let datagram = match self.transport.receive() {
                Ok(Some(datagram)) => datagram,
                // The first error says enough; without one, the outcome is unknown.
                Ok(None) | Err(netlink::Error::Lost) => return Err(first.unwrap_or(Error::Unknown)),
                Err(error) => return Err(error.into()),
            };
            for message in weft_nft::decode::messages(datagram) {
                let message = message?;
                let place = message.sequence.wrapping_sub(encoded.first_sequence);
                if place >= encoded.next_sequence.wrapping_sub(encoded.first_sequence) {
                    continue;
                }
                match message.content {
                    Content::Refused(refusal) => {
                        let change = encoded
                            .change(refusal.sequence)
                            .and_then(|place| batch.changes.get(place));
                        let refusal = netlink::Refusal {
                            errno: Errno::from_raw(refusal.errno),
                            explanation: refusal.message,
                        };
                        let change = change
                            .map_or_else(|| format!("commit table {}", batch.table), describe);
                        first.get_or_insert(Error::Refused { refusal, change });
                    }
                    Content::Acknowledged
                    | Content::Done
                    | Content::New(_)
                    | Content::Deleted(_)
                    | Content::Other => {}
                }
                if message.sequence == encoded.acknowledged_sequence {
                    return first.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Reads the elements of one set as they come, without holding them all; none if there is no such set.
    ///
    /// A reading that turns out not to be whole, because the ruleset changed or the kernel listed an
    /// element twice, is begun anew with another `begin`.
    ///
    /// # Errors
    /// When the socket fails, or the ruleset changes faster than it can be read.
    pub fn fold_set<T>(
        &mut self,
        table: &str,
        set: &str,
        mut begin: impl FnMut() -> T,
        mut each: impl FnMut(&mut T, Key, Element),
    ) -> Result<Option<T>, Error> {
        let mut last = netlink::Error::Interrupted;
        for _ in 0..READ_ATTEMPTS {
            let mut folded = begin();
            match self.fold_once(table, set, &mut |key, element| {
                each(&mut folded, key, element);
            }) {
                Err(Error::Socket(
                    error @ (netlink::Error::Interrupted | netlink::Error::Lost),
                )) => last = error,
                Err(error) => return Err(error),
                Ok(is_there) => return Ok(is_there.then_some(folded)),
            }
        }
        Err(last.into())
    }

    fn fold_once(
        &mut self,
        table: &str,
        set: &str,
        each: &mut dyn FnMut(Key, Element),
    ) -> Result<bool, Error> {
        let before = self.generation()?;
        let mut reader = Reader::new(table);
        self.dump(Request::Sets { table }, &mut |message| reader.add(message))?;
        let Some(mut elements) = reader.elements_of(set) else {
            return Ok(false);
        };
        self.dump(Request::Elements { table, set }, &mut |message| {
            elements.add(message, each)
        })?;
        elements.finish(each);
        if self.generation()? != before || !elements.is_whole() {
            return Err(netlink::Error::Interrupted.into());
        }
        Ok(true)
    }

    fn read_once(&mut self, name: &str, without: impl Fn(&str) -> bool) -> Result<Found, Error> {
        let before = self.generation()?;
        let mut reader = Reader::new(name);
        for request in [
            Request::Tables,
            Request::Chains,
            Request::Sets { table: name },
            Request::Rules { table: name },
        ] {
            self.dump(request, &mut |message| reader.add(message))?;
        }
        let sets: Vec<String> = reader.set_names().map(str::to_owned).collect();
        for set in sets.iter().filter(|set| !without(set)) {
            self.dump(Request::Elements { table: name, set }, &mut |message| {
                reader.add(message)
            })?;
        }
        if self.generation()? != before || !reader.is_whole() {
            return Err(netlink::Error::Interrupted.into());
        }
        let owner_port = reader.owner_port();
        Ok(Found {
            table: reader.finish(),
            owner_port,
        })
    }

    fn dump(
        &mut self,
        request: Request<'_>,
        take: &mut dyn FnMut(Message) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        self.dumps += 1;
        let sequence = self.transport.take_sequences(1);
        self.transport.drain();
        self.transport.send(&encode::request(request, sequence))?;
        loop {
            let datagram = self.transport.receive()?.ok_or(netlink::Error::Lost)?;
            for message in weft_nft::decode::messages(datagram) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                match &message.content {
                    Content::Done => return Ok(()),
                    // No such table or set (any more).
                    Content::Refused(refusal)
                        if Errno::from_raw(refusal.errno) == Errno::ENOENT =>
                    {
                        return Ok(());
                    }
                    Content::Refused(refusal) if Errno::from_raw(refusal.errno) == Errno::EINTR => {
                        return Err(netlink::Error::Interrupted.into());
                    }
                    Content::Refused(refusal) => {
                        return Err(netlink::Error::Refused(netlink::Refusal {
                            errno: Errno::from_raw(refusal.errno),
                            explanation: refusal.message.clone(),
                        })
                        .into());
                    }
                    _ if message.interrupted => return Err(netlink::Error::Interrupted.into()),
                    _ => take(message)?,
                }
            }
        }
    }

    fn generation(&mut self) -> Result<u32, Error> {
        let sequence = self.transport.take_sequences(1);
        self.transport.drain();
        self.transport
            .send(&encode::request(Request::Generation, sequence))?;
        loop {
            let datagram = self.transport.receive()?.ok_or(netlink::Error::Lost)?;
            for message in weft_nft::decode::messages(datagram) {
                match message? {
                    message if message.sequence != sequence => {}
                    Message {
                        content: Content::New(Object::Generation { id, .. }),
                        ..
                    } => return Ok(id),
                    message => {
                        let unexpected =
                            format!("expected a generation, got {:?}", message.content);
                        return Err(netlink::Error::Unreadable(unexpected).into());
                    }
                }
            }
        }
    }
}

impl AsFd for NftSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

impl From<NftSocket> for OwnedFd {
    fn from(socket: NftSocket) -> Self {
        socket.transport.into_fd()
    }
}

/// Somebody else's transaction came between, or memory is short for the moment.
fn is_passing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EAGAIN | Errno::EINTR | Errno::ERESTART | Errno::ENOBUFS
    )
}

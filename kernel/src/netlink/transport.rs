//! A netlink descriptor: open or adopted, datagrams out and in, sequence numbers.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, sockopt};

use super::{Error, Message, messages};

/// The kernel's dumps come in datagrams of at most 32 KiB; a single object may be larger.
const RECEIVE_BYTES: usize = 128 << 10;

/// A netlink socket of any protocol.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Transport {
    pub(crate) fn open(protocol: isize) -> Result<Self, Error> {
        let failed = |action| move |error| socket_error(action, &error);
        let mut socket = netlink_sys::Socket::new(protocol).map_err(failed("open"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        Ok(Self::over(socket))
    }

    /// Takes over a descriptor, which must be a netlink socket of the protocol.
    pub(crate) fn adopt(fd: OwnedFd, protocol: isize) -> Result<Self, Error> {
        let refused = |errno| Error::Socket {
            action: "take over",
            errno,
        };
        let family = socket::getsockname::<socket::NetlinkAddr>(fd.as_raw_fd());
        if family.is_err() || protocol_of(&fd).map_err(refused)? as isize != protocol {
            return Err(refused(Errno::EPROTONOSUPPORT));
        }
        Ok(Self::over(owned(fd)))
    }

    fn over(socket: netlink_sys::Socket) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            socket,
            // Far from what a predecessor on the same socket used a moment ago.
            sequence: now.map_or(1, |now| now.as_micros() as u32),
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
        }
    }

    /// The number that the next message gets.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.sequence
    }

    /// Reserves numbers for some messages and returns the first.
    pub(crate) fn take_sequences(&mut self, count: usize) -> u32 {
        let first = self.sequence;
        self.sequence = first.wrapping_add(count as u32);
        first
    }

    /// Goes on with this number.
    pub(crate) fn continue_at(&mut self, sequence: u32) {
        self.sequence = sequence;
    }

    /// Number of this socket in its network namespace.
    pub(crate) fn port(&self) -> Result<u32, Error> {
        let mut address = netlink_sys::SocketAddr::new(0, 0);
        let found = self.socket.get_address(&mut address);
        found.map_err(|error| socket_error("read the address of", &error))?;
        Ok(address.port_number())
    }

    /// Gives the descriptor up.
    pub(crate) fn into_fd(self) -> OwnedFd {
        disowned(self.socket)
    }

    /// Errors come with the kernel's explanation, and without a copy of the request.
    pub(crate) fn report_errors_in_full(&self) -> Result<(), Error> {
        let failed = |error| socket_error("set options of", &error);
        self.socket.set_cap_ack(true).map_err(failed)?;
        self.socket.set_ext_ack(true).map_err(failed)
    }

    /// Dumps are filtered by the kernel (4.20); before that, each reader filters anyway.
    pub(crate) fn filter_dumps_in_kernel(&self) {
        drop(self.socket.set_netlink_get_strict_chk(true));
    }

    /// Joins a multicast group.
    pub(crate) fn join(&self, group: u32) -> Result<(), Error> {
        let joined = self.socket.add_membership(group);
        joined.map_err(|error| socket_error("join a group of", &error))
    }

    /// Makes room for large batches, past the host's limit where allowed, up to it elsewhere. 0 leaves as it is.
    pub(crate) fn grow_buffers(&self, send: usize, receive: usize) {
        if send > 0 && socket::setsockopt(&self.socket, sockopt::SndBufForce, &send).is_err() {
            let _ = socket::setsockopt(&self.socket, sockopt::SndBuf, &send);
        }
        if socket::setsockopt(&self.socket, sockopt::RcvBufForce, &receive).is_err() {
            let _ = socket::setsockopt(&self.socket, sockopt::RcvBuf, &receive);
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        loop {
            let sent = socket::send(self.socket.as_raw_fd(), bytes, MsgFlags::empty());
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let bytes = bytes.len();
                    return Err(Error::Send { bytes, errno });
                }
            }
        }
    }

    /// The next datagram of the queue; `None` when it is empty.
    pub(crate) fn receive(&mut self) -> Result<Option<&[u8]>, Error> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        loop {
            match socket::recv(self.socket.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) if length > self.buffer.len() => return Err(Error::Lost),
                Ok(length) => return Ok(Some(&self.buffer[..length])),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return Err(Error::Lost),
                Err(errno) => return Err(Error::Receive(errno)),
            }
        }
    }

    /// Throws away what is in the queue: replies that nobody waits for any more.
    pub(crate) fn drain(&mut self) {
        // A lost reply ends nothing here: the next read says what else is in the queue.
        while matches!(self.receive(), Ok(Some(_)) | Err(Error::Lost)) {}
    }

    /// Reads a dump to its end. False when it is not whole, because objects changed meanwhile.
    pub(crate) fn read_dump(
        &mut self,
        sequence: u32,
        object: &mut dyn FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut complete = true;
        loop {
            let datagram = self.receive()?.ok_or(Error::Lost)?;
            for message in messages(datagram) {
                let message = message?;
                if message.header.sequence_number != sequence {
                    continue;
                }
                complete &= !message.is_interrupted();
                match message.end_of_dump().or_else(|| message.acknowledgement()) {
                    Some(Ok(())) => return Ok(complete),
                    Some(Err(refusal)) if refusal.errno == Errno::EINTR => return Ok(false),
                    Some(Err(refusal)) => return Err(Error::Refused(refusal)),
                    None => object(message)?,
                }
            }
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[expect(
    unsafe_code,
    reason = "the crate netlink-sys takes a descriptor over by its number alone"
)]
fn owned(fd: OwnedFd) -> netlink_sys::Socket {
    // SAFETY: the number comes from an owned descriptor, which gives it up here.
    unsafe { netlink_sys::Socket::from_raw_fd(fd.into_raw_fd()) }
}

#[expect(
    unsafe_code,
    reason = "the crate netlink-sys gives a descriptor up as a number alone"
)]
fn disowned(socket: netlink_sys::Socket) -> OwnedFd {
    // SAFETY: the socket owned the descriptor and gives it up here.
    unsafe { OwnedFd::from_raw_fd(socket.into_raw_fd()) }
}

#[expect(unsafe_code, reason = "no crate in use reads SO_PROTOCOL")]
fn protocol_of(fd: &OwnedFd) -> Result<libc::c_int, Errno> {
    let mut protocol: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and both pointers are to live variables of the stated size.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PROTOCOL,
            (&raw mut protocol).cast(),
            &raw mut length,
        )
    };
    Errno::result(result).map(|_| protocol)
}

fn socket_error(action: &'static str, error: &std::io::Error) -> Error {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Error::Socket { action, errno }
}

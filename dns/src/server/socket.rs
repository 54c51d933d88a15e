//! Opens sockets as the server needs them: several processes and threads at one port, at addresses that need not be there yet.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::sockopt::{Ipv6V6Only, RcvBuf, ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

/// Bytes of datagrams that may wait: some 20,000 questions, so that a busy moment loses none.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Streams that may wait to be taken.
const BACKLOG: i32 = 1024;

/// Opens a socket for datagrams.
///
/// # Errors
/// The address or port cannot be had.
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let fd = open(address, SockType::Datagram)?;
    // What the system does not allow is not had; no error.
    let _ = setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER);
    bind_to(&fd, address)?;
    Ok(UdpSocket::from(fd))
}

/// Opens a socket for streams.
///
/// # Errors
/// The address or port cannot be had.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let fd = open(address, SockType::Stream)?;
    bind_to(&fd, address)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn open(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, ReuseAddr, &true)?;
    setsockopt(&fd, ReusePort, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    if !address.ip().is_unspecified() {
        // The agent makes the address local; it may not have yet.
        setsockopt(&fd, sockopt::IpFreebind, &true)?;
    }
    Ok(fd)
}

fn bind_to(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    bind(fd.as_fd().as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(())
}

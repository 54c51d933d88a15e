//! Servers at every port that a file's flows may reach, whatever the address: each says at which
//! address it was reached and which source it saw.

use std::collections::BTreeSet;
use std::io::{IoSlice, IoSliceMut, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockaddrIn6,
    SockaddrStorage, bind, listen, recvmsg, sendmsg, setsockopt, sockopt,
};

use weft_core::view::Protocol;

/// Ports by protocol.
#[derive(Clone, Debug, Default)]
pub struct Ports(BTreeSet<(Protocol, u16)>);

/// Running servers of one namespace.
#[derive(Debug)]
pub struct Server(Arc<AtomicBool>);

impl Ports {
    /// Such ports; those of SCTP only where the kernel has it.
    pub fn new(ports: impl IntoIterator<Item = (Protocol, u16)>) -> Self {
        let has_sctp = super::has_sctp();
        let ports = ports.into_iter();
        let ports = ports.filter(|(protocol, _)| *protocol != Protocol::Sctp || has_sctp);
        Self(ports.collect())
    }
}

impl Server {
    /// Listens, and answers on a thread of its own.
    ///
    /// # Errors
    /// When a port cannot be listened at.
    pub fn start(ports: &Ports) -> Result<Self> {
        let mut sockets = Vec::new();
        for (protocol, port) in &ports.0 {
            let opened = open(*protocol, *port).with_context(|| format!("port {port}"))?;
            sockets.push((*protocol, opened));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        std::thread::spawn(move || {
            while !asked.load(Ordering::Acquire) {
                answer(&sockets);
            }
        });
        Ok(Self(stop))
    }

    /// Ends the thread soon.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }
}

fn open(protocol: Protocol, port: u16) -> Result<OwnedFd> {
    let opened = super::open(AddressFamily::Inet6, protocol, SockFlag::SOCK_NONBLOCK)?;
    setsockopt(&opened, sockopt::ReuseAddr, &true)?;
    if protocol != Protocol::Sctp {
        // Answers leave from addresses that are nobody's here.
        setsockopt(&opened, sockopt::IpTransparent, &true)?;
    }
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(opened.as_raw_fd(), &SockaddrIn6::from(any))?;
    if protocol == Protocol::Udp {
        setsockopt(&opened, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        listen(&opened, Backlog::new(128)?)?;
    }
    Ok(opened)
}

/// Answers whoever is there, or waits a moment.
fn answer(sockets: &[(Protocol, OwnedFd)]) {
    let mut wanted: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    // An error here is answered by silence, which the client tells.
    if poll(&mut wanted, PollTimeout::from(100_u8)).is_err() {
        return;
    }
    for (index, (protocol, socket)) in sockets.iter().enumerate() {
        let is_ready = wanted[index].any().unwrap_or_default();
        if is_ready {
            let _ = match protocol {
                Protocol::Tcp | Protocol::Sctp => stream(socket),
                Protocol::Udp => datagram(socket),
            };
        }
    }
}

fn stream(socket: &OwnedFd) -> Result<()> {
    let listener = TcpListener::from(socket.try_clone()?);
    let (mut stream, peer): (TcpStream, SocketAddr) = listener.accept()?;
    let words = words(stream.local_addr()?, peer);
    Ok(stream.write_all(words.as_bytes())?)
}

fn datagram(socket: &OwnedFd) -> Result<()> {
    let mut buffer = [0; 256];
    let mut space = nix::cmsg_space!(nix::libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::empty(),
    )?;
    let peer = message.address.context("no source")?;
    let info = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
        _ => None,
    });
    let mut info = info.context("no destination")?;
    let local: SockaddrIn6 = nix::sys::socket::getsockname(socket.as_raw_fd())?;
    let at = SocketAddr::new(
        IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)),
        local.port(),
    );
    let words = words(at, SocketAddr::V6(peer.into()));
    // By whatever interface the route says.
    info.ipi6_ifindex = 0;
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(words.as_bytes())],
        &[ControlMessage::Ipv6PacketInfo(&info)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(SocketAddr::V6(peer.into()))),
    )?;
    Ok(())
}

fn words(at: SocketAddr, peer: SocketAddr) -> String {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    format!("{} {}\n", plain(at), plain(peer))
}

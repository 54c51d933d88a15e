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
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol,
    SockType, SockaddrIn6, SockaddrStorage, bind, listen, recvmsg, sendmsg, setsockopt, socket,
    sockopt,
};

use super::super::format::{Expect, File, Protocol};
use super::ask;

/// Ports by protocol.
#[derive(Clone, Debug, Default)]
pub struct Ports(BTreeSet<(ProtocolKey, u16)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ProtocolKey {
    Stream,
    Datagram,
    Sctp,
}

/// Running servers of one namespace.
#[derive(Debug)]
pub struct Server(Arc<AtomicBool>);

impl Ports {
    /// Ports that flows go to, and those of the endpoints that they may reach.
    pub fn of(file: &File) -> Self {
        let mut ports = BTreeSet::new();
        for flow in file.stages.iter().flat_map(|stage| &stage.flows) {
            let key = match flow.protocol {
                Protocol::Tcp => ProtocolKey::Stream,
                Protocol::Udp => ProtocolKey::Datagram,
                Protocol::Sctp if ask::has_sctp() => ProtocolKey::Sctp,
                Protocol::Sctp => continue,
            };
            ports.insert((key, flow.port));
            if let Expect::Endpoints { endpoints, .. } = &flow.expect {
                let parsed = endpoints
                    .iter()
                    .filter_map(|text| text.parse::<SocketAddr>().ok());
                ports.extend(parsed.map(|endpoint| (key, endpoint.port())));
            }
        }
        Self(ports)
    }
}

impl Server {
    /// Listens, and answers on a thread of its own.
    ///
    /// # Errors
    /// When a port cannot be listened at.
    pub fn start(ports: &Ports) -> Result<Self> {
        let mut sockets = Vec::new();
        for (key, port) in &ports.0 {
            let opened = open(*key, *port).with_context(|| format!("port {port}"))?;
            sockets.push((*key, opened));
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

fn open(key: ProtocolKey, port: u16) -> Result<OwnedFd> {
    let (kind, protocol) = match key {
        ProtocolKey::Stream => (SockType::Stream, None),
        ProtocolKey::Datagram => (SockType::Datagram, None),
        ProtocolKey::Sctp => (SockType::Stream, Some(SockProtocol::Sctp)),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let opened = socket(AddressFamily::Inet6, kind, flags, protocol)?;
    setsockopt(&opened, sockopt::ReuseAddr, &true)?;
    if key != ProtocolKey::Sctp {
        // Answers leave from addresses that are nobody's here.
        setsockopt(&opened, sockopt::IpTransparent, &true)?;
    }
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(opened.as_raw_fd(), &SockaddrIn6::from(any))?;
    if key == ProtocolKey::Datagram {
        setsockopt(&opened, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        listen(&opened, Backlog::new(128)?)?;
    }
    Ok(opened)
}

/// Answers whoever is there, or waits a moment.
fn answer(sockets: &[(ProtocolKey, OwnedFd)]) {
    let mut wanted: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    // An error here is answered by silence, which the client tells.
    if poll(&mut wanted, PollTimeout::from(100_u8)).is_err() {
        return;
    }
    for (index, (key, socket)) in sockets.iter().enumerate() {
        let is_ready = wanted[index].any().unwrap_or_default();
        if is_ready {
            let _ = match key {
                ProtocolKey::Stream | ProtocolKey::Sctp => stream(socket),
                ProtocolKey::Datagram => datagram(socket),
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

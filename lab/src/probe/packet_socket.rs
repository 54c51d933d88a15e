//! AF_PACKET sockets (packet(7)): whole frames in and out of one interface. The only file of the
//! probe with `unsafe`, because nix makes no link-layer address from its parts.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind,
    recvfrom, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::Error;

/// A socket for all frames of one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    address: LinkAddr,
}

/// A frame as it passed.
#[derive(Debug)]
pub struct Frame<'a> {
    /// From the destination's hardware address on.
    pub bytes: &'a [u8],
    /// It left by the interface rather than arrived.
    pub outgoing: bool,
}

impl PacketSocket {
    /// Opens it; needs CAP_NET_RAW.
    ///
    /// # Errors
    /// When there is no such interface, or no permission.
    pub fn open(interface: &str) -> Result<Self, Error> {
        let index = nix::net::if_::if_nametoindex(interface)
            .map_err(Error::call(format!("find the interface {interface}")))?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .map_err(Error::call("open an AF_PACKET socket"))?;
        let address = link_address(index)
            .ok_or_else(|| Error::Argument(format!("{interface}: no link-layer address")))?;
        bind(socket.as_raw_fd(), &address).map_err(Error::call(format!("bind to {interface}")))?;
        let buffer = 8 << 20;
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &buffer);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))
            .map_err(Error::call("set a timeout"))?;
        Ok(Self { socket, address })
    }

    /// Sends a whole frame.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        sendto(
            self.socket.as_raw_fd(),
            frame,
            &self.address,
            MsgFlags::empty(),
        )
        .map_err(Error::call("send a frame"))?;
        Ok(())
    }

    /// The next frame; `None` when none came for 50 ms.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<Option<Frame<'a>>, Error> {
        match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer) {
            Ok((length, address)) => {
                let outgoing =
                    address.is_some_and(|address| address.pkttype() == libc::PACKET_OUTGOING);
                Ok(Some(Frame {
                    bytes: &buffer[..length],
                    outgoing,
                }))
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(error) => Err(Error::call("receive a frame")(error)),
        }
    }

    /// The destination hardware address of what this namespace itself sends out here, learnt by
    /// sending one datagram to `to` and looking at the frame.
    ///
    /// # Errors
    /// When nothing was seen to leave within a second.
    pub fn next_hop(&self, to: std::net::SocketAddr) -> Result<[u8; 6], Error> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let mut buffer = [0; 2048];
        for _ in 0..20 {
            let sent = std::net::UdpSocket::bind(any)
                .and_then(|socket| socket.send_to(b"weft-next-hop", to));
            sent.map_err(Error::io(format!("send to {to}")))?;
            let until = std::time::Instant::now() + Duration::from_millis(50);
            while let Some(frame) = self.receive(&mut buffer)? {
                if frame.outgoing && frame.bytes.windows(13).any(|part| part == b"weft-next-hop") {
                    return frame.bytes[..6]
                        .try_into()
                        .map_err(|_| Error::Argument("a short frame".to_owned()));
                }
                if std::time::Instant::now() > until {
                    break;
                }
            }
        }
        Err(Error::Argument(format!(
            "no datagram to {to} was seen to leave: give --to-mac"
        )))
    }
}

#[expect(unsafe_code, reason = "nix has no constructor of a link-layer address")]
fn link_address(index: u32) -> Option<LinkAddr> {
    let mut address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).ok()?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL).ok()?.to_be(),
        sll_ifindex: i32::try_from(index).ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).ok()?;
    // SAFETY: the pointer is to a whole, initialised sockaddr_ll that outlives the call, its family
    // is AF_PACKET, and the length is its own.
    unsafe { LinkAddr::from_raw((&raw mut address).cast(), Some(length)) }
}

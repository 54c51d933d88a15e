//! A node in a namespace: two pods and the network outside are TUN devices, whose other ends are
//! in the test's hands.
//!
//! Writing to a TUN device returns when the packet is through the node, so that afterwards what the
//! node sent waits to be read and nothing is left to chance.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
    SockaddrIn6, recv, recvmsg, sendto, setsockopt, socket, sockopt,
};
use weft_nft::l4proto;
use weft_nft::trace::{Host, Origin, Packet, Route};

use super::wire::{self, Heard, Phase};

/// Names of the node's interfaces.
pub const LINKS: [&str; 3] = ["weftred", "weftblue", "eth0"];
/// Group of the pods' interfaces.
pub const PODS: u32 = 82;

/// Where something came out of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By this interface.
    Link(u32),
    /// At a socket of the node itself.
    Node,
}

/// The node.
pub struct Node {
    links: Vec<(u32, File)>,
    /// Protocol, whether IPv4, and a socket that hears all that is delivered.
    local: Vec<(u8, bool, OwnedFd)>,
    /// Sends packets of the node itself, IPv4 and IPv6.
    own: [OwnedFd; 2],
}

const SETUP: &str = "
ip link set lo up
cd /proc/sys/net
echo 1 >ipv4/ip_forward
echo 1 >ipv6/conf/all/forwarding
for at in all default; do echo 0 >ipv4/conf/$at/send_redirects; echo 0 >ipv4/conf/$at/rp_filter; done
echo 1 >ipv6/conf/default/addr_gen_mode
echo 1 >ipv4/icmp_echo_ignore_all
echo 1 >ipv6/icmp/echo_ignore_all
echo 0 >ipv4/icmp_ratemask
echo 0 >ipv6/icmp/ratelimit
echo >ipv6/icmp/ratemask
";
const ADDRESSES: &str = "
ip link set weftred up group 82
ip link set weftblue up group 82
ip link set eth0 up
ip addr add 192.0.2.1/24 dev eth0
ip addr add 2001:db8::1/64 dev eth0 nodad
ip route add 10.1.0.2 dev weftred
ip route add 10.1.0.3 dev weftblue
ip route add unreachable 10.1.0.0/24
ip route add default dev eth0
ip route add fd00:1::2 dev weftred
ip route add fd00:1::3 dev weftblue
ip route add unreachable fd00:1::/64
ip route add default dev eth0 metric 10
ip -6 route add default dev eth0
";

impl Node {
    /// Makes the node of the namespace that the thread is in.
    pub fn new() -> Self {
        run(SETUP);
        let links = LINKS.map(|name| (name, tun(name)));
        run(ADDRESSES);
        let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
        let links = links.map(|(name, file)| (index(name), file));
        let protocols = [
            (l4proto::TCP, SockProtocol::Tcp, SockProtocol::Tcp),
            (l4proto::UDP, SockProtocol::Udp, SockProtocol::Udp),
            (l4proto::ICMP, SockProtocol::Icmp, SockProtocol::IcmpV6),
        ];
        let mut local = Vec::new();
        for (number, v4, v6) in protocols {
            local.push((number, true, raw(AddressFamily::Inet, v4)));
            let socket = raw(AddressFamily::Inet6, v6);
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
            let number = if number == l4proto::ICMP {
                l4proto::ICMPV6
            } else {
                number
            };
            local.push((number, false, socket));
        }
        let own = [
            raw(AddressFamily::Inet, SockProtocol::Raw),
            raw(AddressFamily::Inet6, SockProtocol::Raw),
        ];
        Self {
            links: links.into(),
            local,
            own,
        }
    }

    /// The same node for a tracer.
    pub fn host(&self) -> Host {
        let net = |text: &str| text.parse().unwrap();
        let [red, blue, up] = self.indices();
        Host::new()
            .with_link(red, LINKS[0], PODS, [])
            .with_link(blue, LINKS[1], PODS, [])
            .with_link(
                up,
                LINKS[2],
                0,
                [net("192.0.2.1/24"), net("2001:db8::1/64")],
            )
            .with_route(net("10.1.0.2/32"), Route::Link(red))
            .with_route(net("10.1.0.3/32"), Route::Link(blue))
            .with_route(net("10.1.0.0/24"), Route::Unreachable)
            .with_route(net("0.0.0.0/0"), Route::Link(up))
            .with_route(net("fd00:1::2/128"), Route::Link(red))
            .with_route(net("fd00:1::3/128"), Route::Link(blue))
            .with_route(net("fd00:1::/64"), Route::Unreachable)
            .with_route(net("::/0"), Route::Link(up))
    }

    /// Indices of red, blue and the uplink.
    pub fn indices(&self) -> [u32; 3] {
        [0, 1, 2].map(|at: usize| self.links[at].0)
    }

    /// Sends a packet through the node and returns all that came out of it.
    pub fn send(&mut self, origin: Origin, packet: &Packet, phase: Phase) -> Vec<(Place, Heard)> {
        let bytes = wire::bytes(packet, phase);
        match origin {
            Origin::Link(index) => {
                let (_, file) = self
                    .links
                    .iter_mut()
                    .find(|(link, _)| *link == index)
                    .unwrap();
                file.write_all(&bytes).unwrap();
            }
            Origin::Node => self.send_own(packet, &bytes),
        }
        self.hear()
    }

    /// A refused packet is an error of the call: it is heard of as silence.
    fn send_own(&self, packet: &Packet, bytes: &[u8]) {
        let _ = match packet.destination {
            IpAddr::V4(to) => {
                let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
                sendto(self.own[0].as_raw_fd(), bytes, &to, MsgFlags::empty())
            }
            IpAddr::V6(to) => {
                let to = SockaddrIn6::from(std::net::SocketAddrV6::new(to, 0, 0, 0));
                sendto(self.own[1].as_raw_fd(), bytes, &to, MsgFlags::empty())
            }
        };
    }

    /// Forgets all connections, so that ports that translation chose are free again.
    pub fn forget(&self) {
        /// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`
        const DELETE: u16 = 1 << 8 | 2;
        /// `NLM_F_REQUEST | NLM_F_ACK`
        const FLAGS: u16 = 1 | 4;
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend(DELETE.to_ne_bytes());
        message.extend(FLAGS.to_ne_bytes());
        message.extend([0; 12]);
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind_auto().unwrap();
        socket.send(&message, 0).unwrap();
        let (answer, _) = socket.recv_from_full().unwrap();
        assert_eq!(answer[16..20], [0; 4], "failed to delete connections");
    }

    /// All that waits to be read.
    pub fn hear(&mut self) -> Vec<(Place, Heard)> {
        let mut all = Vec::new();
        let mut buffer = [0; 2000];
        for (index, file) in &mut self.links {
            loop {
                match file.read(&mut buffer) {
                    Ok(length) => {
                        let heard = wire::heard(&buffer[..length]);
                        all.extend(heard.map(|heard| (Place::Link(*index), heard)));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        for (protocol, v4, socket) in &self.local {
            while let Some(heard) = receive(*protocol, *v4, socket) {
                all.extend(heard.map(|heard| (Place::Node, heard)));
            }
        }
        all
    }
}

/// The next packet of a socket, if one waits.
fn receive(protocol: u8, v4: bool, socket: &OwnedFd) -> Option<Option<Heard>> {
    let mut buffer = [0; 2000];
    if v4 {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()?;
        return Some(wire::heard(&buffer[..length]));
    }
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    );
    let message = message.ok()?;
    let source = message.address.unwrap().ip();
    let to = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    let length = message.bytes;
    Some(wire::transport(
        source.into(),
        to.unwrap().into(),
        protocol,
        &buffer[..length],
    ))
}

fn raw(family: AddressFamily, protocol: SockProtocol) -> OwnedFd {
    socket(family, SockType::Raw, SockFlag::SOCK_NONBLOCK, protocol).unwrap()
}

fn run(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

/// Makes a TUN device and holds its other end.
#[expect(unsafe_code, reason = "no crate in use names a TUN device")]
fn tun(name: &str) -> File {
    /// `TUNSETIFF` of linux/if_tun.h
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .expect("this test needs /dev/net/tun");
    // `struct ifreq`: a name of 16 bytes, then flags.
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the request is a live buffer of the length of `struct ifreq`.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    file
}

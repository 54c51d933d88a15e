//! What is traced: a packet, where it came from, and what connection tracking knows of it.

use std::net::{IpAddr, SocketAddr};

use super::Tracking;
use crate::l4proto;

/// The fields of a packet that rules read or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// Source address; of the same family as the destination.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Transport protocol, see [`l4proto`].
    pub protocol: u8,
    /// Source port; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port; 0 where the protocol has none.
    pub destination_port: u16,
    /// Type of an ICMP or ICMPv6 message; 0 elsewhere.
    pub icmp_type: u8,
    /// `meta mark`
    pub mark: u32,
    /// `meta priority`; 0 unless a rule, the sender's socket or (forwarded, IPv4) its TOS says otherwise.
    pub priority: u32,
}

/// Where the node has a packet from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It came by the interface with this index.
    Link(u32),
    /// The node itself sends it.
    Node,
}

/// A packet at the moment when the node gets or makes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// The packet.
    pub packet: Packet,
    /// Where it is from.
    pub origin: Origin,
    /// What connection tracking will find for it.
    pub tracking: Tracking,
}

/// ICMP "echo request" and "echo reply" (RFC 792, RFC 4443).
const ECHOES: [(u8, u8); 2] = [(8, 0), (128, 129)];

impl Packet {
    /// A TCP segment.
    #[must_use]
    pub fn tcp(from: SocketAddr, to: SocketAddr) -> Self {
        Self::new(l4proto::TCP, from, to)
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(from: SocketAddr, to: SocketAddr) -> Self {
        Self::new(l4proto::UDP, from, to)
    }

    /// A packet of a transport protocol that has ports.
    #[must_use]
    pub fn new(protocol: u8, from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            source: from.ip(),
            destination: to.ip(),
            protocol,
            source_port: from.port(),
            destination_port: to.port(),
            icmp_type: 0,
            mark: 0,
            priority: 0,
        }
    }

    /// An ICMP message, or an ICMPv6 message between IPv6 addresses.
    #[must_use]
    pub fn icmp(from: IpAddr, to: IpAddr, icmp_type: u8) -> Self {
        let protocol = match to {
            IpAddr::V4(_) => l4proto::ICMP,
            IpAddr::V6(_) => l4proto::ICMPV6,
        };
        let end = |address| SocketAddr::new(address, 0);
        Self {
            icmp_type,
            ..Self::new(protocol, end(from), end(to))
        }
    }

    /// Source address and port.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        SocketAddr::new(self.source, self.source_port)
    }

    /// Destination address and port.
    #[must_use]
    pub fn to(&self) -> SocketAddr {
        SocketAddr::new(self.destination, self.destination_port)
    }

    /// The answer of whoever got the packet.
    #[must_use]
    pub(super) fn answered(&self) -> Self {
        let echo = ECHOES.iter().find(|(asked, _)| *asked == self.icmp_type);
        Self {
            icmp_type: echo.map_or(self.icmp_type, |(_, reply)| *reply),
            mark: 0,
            priority: 0,
            ..Self::new(self.protocol, self.to(), self.from())
        }
    }
}

impl Arrival {
    /// The first packet of a connection, by an interface.
    #[must_use]
    pub fn by(link: u32, packet: Packet) -> Self {
        Self {
            packet,
            origin: Origin::Link(link),
            tracking: Tracking::New,
        }
    }

    /// The first packet of a connection of the node's own.
    #[must_use]
    pub fn of_node(packet: Packet) -> Self {
        Self {
            packet,
            origin: Origin::Node,
            tracking: Tracking::New,
        }
    }

    /// The same packet in another state of tracking.
    #[must_use]
    pub fn tracked(self, tracking: Tracking) -> Self {
        Self { tracking, ..self }
    }
}

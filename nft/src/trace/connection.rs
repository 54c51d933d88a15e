//! What connection tracking remembers of a connection, and how it translates packets.
//!
//! A connection is two tuples: what its first packet looked like, and what an answer looks like
//! when it comes in. Where they are not each other's mirror, packets are translated.

use std::net::{IpAddr, SocketAddr};

use super::Packet;
use crate::{Hook, ct_state, ct_status, l4proto};

/// `IPS_SRC_NAT_DONE`: the source's translation, or that there is none, is settled.
const SNAT_DONE: u32 = 1 << 7;
/// `IPS_DST_NAT_DONE`
const DNAT_DONE: u32 = 1 << 8;

/// Source and destination of the packets of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Source; port 0 where the protocol has none.
    pub source: SocketAddr,
    /// Destination; port 0 where the protocol has none.
    pub destination: SocketAddr,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// Transport protocol.
    pub protocol: u8,
    /// How packets of the one who began come in.
    pub original: Tuple,
    /// How answers come in.
    pub reply: Tuple,
    /// Bits of [`ct_status`].
    pub status: u32,
    /// Bits of its label (`ct label`), bit 0 the lowest.
    pub label: u128,
}

/// Direction of a packet within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the one who began.
    Original,
    /// To the one who began.
    Reply,
}

/// What connection tracking finds for a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracking {
    /// The first packet of a connection.
    New,
    /// The first packet of a connection that another one announced (an expectation).
    Announced,
    /// A packet of this connection.
    Of(Connection, Direction),
    /// An ICMP error about a packet of this connection; it travels in this direction.
    Error(Connection, Direction),
    /// Belongs to no connection and cannot start one, such as a segment outside its window.
    Invalid,
}

/// Which end of a packet a hook translates (`HOOK2MANIP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// The connection that a packet has with it, from connection tracking on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    /// None: tracking has not seen it yet, or it is invalid.
    Nothing,
    /// Exempt.
    Untracked,
    /// A packet of a connection, or an ICMP error about it.
    Connection {
        connection: Connection,
        direction: Direction,
        error: bool,
    },
}

impl Tuple {
    /// The mirror: the answer to a packet of this tuple.
    #[must_use]
    pub fn inverted(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

impl Connection {
    /// The connection that a packet starts, without translation.
    #[must_use]
    pub fn started_by(packet: &Packet) -> Self {
        let original = Tuple {
            source: packet.from(),
            destination: packet.to(),
        };
        Self {
            protocol: packet.protocol,
            original,
            reply: original.inverted(),
            status: 0,
            label: 0,
        }
    }

    /// The same connection once its first packet is through the node.
    #[must_use]
    pub fn confirmed(self) -> Self {
        Self {
            status: self.status | ct_status::CONFIRMED,
            ..self
        }
    }

    /// The same connection once both sides were heard and, in TCP, the handshake is complete.
    #[must_use]
    pub fn established(self) -> Self {
        let assured = match self.protocol {
            l4proto::TCP => ct_status::ASSURED,
            _ => 0,
        };
        Self {
            status: self.status | ct_status::CONFIRMED | ct_status::SEEN_REPLY | assured,
            ..self
        }
    }

    /// Whether any of the bits of [`ct_status`] is set.
    #[must_use]
    pub fn has(&self, status: u32) -> bool {
        self.status & status != 0
    }

    /// Whether the translation of an end is settled (`nf_nat_initialized`).
    pub(super) fn is_settled(&self, end: End) -> bool {
        self.has(match end {
            End::Source => SNAT_DONE,
            End::Destination => DNAT_DONE,
        })
    }

    /// Settles that an end is translated no further.
    pub(super) fn settle(&mut self, end: End) {
        self.status |= match end {
            End::Source => SNAT_DONE,
            End::Destination => DNAT_DONE,
        };
    }

    /// Settles what an end of the first packet becomes (`nf_nat_setup_info`).
    pub(super) fn translate(&mut self, end: End, address: IpAddr, port: Option<u16>) {
        let (seen, bit) = match end {
            End::Source => (&mut self.reply.destination, ct_status::SNAT),
            End::Destination => (&mut self.reply.source, ct_status::DNAT),
        };
        let wanted = SocketAddr::new(address, port.unwrap_or(seen.port()));
        if *seen != wanted {
            *seen = wanted;
            self.status |= bit;
        }
        self.settle(end);
    }

    /// A packet with one end translated as the connection says (`nf_nat_packet`).
    pub(super) fn rewritten(&self, packet: Packet, direction: Direction, end: End) -> Packet {
        let translated = match (end, direction) {
            (End::Source, Direction::Original) | (End::Destination, Direction::Reply) => {
                ct_status::SNAT
            }
            (End::Destination, Direction::Original) | (End::Source, Direction::Reply) => {
                ct_status::DNAT
            }
        };
        if !self.has(translated) {
            return packet;
        }
        let target = match direction {
            Direction::Original => self.reply,
            Direction::Reply => self.original,
        }
        .inverted();
        match end {
            End::Source => Packet {
                source: target.source.ip(),
                source_port: target.source.port(),
                ..packet
            },
            End::Destination => Packet {
                destination: target.destination.ip(),
                destination_port: target.destination.port(),
                ..packet
            },
        }
    }
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

impl End {
    /// The end that a hook translates; none in the forward hook.
    pub(super) fn of(hook: Hook) -> Option<Self> {
        match hook {
            Hook::Prerouting | Hook::Output => Some(Self::Destination),
            Hook::Input | Hook::Postrouting => Some(Self::Source),
            Hook::Forward => None,
        }
    }
}

impl Attached {
    /// What tracking attaches to a packet (`nf_conntrack_in`).
    pub(super) fn found(tracking: Tracking, packet: &Packet) -> Self {
        let (mut connection, direction, error) = match tracking {
            Tracking::New => (Connection::started_by(packet), Direction::Original, false),
            Tracking::Announced => {
                let mut connection = Connection::started_by(packet);
                connection.status |= ct_status::EXPECTED;
                (connection, Direction::Original, false)
            }
            Tracking::Of(connection, direction) => (connection, direction, false),
            Tracking::Error(connection, direction) => (connection, direction, true),
            Tracking::Invalid => return Self::Nothing,
        };
        if direction == Direction::Reply && !error {
            connection.status |= ct_status::SEEN_REPLY;
        }
        Self::Connection {
            connection,
            direction,
            error,
        }
    }

    /// Bits of [`ct_state`] (`NF_CT_STATE_BIT`).
    pub(super) fn state(&self) -> u32 {
        match self {
            Self::Nothing => ct_state::INVALID,
            Self::Untracked => ct_state::UNTRACKED,
            Self::Connection { error: true, .. } => ct_state::RELATED,
            Self::Connection {
                direction: Direction::Reply,
                ..
            } => ct_state::ESTABLISHED,
            Self::Connection { connection, .. } if connection.has(ct_status::SEEN_REPLY) => {
                ct_state::ESTABLISHED
            }
            Self::Connection { connection, .. } if connection.has(ct_status::EXPECTED) => {
                ct_state::RELATED
            }
            Self::Connection { .. } => ct_state::NEW,
        }
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Nothing | Self::Untracked => None,
            Self::Connection { connection, .. } => Some(connection),
        }
    }

    /// The connection, if there is one.
    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Nothing | Self::Untracked => None,
            Self::Connection { connection, .. } => Some(connection),
        }
    }

    /// Whether the packet may still settle translations: no answer was seen, and it is no error.
    pub(super) fn is_first(&self) -> bool {
        match self {
            Self::Nothing | Self::Untracked | Self::Connection { error: true, .. } => false,
            Self::Connection { .. } => self.state() & (ct_state::NEW | ct_state::RELATED) != 0,
        }
    }
}

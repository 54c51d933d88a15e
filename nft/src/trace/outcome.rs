//! What became of a packet, and the packets that can follow it.

use super::{Arrival, Connection, Direction, Origin, Packet, Share, Step, Tracking, Update};
use crate::{Reject, ct_status, l4proto};

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The node itself has it.
    Delivered,
    /// It left by the interface with this index.
    Sent {
        /// Index of the interface.
        link: u32,
    },
    /// It was dropped by a rule, a policy, or for want of an address to masquerade with.
    Dropped,
    /// It was refused with an answer.
    Rejected(Reject),
    /// There is no route.
    Unroutable,
    /// The table has something that cannot be followed.
    Unknown(String),
}

/// An end that a packet can come to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// What became of it.
    pub fate: Fate,
    /// The packet as it was then.
    pub packet: Packet,
    /// Its connection, if it has one.
    pub connection: Option<Connection>,
    /// What it put into dynamic sets.
    pub updates: Vec<Update>,
}

/// One outcome and how the packet came to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace<'t> {
    /// The packet at its beginning.
    pub arrival: Arrival,
    /// Its end.
    pub outcome: Outcome,
    /// How large a part of all such packets comes to this end.
    pub share: Share,
    /// The steps to there; where several ways lead to the same end, those of the first.
    pub steps: Vec<Step<'t>>,
}

impl Outcome {
    /// Whether the packet got anywhere.
    #[must_use]
    pub fn arrives(&self) -> bool {
        match self.fate {
            Fate::Delivered | Fate::Sent { .. } => true,
            Fate::Dropped | Fate::Rejected(_) | Fate::Unroutable | Fate::Unknown(_) => false,
        }
    }

    /// Whether the connection's destination is translated.
    #[must_use]
    pub fn is_dnat(&self) -> bool {
        self.has(ct_status::DNAT)
    }

    /// Whether the connection's source is translated.
    #[must_use]
    pub fn is_snat(&self) -> bool {
        self.has(ct_status::SNAT)
    }

    fn has(&self, status: u32) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.has(status))
    }
}

impl Trace<'_> {
    /// The answer of whoever got the packet, as it comes to the node; none if nobody did.
    ///
    /// A source port that masquerading chooses at random stays as it was in the model, so the
    /// answer goes there.
    #[must_use]
    pub fn reply(&self) -> Option<Arrival> {
        let origin = match self.outcome.fate {
            Fate::Delivered => Origin::Node,
            Fate::Sent { link } => Origin::Link(link),
            Fate::Dropped | Fate::Rejected(_) | Fate::Unroutable | Fate::Unknown(_) => return None,
        };
        Some(Arrival {
            packet: self.outcome.packet.answered(),
            origin,
            tracking: match &self.outcome.connection {
                Some(connection) => {
                    Tracking::Of(connection.clone().confirmed(), self.direction().opposite())
                }
                // A datagram starts a connection anew; no TCP, SCTP or ICMP connection starts
                // with an answer.
                None if self.arrival.packet.protocol == l4proto::UDP => Tracking::New,
                None => Tracking::Invalid,
            },
        })
    }

    /// The same packet once more, before any answer; none if it got nowhere.
    #[must_use]
    pub fn again(&self) -> Option<Arrival> {
        self.like(Connection::confirmed)
    }

    /// A later packet like the one that was traced, of the established connection; none if that
    /// got nowhere.
    #[must_use]
    pub fn later(&self) -> Option<Arrival> {
        self.like(Connection::established)
    }

    fn like(&self, state: fn(Connection) -> Connection) -> Option<Arrival> {
        let tracking = match &self.outcome.connection {
            Some(connection) => Tracking::Of(state(connection.clone()), self.direction()),
            None => self.arrival.tracking.clone(),
        };
        self.outcome.arrives().then(|| Arrival {
            tracking,
            ..self.arrival.clone()
        })
    }

    fn direction(&self) -> Direction {
        match self.arrival.tracking {
            Tracking::Of(_, direction) | Tracking::Error(_, direction) => direction,
            Tracking::New | Tracking::Announced | Tracking::Invalid => Direction::Original,
        }
    }
}

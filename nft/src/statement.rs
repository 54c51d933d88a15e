//! Statements of a rule: what it asks about a packet, and what it does with it.
//!
//! A [`Field`] says what is loaded. What a field presumes (an IPv4 header for `ip saddr`, TCP for
//! `tcp dport`) is checked by the encoder as nft does it: nobody writes it down, and a rule that
//! asks for an IPv4 address never reads an IPv6 header.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::{Type, Value};

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Goes on if a field compares.
    Match(Match),
    /// Goes on if the key is in a set, or if it is not.
    Lookup {
        /// The key's parts.
        key: Vec<Field>,
        /// Name of the set.
        set: String,
        /// Goes on if the key is *not* in the set.
        negated: bool,
    },
    /// Takes the verdict that stands under the key; goes on if there is none.
    Vmap {
        /// The key's parts.
        key: Vec<Field>,
        /// Name of the map.
        map: String,
    },
    /// Translates the destination, and ends the rule if it did.
    Dnat {
        /// Which packets.
        family: NatFamily,
        /// To what.
        to: NatTarget,
    },
    /// Translates the source to the address of the outgoing interface.
    Masquerade {
        /// Ports are chosen at random (`fully-random`).
        fully_random: bool,
    },
    /// Sets `meta priority`: the carrier of a number from one look-up to the next. A look-up that finds
    /// nothing ends the rule and leaves the old value.
    SetPriority(Class),
    /// Adds, refreshes or deletes an element of a dynamic set or map.
    Dynamic {
        /// What happens to the element.
        operation: Operation,
        /// Name of the set.
        set: String,
        /// The key's parts.
        key: Vec<Field>,
        /// How long the element stays; none: as long as the set says.
        timeout: Option<Duration>,
        /// What stands under the key if it is a map. It cannot come from another map: nft 1.0.6 aborts
        /// on listing such a rule.
        data: Option<Field>,
    },
    /// Exempts the packet from connection tracking.
    Notrack,
    /// Sets a bit of the label of the packet's connection. Entries of connections have room for labels only
    /// while some rule sets one.
    SetLabel(u8),
    /// Counts packets and bytes. The counts are the kernel's and no part of the model.
    Counter,
    /// Ends the rule.
    Verdict(Verdict),
    /// Refuses the packet with an answer.
    Reject(Reject),
    /// What the kernel holds and this model does not know: somebody else's rule. Only decoding
    /// makes it; a table that has it cannot be encoded.
    Unknown(String),
}

/// Where a class for `meta priority` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// This one; 0 is none.
    Literal(u32),
    /// What stands under the key.
    Map {
        /// The key's parts.
        key: Vec<Field>,
        /// Name of the map.
        map: String,
    },
}

/// What a packet does to an element of a dynamic set (`NFT_DYNSET_OP_*`). The first two end the rule where they
/// fail, as in a full set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Makes it if it is not there.
    Add,
    /// Makes it, or begins its time anew; data that is there stays.
    Update,
    /// Deletes it; the rule goes on whether it was there or not. Not for maps.
    Delete,
}

/// A comparison of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// What is looked at.
    pub field: Field,
    /// How.
    pub operator: Operator,
    /// With what.
    pub right: Right,
}

/// A comparison's operator.
///
/// For types that are bits (`ct state`, `ct status`, `ct label`) `Eq` means any of the bits and `Ne` none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// Is, or is among.
    Eq,
    /// Is not, or is not among.
    Ne,
}

/// A comparison's right side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// One value.
    Value(Value),
    /// Addresses of a network. [`Right::network`] makes it; a prefix of full length is a value.
    Network(IpNet),
    /// From the first to the last, both included.
    Range(Value, Value),
    /// One of several values (an anonymous set: for few values that never change).
    AnyOf(BTreeSet<Value>),
}

/// What is loaded from a packet, its connection or its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `iif`: index of the interface that it came by.
    Iif,
    /// `iifname`
    Iifname,
    /// `iifgroup`
    Iifgroup,
    /// `oif`: index of the interface that it leaves by.
    Oif,
    /// `oifname`
    Oifname,
    /// `oifgroup`
    Oifgroup,
    /// `meta l4proto`
    L4proto,
    /// `meta nfproto`
    Nfproto,
    /// `meta mark`, to read only: marks belong to others.
    Mark,
    /// `meta priority`: what [`Statement::SetPriority`] has set, or what the packet came with.
    Priority,
    /// `numgen random mod N offset M`: a number from the offset on, another one for each packet.
    Random {
        /// How many numbers, at least 1.
        modulus: u32,
        /// The smallest.
        offset: u32,
    },
    /// `ip saddr`
    IpSaddr,
    /// `ip daddr`
    IpDaddr,
    /// `ip6 saddr`
    Ip6Saddr,
    /// `ip6 daddr`
    Ip6Daddr,
    /// `th sport`, of whatever transport protocol; check `meta l4proto` before.
    ThSport,
    /// `th dport`, of whatever transport protocol; check `meta l4proto` before.
    ThDport,
    /// `tcp sport`
    TcpSport,
    /// `tcp dport`
    TcpDport,
    /// `udp sport`
    UdpSport,
    /// `udp dport`
    UdpDport,
    /// `sctp sport`
    SctpSport,
    /// `sctp dport`
    SctpDport,
    /// `icmpv6 type`
    Icmpv6Type,
    /// `ct state`
    CtState,
    /// `ct status`
    CtStatus,
    /// `ct direction`
    CtDirection,
    /// `ct original ip saddr`
    CtOriginalIpSaddr,
    /// `ct original ip daddr`
    CtOriginalIpDaddr,
    /// `ct original ip6 saddr`
    CtOriginalIp6Saddr,
    /// `ct original ip6 daddr`
    CtOriginalIp6Daddr,
    /// `ct protocol`
    CtProtocol,
    /// `ct original proto-src`: for TCP, UDP and SCTP the source port. nft 1.0.6 reads it as text only behind a
    /// check of `meta l4proto`.
    CtOriginalProtoSrc,
    /// `ct original proto-dst`: for TCP, UDP and SCTP the destination port. Like the source port.
    CtOriginalProtoDst,
    /// `ct label`
    CtLabel,
    /// `fib daddr type`
    FibDaddrType,
}

/// Family of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatFamily {
    /// IPv4
    Ip,
    /// IPv6
    Ip6,
}

/// Where a translation leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatTarget {
    /// Always there.
    Literal {
        /// The address.
        address: IpAddr,
        /// The port; none leaves it as it is.
        port: Option<u16>,
    },
    /// To the `address . port` that stands under the key; goes on if there is none.
    Map {
        /// The key's parts.
        key: Vec<Field>,
        /// Name of the map.
        map: String,
    },
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on to the next base chain.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the rule after the jump, or to the policy.
    Return,
    /// To a chain, and back afterwards.
    Jump(String),
    /// To a chain, without coming back.
    Goto(String),
}

/// How a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reject {
    /// A TCP reset; presumes TCP.
    TcpReset,
    /// ICMP or ICMPv6 "port unreachable".
    PortUnreachable,
    /// ICMP or ICMPv6 "administratively prohibited".
    AdminProhibited,
    /// ICMP or ICMPv6 "no route".
    NoRoute,
    /// ICMP or ICMPv6 "host unreachable".
    HostUnreachable,
}

impl Statement {
    /// Goes on if the field has the value.
    #[must_use]
    pub fn is(field: Field, value: Value) -> Self {
        Self::compare(field, Operator::Eq, Right::Value(value))
    }

    /// Goes on if the field has another value.
    #[must_use]
    pub fn is_not(field: Field, value: Value) -> Self {
        Self::compare(field, Operator::Ne, Right::Value(value))
    }

    /// Goes on if the field has one of the values.
    #[must_use]
    pub fn is_any(field: Field, values: impl IntoIterator<Item = Value>) -> Self {
        Self::compare(
            field,
            Operator::Eq,
            Right::AnyOf(values.into_iter().collect()),
        )
    }

    /// Goes on if the comparison holds.
    #[must_use]
    pub fn compare(field: Field, operator: Operator, right: Right) -> Self {
        Self::Match(Match {
            field,
            operator,
            right,
        })
    }

    /// Goes on if the key is in the set.
    #[must_use]
    pub fn in_set(key: impl IntoIterator<Item = Field>, set: impl Into<String>) -> Self {
        Self::Lookup {
            key: key.into_iter().collect(),
            set: set.into(),
            negated: false,
        }
    }

    /// Goes on if the key is not in the set.
    #[must_use]
    pub fn not_in_set(key: impl IntoIterator<Item = Field>, set: impl Into<String>) -> Self {
        Self::Lookup {
            key: key.into_iter().collect(),
            set: set.into(),
            negated: true,
        }
    }

    /// Takes the verdict that stands under the key.
    #[must_use]
    pub fn vmap(key: impl IntoIterator<Item = Field>, map: impl Into<String>) -> Self {
        Self::Vmap {
            key: key.into_iter().collect(),
            map: map.into(),
        }
    }

    /// To a chain, and back afterwards.
    #[must_use]
    pub fn jump(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Jump(chain.into()))
    }

    /// To a chain, without coming back.
    #[must_use]
    pub fn goto(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Goto(chain.into()))
    }
}

impl Right {
    /// The addresses of a network: a single value where the prefix has its full length.
    #[must_use]
    pub fn network(net: IpNet) -> Self {
        if net.prefix_len() == net.max_prefix_len() {
            Self::Value(net.addr().into())
        } else {
            Self::Network(net.trunc())
        }
    }
}

impl Field {
    /// The type of what is loaded.
    #[must_use]
    pub fn kind(self) -> Type {
        match self {
            Self::Iif | Self::Oif => Type::IfaceIndex,
            Self::Iifname | Self::Oifname => Type::Ifname,
            Self::Iifgroup | Self::Oifgroup => Type::DevGroup,
            Self::L4proto => Type::InetProto,
            Self::Nfproto => Type::NfProto,
            Self::Mark | Self::Random { .. } => Type::Mark,
            Self::Priority => Type::ClassId,
            Self::IpSaddr | Self::IpDaddr | Self::CtOriginalIpSaddr | Self::CtOriginalIpDaddr => {
                Type::Ipv4Addr
            }
            Self::Ip6Saddr
            | Self::Ip6Daddr
            | Self::CtOriginalIp6Saddr
            | Self::CtOriginalIp6Daddr => Type::Ipv6Addr,
            Self::ThSport
            | Self::ThDport
            | Self::TcpSport
            | Self::TcpDport
            | Self::UdpSport
            | Self::UdpDport
            | Self::SctpSport
            | Self::SctpDport
            | Self::CtOriginalProtoSrc
            | Self::CtOriginalProtoDst => Type::InetService,
            Self::CtProtocol => Type::InetProto,
            Self::CtLabel => Type::CtLabel,
            Self::Icmpv6Type => Type::Icmpv6Type,
            Self::CtState => Type::CtState,
            Self::CtStatus => Type::CtStatus,
            Self::CtDirection => Type::CtDir,
            Self::FibDaddrType => Type::FibAddrType,
        }
    }
}

impl Statement {
    /// The fields that the statement reads, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        let (first, second) = self.field_lists();
        first.iter().chain(second).copied()
    }

    fn field_lists(&self) -> (&[Field], &[Field]) {
        match self {
            Self::Match(Match { field, .. }) => (std::slice::from_ref(field), &[]),
            Self::Lookup { key, .. }
            | Self::Vmap { key, .. }
            | Self::SetPriority(Class::Map { key, .. })
            | Self::Dnat {
                to: NatTarget::Map { key, .. },
                ..
            } => (key, &[]),
            Self::Dynamic { key, data, .. } => (key, data.as_slice()),
            Self::Dnat { .. }
            | Self::SetPriority(Class::Literal(_))
            | Self::Masquerade { .. }
            | Self::Notrack
            | Self::SetLabel(_)
            | Self::Counter
            | Self::Verdict(_)
            | Self::Reject(_)
            | Self::Unknown(_) => (&[], &[]),
        }
    }

    /// The fields that the statement reads, to rename them.
    pub(crate) fn fields_mut(&mut self) -> impl Iterator<Item = &mut Field> {
        let (first, second): (&mut [Field], &mut [Field]) = match self {
            Self::Match(Match { field, .. }) => (std::slice::from_mut(field), &mut []),
            Self::Lookup { key, .. }
            | Self::Vmap { key, .. }
            | Self::SetPriority(Class::Map { key, .. })
            | Self::Dnat {
                to: NatTarget::Map { key, .. },
                ..
            } => (key, &mut []),
            Self::Dynamic { key, data, .. } => (key, data.as_mut_slice()),
            Self::Dnat { .. }
            | Self::SetPriority(Class::Literal(_))
            | Self::Masquerade { .. }
            | Self::Notrack
            | Self::SetLabel(_)
            | Self::Counter
            | Self::Verdict(_)
            | Self::Reject(_)
            | Self::Unknown(_) => (&mut [], &mut []),
        };
        first.iter_mut().chain(second)
    }
}

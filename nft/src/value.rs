//! Values that packets, sets and maps hold, with the kernel's bytes in mind but not in sight.
//!
//! Each value knows its [`Type`]; a field of a packet has one too, so that a rule that compares an
//! address with a port can be refused before the kernel sees it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Data type of a value, by the name that nft gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// `ipv4_addr`
    Ipv4Addr,
    /// `ipv6_addr`
    Ipv6Addr,
    /// `inet_proto`
    InetProto,
    /// `inet_service`
    InetService,
    /// `mark`
    Mark,
    /// `iface_index`
    IfaceIndex,
    /// `ifname`
    Ifname,
    /// `classid`
    ClassId,
    /// `devgroup`
    DevGroup,
    /// `nf_proto`
    NfProto,
    /// `icmpv6_type`
    Icmpv6Type,
    /// `ct_state`
    CtState,
    /// `ct_status`
    CtStatus,
    /// `ct_label`
    CtLabel,
    /// `ct_dir`
    CtDir,
    /// `fib_addrtype`
    FibAddrType,
}

/// A value of one type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// A transport protocol, see [`l4proto`].
    InetProto(u8),
    /// A port.
    InetService(u16),
    /// A packet's mark, or a plain number in a map.
    Mark(u32),
    /// Index of an interface.
    IfaceIndex(u32),
    /// Name of an interface, 1 to 15 bytes. In a comparison a final `*` stands for any ending.
    Ifname(String),
    /// A traffic class: major number in the high 16 bits, minor number in the low.
    ClassId(u32),
    /// Group of an interface.
    DevGroup(u32),
    /// IPv4 as a network protocol.
    NfProtoIpv4,
    /// IPv6 as a network protocol.
    NfProtoIpv6,
    /// Type of an ICMPv6 message, see [`icmpv6`].
    Icmpv6Type(u8),
    /// Bits of [`ct_state`]; a comparison asks whether any of them is set.
    CtState(u32),
    /// Bits of [`ct_status`]; a comparison asks whether any of them is set.
    CtStatus(u32),
    /// One bit of a connection's label, 0 to 127; a comparison asks whether it is set.
    CtLabel(u8),
    /// The direction of a connection's first packet.
    CtOriginal,
    /// The direction of the answer.
    CtReply,
    /// An address of the node (`RTN_LOCAL`).
    FibLocal,
}

/// Transport protocol numbers (IANA protocol numbers).
pub mod l4proto {
    /// ICMP
    pub const ICMP: u8 = 1;
    /// TCP
    pub const TCP: u8 = 6;
    /// UDP
    pub const UDP: u8 = 17;
    /// ICMPv6
    pub const ICMPV6: u8 = 58;
    /// SCTP
    pub const SCTP: u8 = 132;
}

/// ICMPv6 message types (RFC 4861).
pub mod icmpv6 {
    /// Router solicitation
    pub const ND_ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement
    pub const ND_ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation
    pub const ND_NEIGHBOR_SOLICIT: u8 = 135;
    /// Neighbour advertisement
    pub const ND_NEIGHBOR_ADVERT: u8 = 136;
    /// Redirect
    pub const ND_REDIRECT: u8 = 137;
}

/// Bits of a packet's state within its connection (`NF_CT_STATE_BIT`).
pub mod ct_state {
    /// Belongs to no connection and cannot start one.
    pub const INVALID: u32 = 1;
    /// Of a connection that was answered.
    pub const ESTABLISHED: u32 = 1 << 1;
    /// Starts a connection that another one announced, or an ICMP error about one.
    pub const RELATED: u32 = 1 << 2;
    /// Starts a connection.
    pub const NEW: u32 = 1 << 3;
    /// Exempt from connection tracking.
    pub const UNTRACKED: u32 = 1 << 6;
}

/// Bits of a connection's status (`IPS_*`).
pub mod ct_status {
    /// Another connection announced this one.
    pub const EXPECTED: u32 = 1;
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Is not dropped early when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// Its first packet left the node or was delivered.
    pub const CONFIRMED: u32 = 1 << 3;
    /// Its source is translated.
    pub const SNAT: u32 = 1 << 4;
    /// Its destination is translated.
    pub const DNAT: u32 = 1 << 5;
}

impl Value {
    /// The value's type.
    #[must_use]
    pub fn kind(&self) -> Type {
        match self {
            Self::Ipv4(_) => Type::Ipv4Addr,
            Self::Ipv6(_) => Type::Ipv6Addr,
            Self::InetProto(_) => Type::InetProto,
            Self::InetService(_) => Type::InetService,
            Self::Mark(_) => Type::Mark,
            Self::IfaceIndex(_) => Type::IfaceIndex,
            Self::Ifname(_) => Type::Ifname,
            Self::ClassId(_) => Type::ClassId,
            Self::DevGroup(_) => Type::DevGroup,
            Self::NfProtoIpv4 | Self::NfProtoIpv6 => Type::NfProto,
            Self::Icmpv6Type(_) => Type::Icmpv6Type,
            Self::CtState(_) => Type::CtState,
            Self::CtStatus(_) => Type::CtStatus,
            Self::CtLabel(_) => Type::CtLabel,
            Self::CtOriginal | Self::CtReply => Type::CtDir,
            Self::FibLocal => Type::FibAddrType,
        }
    }
}

impl Type {
    /// Values are bits, of which a comparison asks whether any is set.
    pub(crate) fn is_bits(self) -> bool {
        matches!(self, Self::CtState | Self::CtStatus | Self::CtLabel)
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Self {
        Self::Ipv4(address)
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Self {
        Self::Ipv6(address)
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::Ipv4(address),
            IpAddr::V6(address) => Self::Ipv6(address),
        }
    }
}

//! Values as nft writes them: words where it knows them, numbers elsewhere.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{Part, Value, ct_state, ct_status, icmpv6, l4proto};

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) => address.fmt(f),
            Self::InetProto(number) => word(f, &PROTOCOLS, *number),
            Self::InetService(port) => port.fmt(f),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::IfaceIndex(number) | Self::DevGroup(number) => number.fmt(f),
            Self::Ifname(name) => write!(f, "\"{name}\""),
            Self::CtLabel(bit) => bit.fmt(f),
            Self::ClassId(0) => f.write_str("none"),
            Self::ClassId(class) => write!(f, "{:x}:{:x}", class >> 16, class & 0xffff),
            Self::NfProtoIpv4 => f.write_str("ipv4"),
            Self::NfProtoIpv6 => f.write_str("ipv6"),
            Self::Icmpv6Type(number) => word(f, &ICMPV6_TYPES, *number),
            Self::CtState(bits) => flags(f, &CT_STATES, *bits),
            Self::CtStatus(bits) => flags(f, &CT_STATUSES, *bits),
            Self::CtOriginal => f.write_str("original"),
            Self::CtReply => f.write_str("reply"),
            Self::FibLocal => f.write_str("local"),
        }
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(value) => value.fmt(f),
            Self::Range(first, last) => match prefix_len(first, last) {
                Some(length) => write!(f, "{first}/{length}"),
                None => write_range(f, first, last),
            },
        }
    }
}

/// A range, in numbers alone: words have hyphens of their own.
pub(super) fn write_range(f: &mut Formatter<'_>, first: &Value, last: &Value) -> fmt::Result {
    match (first, last) {
        (Value::InetProto(first), Value::InetProto(last))
        | (Value::Icmpv6Type(first), Value::Icmpv6Type(last)) => write!(f, "{first}-{last}"),
        _ => write!(f, "{first}-{last}"),
    }
}

const PROTOCOLS: [(u8, &str); 5] = [
    (l4proto::ICMP, "icmp"),
    (l4proto::TCP, "tcp"),
    (l4proto::UDP, "udp"),
    (l4proto::ICMPV6, "ipv6-icmp"),
    (l4proto::SCTP, "sctp"),
];

const ICMPV6_TYPES: [(u8, &str); 5] = [
    (icmpv6::ND_ROUTER_SOLICIT, "nd-router-solicit"),
    (icmpv6::ND_ROUTER_ADVERT, "nd-router-advert"),
    (icmpv6::ND_NEIGHBOR_SOLICIT, "nd-neighbor-solicit"),
    (icmpv6::ND_NEIGHBOR_ADVERT, "nd-neighbor-advert"),
    (icmpv6::ND_REDIRECT, "nd-redirect"),
];

const CT_STATES: [(u32, &str); 5] = [
    (ct_state::INVALID, "invalid"),
    (ct_state::ESTABLISHED, "established"),
    (ct_state::RELATED, "related"),
    (ct_state::NEW, "new"),
    (ct_state::UNTRACKED, "untracked"),
];

const CT_STATUSES: [(u32, &str); 6] = [
    (ct_status::EXPECTED, "expected"),
    (ct_status::SEEN_REPLY, "seen-reply"),
    (ct_status::ASSURED, "assured"),
    (ct_status::CONFIRMED, "confirmed"),
    (ct_status::SNAT, "snat"),
    (ct_status::DNAT, "dnat"),
];

fn word(f: &mut Formatter<'_>, table: &[(u8, &str)], number: u8) -> fmt::Result {
    match table.iter().find(|(known, _)| *known == number) {
        Some((_, word)) => f.write_str(word),
        None => number.fmt(f),
    }
}

fn flags(f: &mut Formatter<'_>, table: &[(u32, &str)], bits: u32) -> fmt::Result {
    let known = table.iter().fold(0, |all, (bit, _)| all | bit);
    if bits == 0 || bits & !known != 0 {
        return write!(f, "{bits:#x}");
    }
    let words: Vec<&str> = table
        .iter()
        .filter_map(|(bit, word)| (bits & bit != 0).then_some(*word))
        .collect();
    f.write_str(&words.join(","))
}

/// The prefix length of the network that a range of addresses is, if it is one.
fn prefix_len(first: &Value, last: &Value) -> Option<u32> {
    match (first, last) {
        (Value::Ipv4(first), Value::Ipv4(last)) => {
            let (first, last) = (Ipv4Addr::to_bits(*first), Ipv4Addr::to_bits(*last));
            let host = first ^ last;
            (host & host.wrapping_add(1) == 0 && first & host == 0).then(|| host.leading_zeros())
        }
        (Value::Ipv6(first), Value::Ipv6(last)) => {
            let (first, last) = (Ipv6Addr::to_bits(*first), Ipv6Addr::to_bits(*last));
            let host = first ^ last;
            (host & host.wrapping_add(1) == 0 && first & host == 0).then(|| host.leading_zeros())
        }
        _ => None,
    }
}

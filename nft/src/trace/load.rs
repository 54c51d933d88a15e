//! What a field of a packet in flight holds, or why it holds nothing.
//!
//! A field that holds nothing breaks its rule, as the kernel's expression does.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use super::flight::Flight;
use super::{Attached, Connection, Direction, Host};
use crate::{Field, Value, l4proto};

/// Why a field holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Absent {
    /// The packet is of the other network protocol.
    Family,
    /// The packet is of another transport protocol.
    Protocol,
    /// The packet has no connection: not tracked yet, exempt or invalid.
    Connection,
    /// The packet has no such interface at this hook, or one that is not known.
    Interface,
}

impl Display for Absent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Family => "the packet is of the other network protocol",
            Self::Protocol => "the packet is of another transport protocol",
            Self::Connection => "the packet has no connection here",
            Self::Interface => "the packet has no such interface here",
        })
    }
}

/// A value, or none if it is one that the model has no name for and nothing compares to.
pub(super) type Loaded = Result<Option<Value>, Absent>;

/// All values that fields can have together: one list, or one for each number that may be drawn.
pub(super) fn load_all(
    fields: &[Field],
    flight: &Flight<'_>,
    host: &Host,
) -> Result<Vec<Vec<Option<Value>>>, Absent> {
    let mut all = vec![Vec::new()];
    for field in fields {
        let values = match field {
            Field::Random { modulus, offset } => (0..(*modulus).max(1))
                .map(|drawn| Some(Value::Mark(drawn.wrapping_add(*offset))))
                .collect(),
            field => vec![load(*field, flight, host)?],
        };
        let before = all.iter();
        all = before
            .flat_map(|before| {
                values.iter().map(|value| {
                    let mut longer = before.clone();
                    longer.push(value.clone());
                    longer
                })
            })
            .collect();
    }
    Ok(all)
}

/// Loads a field.
fn load(field: Field, flight: &Flight<'_>, host: &Host) -> Loaded {
    let packet = &flight.packet;
    let of_protocol = |protocol, port| match packet.protocol == protocol {
        true => value(Value::InetService(port)),
        false => Err(Absent::Protocol),
    };
    match field {
        Field::Iif => index(flight.iif),
        Field::Oif => index(flight.oif),
        Field::Iifname => name(flight.iif, host),
        Field::Oifname => name(flight.oif, host),
        Field::Iifgroup => group(flight.iif, host),
        Field::Oifgroup => group(flight.oif, host),
        Field::L4proto => value(Value::InetProto(packet.protocol)),
        Field::Nfproto => value(match packet.destination {
            IpAddr::V4(_) => Value::NfProtoIpv4,
            IpAddr::V6(_) => Value::NfProtoIpv6,
        }),
        Field::Mark => value(Value::Mark(packet.mark)),
        Field::Priority => value(Value::ClassId(packet.priority)),
        // `load_all` draws it.
        Field::Random { .. } => Ok(None),
        Field::IpSaddr => address(packet.source, Family::V4),
        Field::IpDaddr => address(packet.destination, Family::V4),
        Field::Ip6Saddr => address(packet.source, Family::V6),
        Field::Ip6Daddr => address(packet.destination, Family::V6),
        Field::ThSport => value(Value::InetService(packet.source_port)),
        Field::ThDport => value(Value::InetService(packet.destination_port)),
        Field::TcpSport => of_protocol(l4proto::TCP, packet.source_port),
        Field::TcpDport => of_protocol(l4proto::TCP, packet.destination_port),
        Field::UdpSport => of_protocol(l4proto::UDP, packet.source_port),
        Field::UdpDport => of_protocol(l4proto::UDP, packet.destination_port),
        Field::SctpSport => of_protocol(l4proto::SCTP, packet.source_port),
        Field::SctpDport => of_protocol(l4proto::SCTP, packet.destination_port),
        Field::Icmpv6Type => match (packet.destination, packet.protocol) {
            (IpAddr::V4(_), _) => Err(Absent::Family),
            (IpAddr::V6(_), l4proto::ICMPV6) => value(Value::Icmpv6Type(packet.icmp_type)),
            (IpAddr::V6(_), _) => Err(Absent::Protocol),
        },
        Field::CtState => value(Value::CtState(flight.attached.state())),
        Field::CtStatus => {
            let connection = connection(flight)?;
            value(Value::CtStatus(connection.status))
        }
        Field::CtDirection => match flight.attached {
            Attached::Nothing | Attached::Untracked => Err(Absent::Connection),
            Attached::Connection { direction, .. } => value(match direction {
                Direction::Original => Value::CtOriginal,
                Direction::Reply => Value::CtReply,
            }),
        },
        Field::CtOriginalIpSaddr => original(flight, |ends| ends.0, Family::V4),
        Field::CtOriginalIpDaddr => original(flight, |ends| ends.1, Family::V4),
        Field::CtOriginalIp6Saddr => original(flight, |ends| ends.0, Family::V6),
        Field::CtOriginalIp6Daddr => original(flight, |ends| ends.1, Family::V6),
        Field::CtProtocol => value(Value::InetProto(connection(flight)?.protocol)),
        Field::CtOriginalProtoSrc => value(Value::InetService(
            connection(flight)?.original.source.port(),
        )),
        Field::CtOriginalProtoDst => value(Value::InetService(
            connection(flight)?.original.destination.port(),
        )),
        // Several bits are no value of a key; comparisons look at the connection itself.
        Field::CtLabel => {
            let label = connection(flight)?.label;
            let single = label.is_power_of_two().then(|| label.trailing_zeros());
            Ok(single
                .and_then(|bit| u8::try_from(bit).ok())
                .map(Value::CtLabel))
        }
        // Addresses that are not the node's have types that rules of ours never name.
        Field::FibDaddrType => Ok(host.is_local(packet.destination).then_some(Value::FibLocal)),
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

fn value(value: Value) -> Loaded {
    Ok(Some(value))
}

fn address(address: IpAddr, family: Family) -> Loaded {
    match (address, family) {
        (IpAddr::V4(address), Family::V4) => value(address.into()),
        (IpAddr::V6(address), Family::V6) => value(address.into()),
        (IpAddr::V4(_), Family::V6) | (IpAddr::V6(_), Family::V4) => Err(Absent::Family),
    }
}

/// Without an interface the kernel loads 0.
fn index(link: Option<u32>) -> Loaded {
    value(Value::IfaceIndex(link.unwrap_or(0)))
}

/// Without an interface the kernel loads an empty name.
fn name(link: Option<u32>, host: &Host) -> Loaded {
    let Some(index) = link else {
        return value(Value::Ifname(String::new()));
    };
    let link = host.links.get(&index).ok_or(Absent::Interface)?;
    value(Value::Ifname(link.name.clone()))
}

/// Without an interface the kernel loads nothing.
fn group(link: Option<u32>, host: &Host) -> Loaded {
    let link = link.and_then(|index| host.links.get(&index));
    value(Value::DevGroup(link.ok_or(Absent::Interface)?.group))
}

fn connection<'f>(flight: &'f Flight<'_>) -> Result<&'f Connection, Absent> {
    flight.attached.connection().ok_or(Absent::Connection)
}

fn original(
    flight: &Flight<'_>,
    end: impl Fn((SocketAddr, SocketAddr)) -> SocketAddr,
    family: Family,
) -> Loaded {
    let tuple = connection(flight)?.original;
    address(end((tuple.source, tuple.destination)).ip(), family)
}

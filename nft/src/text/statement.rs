//! Statements as nft writes them.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use super::concatenation;
use super::value::write_range;
use crate::{
    Class, Field, Match, NatFamily, NatTarget, Operation, Operator, Reject, Right, Statement,
    Value, Verdict,
};

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(comparison) => comparison.fmt(f),
            Self::Lookup { key, set, negated } => {
                let operator = if *negated { " !=" } else { "" };
                write!(f, "{}{operator} @{set}", concatenation(key))
            }
            Self::Vmap { key, map } => write!(f, "{} vmap @{map}", concatenation(key)),
            Self::SetPriority(class) => write!(f, "meta priority set {class}"),
            Self::Dynamic {
                operation,
                set,
                key,
                timeout,
                data,
            } => {
                write!(f, "{operation} @{set} {{ {}", concatenation(key))?;
                if let Some(timeout) = timeout {
                    write!(f, " timeout {}ms", timeout.as_millis())?;
                }
                if let Some(data) = data {
                    write!(f, " : {data}")?;
                }
                f.write_str(" }")
            }
            Self::Dnat { family, to } => write!(f, "dnat {family} to {to}"),
            Self::Masquerade { fully_random } => f.write_str(if *fully_random {
                "masquerade fully-random"
            } else {
                "masquerade"
            }),
            Self::Notrack => f.write_str("notrack"),
            Self::SetLabel(bit) => write!(f, "ct label set {bit}"),
            Self::Counter => f.write_str("counter"),
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Reject(reject) => write!(f, "reject with {reject}"),
            Self::Unknown(what) => write!(f, "# unknown: {what}"),
        }
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            operator,
            right,
        } = self;
        let bits = field.kind().is_bits();
        let operator = match operator {
            Operator::Eq => "",
            Operator::Ne if bits => " !",
            Operator::Ne => " !=",
        };
        write!(f, "{field}{operator} {right}")
    }
}

impl Display for Right {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Network(net) => net.fmt(f),
            Self::Range(first, last) => write_range(f, first, last),
            Self::AnyOf(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, "{{ {} }}", values.join(", "))
            }
        }
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(class) => Value::ClassId(*class).fmt(f),
            Self::Map { key, map } => write!(f, "{} map @{map}", concatenation(key)),
        }
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Delete => "delete",
        })
    }
}

impl Display for NatFamily {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        })
    }
}

impl Display for NatTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal {
                address,
                port: None,
            } => address.fmt(f),
            Self::Literal {
                address: IpAddr::V4(address),
                port: Some(port),
            } => write!(f, "{address}:{port}"),
            Self::Literal {
                address: IpAddr::V6(address),
                port: Some(port),
            } => write!(f, "[{address}]:{port}"),
            Self::Map { key, map } => write!(f, "{} map @{map}", concatenation(key)),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Reject {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcpReset => "tcp reset",
            Self::PortUnreachable => "icmpx port-unreachable",
            Self::AdminProhibited => "icmpx admin-prohibited",
            Self::NoRoute => "icmpx no-route",
            Self::HostUnreachable => "icmpx host-unreachable",
        })
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random { modulus, offset } => {
                write!(f, "numgen random mod {modulus}")?;
                return if *offset == 0 {
                    Ok(())
                } else {
                    write!(f, " offset {offset}")
                };
            }
            Self::Priority => "meta priority",
            Self::CtProtocol => "ct protocol",
            Self::CtOriginalProtoSrc => "ct original proto-src",
            Self::CtOriginalProtoDst => "ct original proto-dst",
            Self::CtLabel => "ct label",
            Self::Iif => "iif",
            Self::Iifname => "iifname",
            Self::Iifgroup => "iifgroup",
            Self::Oif => "oif",
            Self::Oifname => "oifname",
            Self::Oifgroup => "oifgroup",
            Self::L4proto => "meta l4proto",
            Self::Nfproto => "meta nfproto",
            Self::Mark => "meta mark",
            Self::IpSaddr => "ip saddr",
            Self::IpDaddr => "ip daddr",
            Self::Ip6Saddr => "ip6 saddr",
            Self::Ip6Daddr => "ip6 daddr",
            Self::ThSport => "th sport",
            Self::ThDport => "th dport",
            Self::TcpSport => "tcp sport",
            Self::TcpDport => "tcp dport",
            Self::UdpSport => "udp sport",
            Self::UdpDport => "udp dport",
            Self::SctpSport => "sctp sport",
            Self::SctpDport => "sctp dport",
            Self::Icmpv6Type => "icmpv6 type",
            Self::CtState => "ct state",
            Self::CtStatus => "ct status",
            Self::CtDirection => "ct direction",
            Self::CtOriginalIpSaddr => "ct original ip saddr",
            Self::CtOriginalIpDaddr => "ct original ip daddr",
            Self::CtOriginalIp6Saddr => "ct original ip6 saddr",
            Self::CtOriginalIp6Daddr => "ct original ip6 daddr",
            Self::FibDaddrType => "fib daddr type",
        })
    }
}

//! Where a packet's fields are, in the terms of the kernel's expressions, both ways.

use crate::uapi::{NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER};
use crate::{Field, Match, Operator, Reject, Right, Statement, Value, l4proto};

/// The expression that loads a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// `meta` with this key (`NFT_META_*`).
    Meta(u32),
    /// `payload` of this base, offset and length.
    Payload(u32, u32, u32),
    /// `ct` with this key (`NFT_CT_*`) and, if any, direction.
    Ct(u32, Option<u8>),
    /// `numgen` of this modulus and offset.
    Random(u32, u32),
    /// `fib` that looks the destination address up and returns its type.
    FibDaddrType,
}

/// `NFT_META_PRIORITY`
pub(crate) const META_PRIORITY: u32 = 2;
/// `NFT_CT_LABELS`
pub(crate) const CT_LABELS: u32 = 13;
/// `IP_CT_DIR_ORIGINAL`
const ORIGINAL: u8 = 0;
const NETWORK: u32 = NFT_PAYLOAD_NETWORK_HEADER;
const TRANSPORT: u32 = NFT_PAYLOAD_TRANSPORT_HEADER;

const LOADS: [(Field, Load); 35] = [
    (Field::Priority, Load::Meta(META_PRIORITY)),
    (Field::Mark, Load::Meta(3)),
    (Field::Iif, Load::Meta(4)),
    (Field::Oif, Load::Meta(5)),
    (Field::Iifname, Load::Meta(6)),
    (Field::Oifname, Load::Meta(7)),
    (Field::Nfproto, Load::Meta(15)),
    (Field::L4proto, Load::Meta(16)),
    (Field::Iifgroup, Load::Meta(21)),
    (Field::Oifgroup, Load::Meta(22)),
    (Field::IpSaddr, Load::Payload(NETWORK, 12, 4)),
    (Field::IpDaddr, Load::Payload(NETWORK, 16, 4)),
    (Field::Ip6Saddr, Load::Payload(NETWORK, 8, 16)),
    (Field::Ip6Daddr, Load::Payload(NETWORK, 24, 16)),
    (Field::ThSport, Load::Payload(TRANSPORT, 0, 2)),
    (Field::ThDport, Load::Payload(TRANSPORT, 2, 2)),
    (Field::TcpSport, Load::Payload(TRANSPORT, 0, 2)),
    (Field::TcpDport, Load::Payload(TRANSPORT, 2, 2)),
    (Field::UdpSport, Load::Payload(TRANSPORT, 0, 2)),
    (Field::UdpDport, Load::Payload(TRANSPORT, 2, 2)),
    (Field::SctpSport, Load::Payload(TRANSPORT, 0, 2)),
    (Field::SctpDport, Load::Payload(TRANSPORT, 2, 2)),
    (Field::Icmpv6Type, Load::Payload(TRANSPORT, 0, 1)),
    (Field::CtState, Load::Ct(0, None)),
    (Field::CtDirection, Load::Ct(1, None)),
    (Field::CtStatus, Load::Ct(2, None)),
    (Field::CtOriginalIpSaddr, Load::Ct(19, Some(ORIGINAL))),
    (Field::CtOriginalIpDaddr, Load::Ct(20, Some(ORIGINAL))),
    (Field::CtOriginalIp6Saddr, Load::Ct(21, Some(ORIGINAL))),
    (Field::CtOriginalIp6Daddr, Load::Ct(22, Some(ORIGINAL))),
    (Field::CtProtocol, Load::Ct(10, None)),
    (Field::CtOriginalProtoSrc, Load::Ct(11, Some(ORIGINAL))),
    (Field::CtOriginalProtoDst, Load::Ct(12, Some(ORIGINAL))),
    (Field::CtLabel, Load::Ct(CT_LABELS, None)),
    (Field::FibDaddrType, Load::FibDaddrType),
];

impl Field {
    /// The expression that loads the field.
    pub(crate) fn load(self) -> Load {
        if let Self::Random { modulus, offset } = self {
            return Load::Random(modulus, offset);
        }
        let row = LOADS.iter().find(|(field, _)| *field == self);
        row.map_or(Load::FibDaddrType, |(_, load)| *load)
    }

    /// The field that an expression loads. Ports come back as `th` ports, see [`Field::of_transport`].
    pub(crate) fn loaded_by(load: Load) -> Option<Self> {
        if let Load::Random(modulus, offset) = load {
            return Some(Self::Random { modulus, offset });
        }
        let row = LOADS.iter().find(|(_, known)| *known == load);
        row.map(|(field, _)| *field)
    }

    /// The same port as a field of a transport protocol that is known to be there.
    pub(crate) fn of_transport(self, protocol: Option<u8>) -> Self {
        match (self, protocol) {
            (Self::ThSport, Some(l4proto::TCP)) => Self::TcpSport,
            (Self::ThDport, Some(l4proto::TCP)) => Self::TcpDport,
            (Self::ThSport, Some(l4proto::UDP)) => Self::UdpSport,
            (Self::ThDport, Some(l4proto::UDP)) => Self::UdpDport,
            (Self::ThSport, Some(l4proto::SCTP)) => Self::SctpSport,
            (Self::ThDport, Some(l4proto::SCTP)) => Self::SctpDport,
            (field, _) => field,
        }
    }

    /// What must be known of a packet before the field may be read: network and transport protocol.
    fn presumes(self) -> (Option<Value>, Option<u8>) {
        match self {
            Self::IpSaddr | Self::IpDaddr => (Some(Value::NfProtoIpv4), None),
            Self::Ip6Saddr | Self::Ip6Daddr => (Some(Value::NfProtoIpv6), None),
            Self::TcpSport | Self::TcpDport => (None, Some(l4proto::TCP)),
            Self::UdpSport | Self::UdpDport => (None, Some(l4proto::UDP)),
            Self::SctpSport | Self::SctpDport => (None, Some(l4proto::SCTP)),
            Self::Icmpv6Type => (Some(Value::NfProtoIpv6), Some(l4proto::ICMPV6)),
            Self::Iif
            | Self::Iifname
            | Self::Iifgroup
            | Self::Oif
            | Self::Oifname
            | Self::Oifgroup
            | Self::L4proto
            | Self::Nfproto
            | Self::Mark
            | Self::Priority
            | Self::Random { .. }
            | Self::ThSport
            | Self::ThDport
            | Self::CtState
            | Self::CtStatus
            | Self::CtDirection
            | Self::CtOriginalIpSaddr
            | Self::CtOriginalIpDaddr
            | Self::CtOriginalIp6Saddr
            | Self::CtOriginalIp6Daddr
            | Self::CtProtocol
            | Self::CtOriginalProtoSrc
            | Self::CtOriginalProtoDst
            | Self::CtLabel
            | Self::FibDaddrType => (None, None),
        }
    }
}

/// What a rule has made sure of so far.
///
/// The encoder adds the comparisons that fields presume, directly in front of the statement that
/// has them, and the decoder takes exactly those away again. A comparison that the rule's author
/// wrote counts as well, but not for the statement directly behind it: there it would look like
/// one of the encoder's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presumed {
    network: Option<Value>,
    pub(crate) transport: Option<u8>,
    /// Comparisons directly in front of the statement that comes next.
    in_front: Vec<(Option<Value>, Option<u8>)>,
}

impl Presumed {
    /// The comparisons that a statement needs in front of it, in order. They count from now on.
    pub(crate) fn needs(&mut self, statement: &Statement) -> Vec<Statement> {
        if let Some(presumption) = statement.as_presumption() {
            self.in_front.push(presumption);
            return Vec::new();
        }
        let mut known = self.clone();
        let mut needs = Vec::new();
        for (network, transport) in presumptions(statement) {
            if network.is_some() && network != known.network {
                needs.extend(
                    network
                        .clone()
                        .map(|protocol| Statement::is(Field::Nfproto, protocol)),
                );
            }
            if transport.is_some() && transport != known.transport {
                let protocol = transport.map(Value::InetProto);
                needs.extend(protocol.map(|protocol| Statement::is(Field::L4proto, protocol)));
            }
            known.learn((network, transport));
        }
        for presumption in std::mem::take(&mut self.in_front) {
            self.learn(presumption);
        }
        for presumption in needs.iter().filter_map(Statement::as_presumption) {
            self.learn(presumption);
        }
        needs
    }

    fn learn(&mut self, (network, transport): (Option<Value>, Option<u8>)) {
        if network.is_some() {
            self.network = network;
        }
        if transport.is_some() {
            self.transport = transport;
        }
    }
}

impl Statement {
    /// What a comparison makes sure of, if it is one that the encoder puts in front of statements.
    pub(crate) fn as_presumption(&self) -> Option<(Option<Value>, Option<u8>)> {
        let Self::Match(Match {
            field: Field::Nfproto | Field::L4proto,
            operator: Operator::Eq,
            right: Right::Value(value),
        }) = self
        else {
            return None;
        };
        match value {
            Value::InetProto(protocol) => Some((None, Some(*protocol))),
            Value::NfProtoIpv4 | Value::NfProtoIpv6 => Some((Some(value.clone()), None)),
            _ => None,
        }
    }
}

fn presumptions(statement: &Statement) -> Vec<(Option<Value>, Option<u8>)> {
    let tcp = vec![(None, Some(l4proto::TCP))];
    match statement {
        Statement::Reject(Reject::TcpReset) => tcp,
        statement => statement.fields().map(|field| field.presumes()).collect(),
    }
}

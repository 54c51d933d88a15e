//! ctnetlink messages: what to filter by, and the deletion or label of a listed entry.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_REQUEST, Nla, NlasIterator};

/// `NFNL_SUBSYS_CTNETLINK` of linux/netfilter/nfnetlink.h.
const CTNETLINK: u16 = 1;
// Attributes of linux/netfilter/nfnetlink_conntrack.h.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_LABELS: u16 = 22;
const CTA_LABELS_MASK: u16 = 23;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
/// Bits of the filter's flags: compare source, or destination.
const FILTER_SRC: u32 = 1;
const FILTER_DST: u32 = 2;
/// And protocol, or destination port.
const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;
/// Length of `nfgenmsg`.
const NFGEN: usize = 4;

/// One of the four places of an address in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    reply: bool,
    destination: bool,
}

/// What to do with the entries that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// `IPCTNL_MSG_CT_NEW`: without the flag to make one, a change.
    Change = 0,
    /// `IPCTNL_MSG_CT_GET`
    Get = 1,
    /// `IPCTNL_MSG_CT_DELETE`
    Delete = 2,
}

/// A message without its sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    verb: Verb,
    family: u8,
    attributes: Vec<DefaultNla>,
}

impl End {
    pub(super) const ALL: [Self; 4] = [
        Self {
            reply: false,
            destination: false,
        },
        Self {
            reply: true,
            destination: false,
        },
        Self {
            reply: false,
            destination: true,
        },
        Self {
            reply: true,
            destination: true,
        },
    ];

    fn tuple(self) -> u16 {
        if self.reply {
            CTA_TUPLE_REPLY
        } else {
            CTA_TUPLE_ORIG
        }
    }

    fn attribute(self, address: IpAddr) -> u16 {
        let source = if address.is_ipv4() {
            CTA_IP_V4_SRC
        } else {
            CTA_IP_V6_SRC
        };
        source + u16::from(self.destination)
    }
}

impl Request {
    pub(super) fn encode(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = 16 + NFGEN + self.attributes.as_slice().buffer_len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend((length as u32).to_ne_bytes());
        bytes.extend((CTNETLINK << 8 | self.verb as u16).to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.family, 0, 0, 0]);
        bytes.resize(length, 0);
        self.attributes.as_slice().emit(&mut bytes[16 + NFGEN..]);
        bytes
    }
}

/// What entries have in common that are listed: a family, and parts of their original tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common {
    pub ipv6: bool,
    pub protocol: u8,
    pub destination: Option<IpAddr>,
    pub port: Option<u16>,
}

/// What a listed entry says: where its first packet went, and who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub protocol: u8,
    pub to: SocketAddr,
    pub answers: SocketAddr,
}

/// Lists all entries of the address' family.
pub(super) fn list(address: IpAddr) -> Request {
    Request {
        verb: Verb::Get,
        family: family(address),
        attributes: Vec::new(),
    }
}

/// Lists entries that have something in common. Kernels before 5.8 list all of the family.
pub(super) fn list_common(common: &Common) -> Request {
    let Common {
        ipv6,
        protocol,
        destination,
        port,
    } = *common;
    let mut flags = FILTER_PROTO_NUM;
    let mut tuple = Vec::new();
    if let Some(destination) = destination {
        flags |= FILTER_DST;
        let end = End {
            reply: false,
            destination: true,
        };
        let address = DefaultNla::new(end.attribute(destination), octets(destination));
        tuple.push(nested(CTA_TUPLE_IP, &[address]));
    }
    let mut proto = vec![DefaultNla::new(CTA_PROTO_NUM, vec![protocol])];
    if let Some(port) = port {
        flags |= FILTER_PROTO_DST_PORT;
        let port = port.to_be_bytes().to_vec();
        proto.push(DefaultNla::new(CTA_PROTO_DST_PORT, port));
    }
    tuple.push(nested(CTA_TUPLE_PROTO, &proto));
    let filter = [
        DefaultNla::new(CTA_FILTER_ORIG_FLAGS, flags.to_ne_bytes().to_vec()),
        DefaultNla::new(CTA_FILTER_REPLY_FLAGS, 0u32.to_ne_bytes().to_vec()),
    ];
    Request {
        verb: Verb::Get,
        family: if ipv6 { 10 } else { 2 },
        attributes: vec![nested(CTA_TUPLE_ORIG, &tuple), nested(CTA_FILTER, &filter)],
    }
}

/// What is judged about a listed entry: who made the connection, and to where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tracked {
    pub protocol: u8,
    pub source: IpAddr,
    pub answers: IpAddr,
    pub port: u16,
    pub label: u128,
}

/// Reads a listed entry.
pub(super) fn tracked(payload: &[u8]) -> Option<Tracked> {
    let attributes = payload.get(NFGEN..)?;
    let (original, reply) = (
        find(attributes, CTA_TUPLE_ORIG)?,
        find(attributes, CTA_TUPLE_REPLY)?,
    );
    let proto = find(reply, CTA_TUPLE_PROTO)?;
    let port = find(proto, CTA_PROTO_SRC_PORT).and_then(|port| port.try_into().ok());
    let label = find(attributes, CTA_LABELS).and_then(|label| label.try_into().ok());
    Some(Tracked {
        protocol: *find(proto, CTA_PROTO_NUM)?.first()?,
        source: ip(find(original, CTA_TUPLE_IP)?, false)?,
        answers: ip(find(reply, CTA_TUPLE_IP)?, false)?,
        port: port.map_or(0, u16::from_be_bytes),
        label: label.map_or(0, u128::from_ne_bytes),
    })
}

/// A bit of the label of a listed entry, which its deletion names, set or taken away.
pub(super) fn labelling(deletion: &Request, bit: u8, set: bool) -> Request {
    let mask = 1_u128.checked_shl(bit.into()).unwrap_or(0);
    let value = if set { mask } else { 0 };
    // Not by its number: the kernel does not look at it here.
    let named = deletion.attributes.iter();
    let named = named.filter(|attribute| attribute.kind() != CTA_ID);
    let labels = [(CTA_LABELS, value), (CTA_LABELS_MASK, mask)];
    let labels = labels.map(|(kind, bits)| DefaultNla::new(kind, bits.to_ne_bytes().to_vec()));
    Request {
        verb: Verb::Change,
        family: deletion.family,
        attributes: named.cloned().chain(labels).collect(),
    }
}

/// Reads a listed entry; none where it has no ports.
pub(super) fn flow(payload: &[u8]) -> Option<Flow> {
    let attributes = payload.get(NFGEN..)?;
    let (original, reply) = (
        find(attributes, CTA_TUPLE_ORIG)?,
        find(attributes, CTA_TUPLE_REPLY)?,
    );
    let proto = find(original, CTA_TUPLE_PROTO)?;
    Some(Flow {
        protocol: *find(proto, CTA_PROTO_NUM)?.first()?,
        to: socket(original, true)?,
        answers: socket(reply, false)?,
    })
}

/// Destination or source of a tuple.
fn socket(tuple: &[u8], destination: bool) -> Option<SocketAddr> {
    let (ip, proto) = (find(tuple, CTA_TUPLE_IP)?, find(tuple, CTA_TUPLE_PROTO)?);
    let end = u16::from(destination);
    let address = self::ip(ip, destination)?;
    let port = find(proto, CTA_PROTO_SRC_PORT + end)?;
    Some(SocketAddr::new(
        address,
        u16::from_be_bytes(port.try_into().ok()?),
    ))
}

/// Destination or source of the addresses of a tuple.
fn ip(ip: &[u8], destination: bool) -> Option<IpAddr> {
    let end = u16::from(destination);
    match find(ip, CTA_IP_V4_SRC + end) {
        Some(octets) => Some(<[u8; 4]>::try_from(octets).ok()?.into()),
        None => Some(
            <[u8; 16]>::try_from(find(ip, CTA_IP_V6_SRC + end)?)
                .ok()?
                .into(),
        ),
    }
}

/// Deletes the entries that have the address at this end.
pub(super) fn deletion_by(end: End, address: IpAddr) -> Request {
    let octets = octets(address);
    let ip = nested(
        CTA_TUPLE_IP,
        &[DefaultNla::new(end.attribute(address), octets)],
    );
    let compared = if end.destination {
        FILTER_DST
    } else {
        FILTER_SRC
    };
    let flags = |wanted: bool| (if wanted { compared } else { 0 }).to_ne_bytes().to_vec();
    let filter = [
        DefaultNla::new(CTA_FILTER_ORIG_FLAGS, flags(!end.reply)),
        DefaultNla::new(CTA_FILTER_REPLY_FLAGS, flags(end.reply)),
    ];
    Request {
        verb: Verb::Delete,
        family: family(address),
        attributes: vec![nested(end.tuple(), &[ip]), nested(CTA_FILTER, &filter)],
    }
}

/// The deletion of a listed entry, if it has the address at any end.
pub(super) fn deletion_of(payload: &[u8], address: IpAddr) -> Option<Request> {
    let attributes = payload.get(NFGEN..)?;
    let wanted = octets(address);
    let is_at = |end: &End| {
        let ip = find(attributes, end.tuple()).and_then(|tuple| find(tuple, CTA_TUPLE_IP));
        ip.and_then(|ip| find(ip, end.attribute(address))) == Some(wanted.as_slice())
    };
    if !End::ALL.iter().any(is_at) {
        return None;
    }
    deletion(payload, address.is_ipv6())
}

/// The deletion of a listed entry.
pub(super) fn deletion(payload: &[u8], ipv6: bool) -> Option<Request> {
    let attributes = payload.get(NFGEN..)?;
    // The original tuple and the number of the entry: never another one that has the tuple by now.
    let kept = [(CTA_TUPLE_ORIG, NLA_F_NESTED), (CTA_ZONE, 0), (CTA_ID, 0)];
    let attributes = kept
        .into_iter()
        .filter_map(|(kind, flag)| {
            Some(DefaultNla::new(
                kind | flag,
                find(attributes, kind)?.to_vec(),
            ))
        })
        .collect();
    Some(Request {
        verb: Verb::Delete,
        family: if ipv6 { 10 } else { 2 },
        attributes,
    })
}

fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes)
        .flatten()
        .find(|attribute| attribute.kind() == kind)?;
    let length = usize::from(found.length());
    found.into_inner().get(4..length)
}

fn nested(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; inner.buffer_len()];
    inner.emit(&mut value);
    let nested = DefaultNla::new(kind | NLA_F_NESTED, value);
    debug_assert_eq!(nested.kind(), kind | NLA_F_NESTED);
    nested
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listed entry: orig 10.0.0.1 to 10.0.0.2, not translated, number 7.
    fn entry() -> Vec<u8> {
        let tuple = |source: [u8; 4], destination: [u8; 4]| {
            [nested(
                CTA_TUPLE_IP,
                &[
                    DefaultNla::new(1, source.to_vec()),
                    DefaultNla::new(2, destination.to_vec()),
                ],
            )]
        };
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let attributes = [
            nested(CTA_TUPLE_ORIG, &tuple(a, b)),
            nested(CTA_TUPLE_REPLY, &tuple(b, a)),
            DefaultNla::new(CTA_ID, vec![0, 0, 0, 7]),
        ];
        let mut bytes = vec![0; NFGEN + attributes.as_slice().buffer_len()];
        attributes.as_slice().emit(&mut bytes[NFGEN..]);
        bytes
    }

    #[test]
    fn an_entry_is_found_by_both_its_addresses_and_no_other() {
        let entry = entry();
        for (address, found) in [
            ("10.0.0.1", true),
            ("10.0.0.2", true),
            ("10.0.0.3", false),
            ("fd00::1", false),
        ] {
            let deletion = deletion_of(&entry, address.parse().unwrap());
            assert_eq!(deletion.is_some(), found, "{address}");
        }
    }

    #[test]
    fn a_deletion_names_the_very_entry() {
        let deletion = deletion_of(&entry(), "10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(deletion.verb, Verb::Delete);
        assert!(
            deletion
                .attributes
                .contains(&DefaultNla::new(CTA_ID, vec![0, 0, 0, 7]))
        );
    }
}

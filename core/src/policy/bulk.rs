//! The sets and maps that hold policies' elements, and what of them one entry stands for.
//!
//! Entries are the compact form in which units are held and compared; elements are made of them when
//! a transaction is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_nft::{DataType, Element, Key, Part as KeyPart, Set, Type, Value, l4proto};

use super::ports::Part;
use crate::view::{Family, Protocol};

/// So many ports of a range become elements of their own; more become one interval. Intervals cost a
/// copy of their whole set in each transaction.
const SINGLE_PORTS: u16 = 64;

/// Which way a connection is made, seen from a local pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the pod.
    In,
    /// From the pod.
    Out,
}

/// What becomes of what is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Default {
    /// It is denied: the lists say what is allowed.
    Deny,
    /// It is allowed: the lists say what is denied.
    Allow,
}

/// What a list's elements are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Everything.
    All,
    /// What is neither TCP, UDP nor SCTP.
    Other,
    /// All ports of a protocol.
    Protocol,
    /// A port.
    Port,
    /// A range of ports.
    Range,
}

/// A set or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bulk {
    /// Links of pods that policies say something about, by what becomes of the rest.
    Subjects(Direction, Default),
    /// Each such link twice: a pod may always reach itself.
    Themselves,
    /// Address of a pod or node to identity.
    Identities(Family),
    /// Identity to class.
    Classes,
    /// Address of anybody else to class.
    Networks(Family),
    /// Link, class, protocol and port of what is not as the rest.
    Listed(Direction, Default, Form),
}

/// One or a few elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Entry {
    Subject(Direction, Default, u32, Arc<str>),
    Itself(u32),
    Address(IpAddr, u32),
    Class(u32, u32),
    Network(IpAddr, IpAddr, u32),
    Listed(Direction, Default, u32, u32, Part),
}

/// Elements by set.
pub type Elements = BTreeMap<Bulk, BTreeMap<Key, Element>>;

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];
}

impl Default {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Deny, Self::Allow];
}

impl Form {
    /// All, in the order in which they are looked up.
    pub const ALL: [Self; 5] = [
        Self::Port,
        Self::Protocol,
        Self::All,
        Self::Other,
        Self::Range,
    ];
}

impl Bulk {
    /// Every set.
    pub fn all() -> impl Iterator<Item = Self> {
        let sides = || {
            let each = Direction::ALL.into_iter();
            each.flat_map(|way| Default::ALL.map(|rest| (way, rest)))
        };
        let subjects = sides().map(|(way, rest)| Self::Subjects(way, rest));
        let lists =
            sides().flat_map(|(way, rest)| Form::ALL.map(|form| Self::Listed(way, rest, form)));
        let families = Family::ALL.into_iter();
        subjects
            .chain([Self::Themselves, Self::Classes])
            .chain(families.flat_map(|family| [Self::Identities(family), Self::Networks(family)]))
            .chain(lists)
    }

    /// The set's name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Subjects(way, Default::Deny) => format!("isolated-{}", way.word()),
            Self::Subjects(way, Default::Allow) => format!("restricted-{}", way.word()),
            Self::Themselves => "same-pod".to_owned(),
            Self::Identities(Family::V4) => "identities4".to_owned(),
            Self::Identities(Family::V6) => "identities6".to_owned(),
            Self::Classes => "classes".to_owned(),
            Self::Networks(Family::V4) => "network-classes4".to_owned(),
            Self::Networks(Family::V6) => "network-classes6".to_owned(),
            Self::Listed(way, rest, form) => {
                let verdict = match rest {
                    Default::Deny => "allow",
                    Default::Allow => "deny",
                };
                let form = match form {
                    Form::All => "all",
                    Form::Other => "other",
                    Form::Protocol => "protocol",
                    Form::Port => "port",
                    Form::Range => "range",
                };
                format!("{verdict}-{}-{form}", way.word())
            }
        }
    }

    /// The set of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::all().find(|bulk| bulk.name() == name)
    }

    /// Keys may be ranges.
    #[must_use]
    pub fn has_intervals(self) -> bool {
        matches!(self, Self::Networks(_) | Self::Listed(_, _, Form::Range))
    }

    /// The set's definition.
    #[must_use]
    pub fn definition(self) -> Set {
        let class = || DataType::Values(vec![Type::ClassId]);
        let link_and_class = [Type::IfaceIndex, Type::ClassId];
        let (set, comment) = match self {
            Self::Subjects(_, Default::Deny) => (
                Set::new([Type::IfaceIndex]),
                "links of pods that are isolated by policies",
            ),
            Self::Subjects(_, Default::Allow) => (
                Set::new([Type::IfaceIndex]),
                "links of pods to which policies deny some things",
            ),
            Self::Themselves => (
                Set::new([Type::IfaceIndex, Type::IfaceIndex]),
                "a pod may always reach itself",
            ),
            Self::Identities(family) => (
                Set::map([address(family)], class()),
                "address of a pod or node to identity: what policies can ask about it",
            ),
            Self::Classes => (
                Set::map([Type::ClassId], class()),
                "identity to class: identities that no policy here tells apart",
            ),
            Self::Networks(family) => (
                Set::map([address(family)], class()).with_intervals(),
                "address of anybody else to class",
            ),
            Self::Listed(_, rest, form) => {
                let set = match form {
                    Form::All | Form::Other => Set::new(link_and_class),
                    Form::Protocol => {
                        Set::new([link_and_class.as_slice(), &[Type::InetProto]].concat())
                    }
                    Form::Port | Form::Range => {
                        let more = [Type::InetProto, Type::InetService];
                        let set = Set::new([link_and_class.as_slice(), &more].concat());
                        if form == Form::Range {
                            set.with_intervals()
                        } else {
                            set
                        }
                    }
                };
                (set, rest.comment())
            }
        };
        set.with_comment(comment)
    }
}

impl Default {
    fn comment(self) -> &'static str {
        match self {
            Self::Deny => "pod's link, class of the other side, protocol, port: allowed",
            Self::Allow => "pod's link, class of the other side, protocol, port: denied",
        }
    }
}

impl Direction {
    /// As it stands in names.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl Entry {
    /// Whether it may have elements of a set.
    pub fn is_of(&self, set: Bulk) -> bool {
        match (self, set) {
            (Self::Subject(way, rest, ..), Bulk::Subjects(of, default))
            | (Self::Listed(way, rest, ..), Bulk::Listed(of, default, _)) => {
                (*way, *rest) == (of, default)
            }
            (Self::Itself(_), Bulk::Themselves) | (Self::Class(..), Bulk::Classes) => true,
            (Self::Address(ip, _), Bulk::Identities(family))
            | (Self::Network(ip, ..), Bulk::Networks(family)) => Family::of(*ip) == family,
            _ => false,
        }
    }

    /// Adds its elements.
    pub fn render(&self, elements: &mut Elements) {
        let mut put = |bulk, key: Vec<KeyPart>, element| {
            let of: &mut BTreeMap<_, _> = elements.entry(bulk).or_default();
            of.insert(Key(key), element);
        };
        let link = |index: u32| KeyPart::One(Value::IfaceIndex(index));
        let number = |number: u32| KeyPart::One(Value::ClassId(number));
        let carry = |number: u32| Element::of([Value::ClassId(number)]);
        let none = Element::default;
        match self {
            Self::Subject(way, rest, index, pod) => {
                let comment = crate::compile::comment(pod);
                put(
                    Bulk::Subjects(*way, *rest),
                    vec![link(*index)],
                    none().with_comment(comment),
                );
            }
            Self::Itself(index) => {
                put(Bulk::Themselves, vec![link(*index), link(*index)], none());
            }
            Self::Address(ip, identity) => {
                let key = vec![KeyPart::One((*ip).into())];
                put(Bulk::Identities(Family::of(*ip)), key, carry(*identity));
            }
            Self::Class(identity, class) => {
                put(Bulk::Classes, vec![number(*identity)], carry(*class));
            }
            Self::Network(first, last, class) => {
                let key = vec![KeyPart::range((*first).into(), (*last).into())];
                put(Bulk::Networks(Family::of(*first)), key, carry(*class));
            }
            Self::Listed(way, rest, index, class, part) => {
                let mut put = |form, rest_of_key: Vec<KeyPart>| {
                    let mut key = vec![link(*index), number(*class)];
                    key.extend(rest_of_key);
                    put(Bulk::Listed(*way, *rest, form), key, none());
                };
                let port = Value::InetService;
                match *part {
                    Part::All => put(Form::All, vec![]),
                    Part::Other => put(Form::Other, vec![]),
                    Part::Protocol(of) => put(Form::Protocol, vec![protocol(of)]),
                    Part::Ports(of, first, last) if last - first < SINGLE_PORTS => {
                        for one in first..=last {
                            put(Form::Port, vec![protocol(of), KeyPart::One(port(one))]);
                        }
                    }
                    Part::Ports(of, first, last) => {
                        let range = KeyPart::range(port(first), port(last));
                        put(Form::Range, vec![protocol(of), range]);
                    }
                }
            }
        }
    }
}

/// Number of a protocol.
pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => l4proto::TCP,
        Protocol::Udp => l4proto::UDP,
        Protocol::Sctp => l4proto::SCTP,
    }
}

fn protocol(protocol: Protocol) -> KeyPart {
    KeyPart::One(Value::InetProto(protocol_number(protocol)))
}

fn address(family: Family) -> Type {
    match family {
        Family::V4 => Type::Ipv4Addr,
        Family::V6 => Type::Ipv6Addr,
    }
}

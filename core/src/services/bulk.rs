//! The sets and maps whose elements are held here and never in the plan, and one Service's elements.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_nft::{DataType, Element, Key, Part, Set, Type, Value};

use super::code::Code;
use super::numbers::Tuple;
use super::unit::{Compiled, Frontend, Group, Kind, Unit};
use crate::view::Family;

/// How many clients with affinity are remembered.
const CLIENTS: u32 = 131_072;

/// A set or map of one family. In the order in which elements are to be added: what leads to
/// another one comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bulk {
    /// An endpoint's address twice: it reached itself, or it is an endpoint.
    Pairs,
    /// Frontends whose connections are masqueraded.
    Masquerade,
    /// Frontends whose connections from the node itself are masqueraded.
    MasqueradeOwn,
    /// Number of an endpoint to its address and port.
    Addresses,
    /// Group and slot to the number of an endpoint.
    Slots,
    /// Group and slot to an endpoint's address and port.
    Endpoints,
    /// Frontend to group, for pods and the node where theirs is another one.
    InnerNumber,
    /// Frontend to group.
    Number,
    /// Frontend to choice, for pods and the node where theirs is another one.
    InnerCount,
    /// Frontend to choice, for others where the source decides.
    OuterCount,
    /// Frontend and sources that it is for, where it is not for all.
    Sources,
    /// Addresses of which no port is open but those of Services.
    ClusterIps,
    /// Frontend to choice: the first that a packet looks up.
    Count,
}

impl Bulk {
    /// All, in the order in which elements are to be added.
    pub const ALL: [Self; 13] = [
        Self::Pairs,
        Self::Masquerade,
        Self::MasqueradeOwn,
        Self::Addresses,
        Self::Slots,
        Self::Endpoints,
        Self::InnerNumber,
        Self::Number,
        Self::InnerCount,
        Self::OuterCount,
        Self::Sources,
        Self::ClusterIps,
        Self::Count,
    ];

    /// The set's name.
    #[must_use]
    pub fn name(self, family: Family) -> &'static str {
        let [v4, v6] = match self {
            Self::Pairs => ["endpoint-pairs4", "endpoint-pairs6"],
            Self::Masquerade => ["masquerade-services4", "masquerade-services6"],
            Self::MasqueradeOwn => ["masquerade-own4", "masquerade-own6"],
            Self::Addresses => ["affinity-address4", "affinity-address6"],
            Self::Slots => ["affinity-slot4", "affinity-slot6"],
            Self::Endpoints => ["eps4", "eps6"],
            Self::InnerNumber => ["inner-number4", "inner-number6"],
            Self::Number => ["number4", "number6"],
            Self::InnerCount => ["inner-count4", "inner-count6"],
            Self::OuterCount => ["outer-count4", "outer-count6"],
            Self::Sources => ["source-ranges4", "source-ranges6"],
            Self::ClusterIps => ["cluster-ips4", "cluster-ips6"],
            Self::Count => ["count4", "count6"],
        };
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// The set of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<(Self, Family)> {
        Self::ALL.into_iter().find_map(|bulk| {
            let family = Family::ALL
                .into_iter()
                .find(|family| bulk.name(*family) == name)?;
            Some((bulk, family))
        })
    }

    /// The set's definition.
    #[must_use]
    pub fn definition(self, family: Family) -> Set {
        let address = address_type(family);
        let tuple = || vec![address, Type::InetProto, Type::InetService];
        let carried = || DataType::Values(vec![Type::ClassId]);
        let endpoint = || DataType::Values(vec![address, Type::InetService]);
        let slot = [Type::ClassId, Type::Mark];
        let (set, comment) = match self {
            Self::Pairs => (
                Set::new([address, address]),
                "endpoints of services, twice each",
            ),
            Self::Masquerade => (
                Set::new(tuple()),
                "external addresses of services under traffic policy Cluster",
            ),
            Self::MasqueradeOwn => (
                Set::new(tuple()),
                "external addresses of services under traffic policy Local",
            ),
            Self::Addresses => (
                Set::map([Type::ClassId], endpoint()),
                "number of an endpoint, of services with affinity",
            ),
            Self::Slots => (
                Set::map(slot, carried()),
                "group and slot to number of an endpoint, of services with affinity",
            ),
            Self::Endpoints => (Set::map(slot, endpoint()), "group and slot to endpoint"),
            Self::InnerNumber => (
                Set::map(tuple(), carried()),
                "group of endpoints of pods and the node, where theirs is another one",
            ),
            Self::Number => (
                Set::map(tuple(), carried()),
                "group of endpoints of a service port",
            ),
            Self::InnerCount => (
                Set::map(tuple(), carried()),
                "how many endpoints pods and the node have, where theirs are others",
            ),
            Self::OuterCount => (
                Set::map(tuple(), carried()),
                "how many endpoints others have, where the source decides",
            ),
            Self::Sources => {
                let key = [tuple(), vec![address]].concat();
                let set = Set::new(key).with_intervals();
                (set, "sources that a load balancer address is for")
            }
            Self::ClusterIps => (Set::new([address]), "cluster IPs of services"),
            Self::Count => (
                Set::map(tuple(), carried()),
                "how many endpoints a service port has, or what becomes of it",
            ),
        };
        set.with_comment(comment)
    }
}

/// The map of clients with affinity: its elements are the kernel's own.
#[must_use]
pub fn clients(family: Family) -> (&'static str, Set) {
    let name = match family {
        Family::V4 => "affinity-clients4",
        Family::V6 => "affinity-clients6",
    };
    let data = DataType::Values(vec![Type::ClassId]);
    let address = address_type(family);
    let key = [address, address, Type::InetProto, Type::InetService];
    let mut set = Set::map(key, data).with_comment("client and frontend to number of an endpoint");
    set.flags.timeout = true;
    set.flags.dynamic = true;
    set.size = Some(CLIENTS);
    (name, set)
}

fn address_type(family: Family) -> Type {
    match family {
        Family::V4 => Type::Ipv4Addr,
        Family::V6 => Type::Ipv6Addr,
    }
}

/// Elements by set, as they are wanted.
pub(super) type Elements = BTreeMap<(Bulk, Family), BTreeMap<Key, Element>>;

/// Takes elements one by one.
pub(super) trait Sink {
    /// Whether elements of a set are taken; others are better not made.
    fn wants(&self, set: (Bulk, Family)) -> bool;

    fn put(&mut self, set: (Bulk, Family), key: Key, element: Element);
}

impl Sink for Elements {
    fn wants(&self, _: (Bulk, Family)) -> bool {
        true
    }

    fn put(&mut self, set: (Bulk, Family), key: Key, element: Element) {
        self.entry(set).or_default().insert(key, element);
    }
}

/// The elements of one Service.
pub(super) fn render(service: &str, compiled: &Compiled, sink: &mut impl Sink) {
    let Compiled { units, health: _ } = compiled;
    for unit in units {
        for frontend in &unit.frontends {
            render_frontend(service, unit, frontend, sink);
        }
        for group in unit.groups() {
            render_group(unit, group, sink);
        }
    }
}

/// The element of an address in a set of addresses or of pairs.
pub(super) fn address_element(set: Bulk, address: IpAddr) -> ((Bulk, Family), Key, Element) {
    let key = match set {
        Bulk::Pairs => Key::of([address.into(), address.into()]),
        _ => Key::of([address.into()]),
    };
    ((set, Family::of(address)), key, Element::default())
}

fn render_frontend(service: &str, unit: &Unit, frontend: &Frontend, sink: &mut impl Sink) {
    let tuple = frontend.tuple(unit.protocol);
    let behind = unit.behind(frontend);
    let mut put = |set, element: &dyn Fn() -> Element| {
        if sink.wants((set, unit.family)) {
            sink.put((set, unit.family), tuple.key(), element());
        }
    };
    let outer = unit.code(behind.outer, false);
    let gate = Code::Gate {
        ranges: behind.ranges,
        inside: behind.inner.is_some(),
    };
    if behind.ranges || behind.inner.is_some() {
        put(Bulk::Count, &|| carry(gate.value()));
        put(Bulk::OuterCount, &|| carry(outer.value()));
    } else {
        put(Bulk::Count, &|| carry(outer.value()));
    }
    if let Some(group) = behind.outer.filter(|group| group.number != 0) {
        let comment = || crate::compile::comment(&format!("{service}:{}", unit.name));
        put(Bulk::Number, &|| {
            carry(group.number).with_comment(comment())
        });
    }
    if let Some(group) = behind.inner {
        let code = unit.code(Some(group), true);
        put(Bulk::InnerCount, &|| carry(code.value()));
        if group.number != 0 {
            put(Bulk::InnerNumber, &|| carry(group.number));
        }
    }
    match (frontend.kind, unit.external_local) {
        (Kind::Cluster, _) => {}
        (_, false) => put(Bulk::Masquerade, &Element::default),
        (_, true) => put(Bulk::MasqueradeOwn, &Element::default),
    }
    if behind.ranges && sink.wants((Bulk::Sources, unit.family)) {
        for net in ipnet::IpNet::aggregate(&unit.ranges.to_vec()) {
            let mut key = tuple.key();
            key.0.push(Part::from(net));
            sink.put((Bulk::Sources, unit.family), key, Element::default());
        }
    }
}

fn render_group(unit: &Unit, group: &Group, sink: &mut impl Sink) {
    let Group {
        number,
        endpoints,
        numbers,
    } = group;
    let sets = [Bulk::Endpoints, Bulk::Slots, Bulk::Addresses];
    let [direct, slots, addresses] = sets.map(|set| sink.wants((set, unit.family)));
    if !(direct || slots || addresses) {
        return;
    }
    let mut put = |set, key, element| sink.put((set, unit.family), key, element);
    for (slot, (address, port)) in (0..).zip(endpoints) {
        let key = || Key::of([Value::ClassId(*number), Value::Mark(slot)]);
        let endpoint = || Element::of([(*address).into(), Value::InetService(*port)]);
        match numbers.get(slot as usize) {
            None if direct => put(Bulk::Endpoints, key(), endpoint()),
            None => {}
            Some(own) => {
                if slots {
                    put(Bulk::Slots, key(), carry(*own));
                }
                if addresses {
                    put(Bulk::Addresses, Key::of([Value::ClassId(*own)]), endpoint());
                }
            }
        }
    }
}

fn carry(value: u32) -> Element {
    Element::of([Value::ClassId(value)])
}

impl Tuple {
    /// The key of a frontend.
    pub fn key(&self) -> Key {
        let Self {
            address,
            protocol,
            port,
        } = *self;
        Key::of([
            address.into(),
            Value::InetProto(protocol),
            Value::InetService(port),
        ])
    }

    /// The frontend of a key.
    pub fn of(key: &Key) -> Option<Self> {
        let [
            Part::One(address),
            Part::One(Value::InetProto(protocol)),
            Part::One(Value::InetService(port)),
        ] = key.0.as_slice()
        else {
            return None;
        };
        let address = match address {
            Value::Ipv4(address) => IpAddr::V4(*address),
            Value::Ipv6(address) => IpAddr::V6(*address),
            _ => return None,
        };
        Some(Self {
            address,
            protocol: *protocol,
            port: *port,
        })
    }
}

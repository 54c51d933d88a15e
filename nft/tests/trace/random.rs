//! Random tables and packets of a small world, so that rules apply often.
//!
//! Both are read off a tape of bytes: each byte answers one question. A shorter tape asks for less,
//! so what proptest shrinks is readable.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weft_nft::trace::{Origin, Packet};
use weft_nft::{
    Chain, ChainKind, Class, DataType, Element, Field, Hook, Key, NatFamily, NatTarget, Operation,
    Operator, Part, Policy, Reject, Right, Rule, Set, SetFlags, Statement, Table, TableFlags, Type,
    Value, Verdict, ct_state, ct_status, l4proto,
};

/// Bytes that answer questions; zeros where they have run out.
pub struct Tape<'b>(&'b [u8]);

/// Ports that rules and packets use.
const PORTS: [u16; 4] = [80, 81, 443, 5353];
/// IPv4 addresses: the pods, the node, outside, two services, a pod that is not there.
pub const V4: [&str; 7] = [
    "10.1.0.2",
    "10.1.0.3",
    "192.0.2.1",
    "198.51.100.9",
    "10.96.0.1",
    "10.96.0.2",
    "10.1.0.77",
];
/// The same in IPv6.
pub const V6: [&str; 7] = [
    "fd00:1::2",
    "fd00:1::3",
    "2001:db8::1",
    "2001:db8:9::9",
    "fd00:96::1",
    "fd00:96::2",
    "fd00:1::77",
];
/// Regular chains; each may lead to those behind it.
const REGULAR: [&str; 3] = ["r0", "r1", "r2"];

impl<'b> Tape<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// One of so many.
    fn next(&mut self, count: usize) -> usize {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        usize::from(*first) % count
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.next(all.len())].clone()
    }

    /// In so many of four cases.
    fn is(&mut self, quarters: usize) -> bool {
        self.next(4) < quarters
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a chain may have in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    Filter,
    DestinationNat,
    SourceNat,
    Regular(usize),
}

/// A table that the kernel takes.
pub fn table(name: &str, tape: &mut Tape<'_>, links: [u32; 3]) -> Table {
    let mut table = Table::new(name, TableFlags::default());
    for chain in REGULAR {
        table.chains.insert(chain.to_owned(), Chain::default());
    }
    sets(&mut table, tape, links);
    let number = 2 + tape.next(6);
    for _ in 0..number {
        let (name, chain, kind) = base(tape);
        let rules = rules(tape, kind, chain.base.map(|base| base.hook));
        table.chains.insert(name, chain.with_rules(rules));
    }
    for (number, name) in REGULAR.into_iter().enumerate() {
        let rules = rules(tape, Kind::Regular(number), None);
        table.chains.insert(name.to_owned(), Chain::regular(rules));
    }
    table
}

fn base(tape: &mut Tape<'_>) -> (String, Chain, Kind) {
    use Hook::{Forward, Input, Output, Postrouting, Prerouting};
    let (kind, hook, priority, content) = tape.of(&[
        (ChainKind::Nat, Prerouting, -100, Kind::DestinationNat),
        (ChainKind::Nat, Output, -100, Kind::DestinationNat),
        (ChainKind::Nat, Postrouting, 100, Kind::SourceNat),
        (ChainKind::Filter, Forward, 0, Kind::Filter),
        (ChainKind::Filter, Input, 0, Kind::Filter),
        (ChainKind::Filter, Output, 0, Kind::Filter),
        (ChainKind::Filter, Prerouting, -300, Kind::Raw),
        (ChainKind::Filter, Output, -300, Kind::Raw),
        (ChainKind::Filter, Prerouting, -150, Kind::Filter),
        (ChainKind::Filter, Prerouting, -50, Kind::Filter),
        (ChainKind::Filter, Postrouting, 50, Kind::Filter),
        (ChainKind::Filter, Postrouting, 150, Kind::Filter),
        (ChainKind::Filter, Forward, -10, Kind::Filter),
        (ChainKind::Route, Output, -150, Kind::Filter),
        (ChainKind::Nat, Prerouting, -90, Kind::DestinationNat),
        (ChainKind::Nat, Input, 90, Kind::Filter),
        (ChainKind::Filter, Input, 110, Kind::Filter),
    ]);
    let policy = match content {
        Kind::Filter if kind == ChainKind::Filter && tape.is(1) => Policy::Drop,
        _ => Policy::Accept,
    };
    let name = format!("{hook}{priority}").replace('-', "m");
    (name, Chain::base(kind, hook, priority, policy), content)
}

fn sets(table: &mut Table, tape: &mut Tape<'_>, links: [u32; 3]) {
    let target = |address| DataType::Values(vec![address, Type::InetService]);
    let mut add =
        |name: &str, set: Set, element: &mut dyn FnMut(&mut Tape<'_>) -> (Key, Element)| {
            let elements: Vec<_> = (0..tape.next(5)).map(|_| element(tape)).collect();
            table
                .sets
                .insert(name.to_owned(), set.with_elements(elements));
        };
    let plain = |key: Vec<Value>| (Key::of(key), Element::default());
    add(
        "hash4",
        Set::new([Type::Ipv4Addr, Type::InetService]),
        &mut |tape| plain(vec![v4(tape), port(tape)]),
    );
    add(
        "links",
        Set::new([Type::IfaceIndex, Type::Ipv6Addr]),
        &mut |tape| plain(vec![Value::IfaceIndex(tape.of(&links)), v6(tape)]),
    );
    add(
        "line4",
        Set::new([Type::Ipv4Addr]).with_intervals(),
        &mut |tape| {
            let nets = [
                "10.1.0.0/31",
                "10.1.0.2/31",
                "10.96.0.0/12",
                "192.0.2.1/32",
                "198.51.100.8/29",
            ];
            (Key(vec![net(tape.of(&nets)).into()]), Element::default())
        },
    );
    add(
        "ports",
        Set::new([Type::InetService]).with_intervals(),
        &mut |tape| {
            let (first, last) =
                tape.of(&[(1, 79), (80, 80), (81, 442), (443, 5352), (5353, 65535)]);
            let part = Part::range(Value::InetService(first), Value::InetService(last));
            (Key(vec![part]), Element::default())
        },
    );
    // Disjoint by its ports, so that the order of insertion decides nothing.
    add(
        "pairs6",
        Set::new([Type::Ipv6Addr, Type::InetService]).with_intervals(),
        &mut |tape| {
            let (length, first, last) = tape.of(&[
                ("64", 80, 80),
                ("128", 81, 100),
                ("120", 443, 443),
                ("96", 5000, 6000),
            ]);
            let at: ipnet::IpNet = net(&format!("fd00:1::2/{length}"));
            let part = Part::range(Value::InetService(first), Value::InetService(last));
            (Key(vec![at.trunc().into(), part]), Element::default())
        },
    );
    add(
        "byport",
        Set::map([Type::InetService], DataType::Verdict),
        &mut |tape| (port(tape).into(), Element::verdict(verdict(tape, 0))),
    );
    add(
        "bylink",
        Set::map([Type::Ifname], DataType::Verdict),
        &mut |tape| {
            (
                tape.of(&super::node::LINKS.map(ifname)).into(),
                Element::verdict(verdict(tape, 0)),
            )
        },
    );
    add(
        "to4",
        Set::map([Type::InetProto, Type::InetService], target(Type::Ipv4Addr)),
        &mut |tape| {
            (
                Key::of([protocol(tape), port(tape)]),
                Element::of([reachable(tape, V4), port(tape)]),
            )
        },
    );
    add(
        "to6",
        Set::map([Type::Ipv6Addr, Type::InetService], target(Type::Ipv6Addr)),
        &mut |tape| {
            (
                Key::of([v6(tape), port(tape)]),
                Element::of([reachable(tape, V6), port(tape)]),
            )
        },
    );
    let class = || DataType::Values(vec![Type::ClassId]);
    add(
        "number",
        Set::map([Type::InetService], class()),
        &mut |tape| (port(tape).into(), Element::of([class_id(tape)])),
    );
    add(
        "choose",
        Set::map([Type::ClassId], DataType::Verdict),
        &mut |tape| (class_id(tape).into(), Element::verdict(verdict(tape, 0))),
    );
    let slots = Set::map([Type::ClassId, Type::Mark], target(Type::Ipv4Addr));
    add("slots", slots, &mut |tape| {
        let slot = Value::Mark(tape.of(&[0, 1, 2]));
        (
            Key::of([class_id(tape), slot]),
            Element::of([reachable(tape, V4), port(tape)]),
        )
    });
    let dynamic = |set: Set, size| Set {
        flags: SetFlags {
            dynamic: true,
            timeout: true,
            ..SetFlags::default()
        },
        size: Some(size),
        timeout: Some(Duration::from_secs(600)),
        ..set
    };
    let sets = [
        (
            "seen",
            dynamic(Set::new([Type::Ipv4Addr, Type::InetService]), 1000),
        ),
        // Small enough to be full.
        ("clients", dynamic(Set::map([Type::Ipv4Addr], class()), 2)),
    ];
    table
        .sets
        .extend(sets.map(|(name, set)| (name.to_owned(), set)));
}

/// A change of a dynamic set. Only packets that are forwarded make them: what the kernel itself
/// answers to others is not traced. Deletions leave the smaller set alone, in which the kernel
/// frees places late.
fn change(tape: &mut Tape<'_>) -> Statement {
    let operations = [Operation::Add, Operation::Update, Operation::Delete];
    let (set, key, operation, data): (_, _, _, Option<Field>) = if tape.is(2) {
        (
            "seen",
            vec![Field::IpSaddr, Field::ThDport],
            tape.of(&operations),
            None,
        )
    } else {
        (
            "clients",
            vec![Field::IpSaddr],
            tape.of(&operations[..2]),
            Some(Field::Priority),
        )
    };
    Statement::Dynamic {
        operation,
        set: set.to_owned(),
        key,
        timeout: (operation != Operation::Delete).then_some(Duration::from_secs(300)),
        data,
    }
}

fn rules(tape: &mut Tape<'_>, kind: Kind, hook: Option<Hook>) -> Vec<Rule> {
    let count = tape.next(5);
    let rules = (0..count).map(|_| {
        let mut statements: Vec<Statement> = (0..tape.next(3)).map(|_| condition(tape)).collect();
        statements.push(action(tape, kind, hook));
        Rule::new(statements)
    });
    rules.collect()
}

fn condition(tape: &mut Tape<'_>) -> Statement {
    let operator = if tape.is(1) {
        Operator::Ne
    } else {
        Operator::Eq
    };
    let compare = |field, value| Statement::compare(field, operator, Right::Value(value));
    let right = |field, right| Statement::compare(field, operator, right);
    let lookup = |key: &[Field], set: &str| Statement::Lookup {
        key: key.to_vec(),
        set: set.to_owned(),
        negated: operator == Operator::Ne,
    };
    match tape.next(29) {
        0 => compare(Field::IpDaddr, v4(tape)),
        1 => compare(Field::Ip6Daddr, v6(tape)),
        2 => compare(Field::IpSaddr, v4(tape)),
        3 => compare(Field::Ip6Saddr, v6(tape)),
        4 => compare(Field::TcpDport, port(tape)),
        5 => compare(Field::UdpDport, port(tape)),
        6 => lookup(&[Field::IpDaddr, Field::ThDport], "hash4"),
        7 => lookup(&[Field::IpDaddr], "line4"),
        8 => lookup(&[Field::ThDport], "ports"),
        9 => lookup(&[Field::Ip6Daddr, Field::TcpDport], "pairs6"),
        10 => lookup(&[Field::Iif, Field::Ip6Saddr], "links"),
        11 => compare(
            Field::Iifname,
            tape.of(&["weft*", "weftred", "eth0", "lo"].map(ifname)),
        ),
        12 => compare(
            Field::Oifname,
            tape.of(&["weft*", "weftblue", "eth0", "lo"].map(ifname)),
        ),
        13 => compare(Field::Iifgroup, Value::DevGroup(super::node::PODS)),
        14 => compare(Field::Oifgroup, Value::DevGroup(super::node::PODS)),
        15 => {
            let states = [
                ct_state::NEW,
                ct_state::ESTABLISHED,
                ct_state::INVALID,
                ct_state::UNTRACKED,
            ];
            compare(
                Field::CtState,
                Value::CtState(tape.of(&states) | tape.of(&states)),
            )
        }
        16 => {
            let bits = [
                ct_status::SNAT,
                ct_status::DNAT,
                ct_status::SEEN_REPLY,
                ct_status::ASSURED,
                ct_status::CONFIRMED,
            ];
            compare(Field::CtStatus, Value::CtStatus(tape.of(&bits)))
        }
        17 => compare(
            Field::CtDirection,
            tape.of(&[Value::CtOriginal, Value::CtReply]),
        ),
        18 => compare(Field::CtOriginalIpDaddr, v4(tape)),
        19 => compare(Field::CtOriginalIp6Daddr, v6(tape)),
        20 => compare(Field::CtOriginalProtoDst, port(tape)),
        21 => compare(Field::FibDaddrType, Value::FibLocal),
        22 => right(
            Field::IpDaddr,
            Right::Network(net(tape.of(&["10.1.0.0/24", "10.96.0.0/12"]))),
        ),
        23 => right(
            Field::ThDport,
            Right::Range(Value::InetService(81), Value::InetService(500)),
        ),
        24 => right(
            Field::L4proto,
            Right::AnyOf([protocol(tape), protocol(tape)].into()),
        ),
        25 => compare(
            Field::Nfproto,
            tape.of(&[Value::NfProtoIpv4, Value::NfProtoIpv6]),
        ),
        26 => compare(Field::Icmpv6Type, Value::Icmpv6Type(tape.of(&[128, 129]))),
        27 => lookup(&[Field::IpSaddr, Field::ThDport], "seen"),
        _ => compare(Field::Priority, class_id(tape)),
    }
}

fn action(tape: &mut Tape<'_>, kind: Kind, hook: Option<Hook>) -> Statement {
    let regular = match kind {
        Kind::Regular(number) => number + 1,
        _ => 0,
    };
    match (kind, tape.next(14)) {
        (Kind::Filter, 12 | 13) if hook == Some(Hook::Forward) => change(tape),
        (_, 12) => Statement::SetPriority(Class::Map {
            key: vec![Field::IpSaddr],
            map: "clients".to_owned(),
        }),
        (Kind::DestinationNat, 0..=3) => dnat(tape),
        (Kind::DestinationNat, 4) => {
            to_map(NatFamily::Ip, &[Field::L4proto, Field::ThDport], "to4")
        }
        (Kind::DestinationNat, 5) => {
            to_map(NatFamily::Ip6, &[Field::Ip6Daddr, Field::ThDport], "to6")
        }
        (Kind::DestinationNat, 6 | 7) => {
            let random = Field::Random {
                modulus: 2,
                offset: tape.of(&[0, 1]),
            };
            to_map(NatFamily::Ip, &[Field::Priority, random], "slots")
        }
        (Kind::SourceNat, 0..=5) => Statement::Masquerade {
            fully_random: tape.is(2),
        },
        (Kind::Raw, 0..=4) => Statement::Notrack,
        (Kind::Filter, 1) => Statement::SetLabel(tape.of(&[5, 82])),
        (Kind::Filter, 0) if hook != Some(Hook::Prerouting) && hook != Some(Hook::Postrouting) => {
            Statement::Reject(tape.of(&[
                Reject::TcpReset,
                Reject::PortUnreachable,
                Reject::AdminProhibited,
                Reject::NoRoute,
            ]))
        }
        (_, 8) => Statement::SetPriority(Class::Literal(if tape.is(2) { 0 } else { 0x5200_0001 })),
        (_, 9) => Statement::SetPriority(Class::Map {
            key: vec![Field::ThDport],
            map: "number".to_owned(),
        }),
        (_, 10) if regular == 0 => match tape.next(3) {
            0 => Statement::vmap([Field::ThDport], "byport"),
            1 => Statement::vmap([Field::Iifname], "bylink"),
            _ => Statement::vmap([Field::Priority], "choose"),
        },
        (_, 11 | 13) => Statement::Counter,
        _ => Statement::Verdict(verdict(tape, regular)),
    }
}

/// A verdict that leads to no regular chain before this one.
fn verdict(tape: &mut Tape<'_>, from: usize) -> Verdict {
    let chain = REGULAR.get(from + tape.next(REGULAR.len()));
    match (tape.next(8), chain) {
        (0, _) => Verdict::Drop,
        (1 | 2, _) => Verdict::Accept,
        (3, _) | (_, None) => Verdict::Return,
        (4 | 5, Some(chain)) => Verdict::Goto((*chain).to_owned()),
        (_, Some(chain)) => Verdict::Jump((*chain).to_owned()),
    }
}

fn dnat(tape: &mut Tape<'_>) -> Statement {
    let (family, addresses) = tape.of(&[(NatFamily::Ip, V4), (NatFamily::Ip6, V6)]);
    let port = tape.is(3).then(|| tape.of(&PORTS));
    Statement::Dnat {
        family,
        to: NatTarget::Literal {
            address: addresses[tape.next(REACHABLE)].parse().unwrap(),
            port,
        },
    }
}

fn to_map(family: NatFamily, key: &[Field], map: &str) -> Statement {
    Statement::Dnat {
        family,
        to: NatTarget::Map {
            key: key.to_vec(),
            map: map.to_owned(),
        },
    }
}

/// The addresses up to here have somebody who can be reached.
const REACHABLE: usize = 4;

fn reachable(tape: &mut Tape<'_>, all: [&str; 7]) -> Value {
    address(all[tape.next(REACHABLE)])
}

fn v4(tape: &mut Tape<'_>) -> Value {
    address(tape.of(&V4))
}

fn v6(tape: &mut Tape<'_>) -> Value {
    address(tape.of(&V6))
}

fn port(tape: &mut Tape<'_>) -> Value {
    Value::InetService(tape.of(&PORTS))
}

fn class_id(tape: &mut Tape<'_>) -> Value {
    Value::ClassId(0x5200_0000 + u32::try_from(tape.next(3)).unwrap())
}

fn protocol(tape: &mut Tape<'_>) -> Value {
    Value::InetProto(tape.of(&[l4proto::TCP, l4proto::UDP]))
}

fn ifname(name: &str) -> Value {
    Value::Ifname(name.to_owned())
}

fn address(text: &str) -> Value {
    text.parse::<IpAddr>().unwrap().into()
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

/// A new connection from one of the pods, from outside or from the node itself.
pub fn packet(
    tape: &mut Tape<'_>,
    source_port: u16,
    [red, blue, up]: [u32; 3],
) -> (Origin, Packet) {
    let (from, origin) = tape.of(&[
        (0, Origin::Link(red)),
        (1, Origin::Link(blue)),
        (3, Origin::Link(up)),
        (2, Origin::Node),
    ]);
    let addresses = tape.of(&[V4, V6]);
    let to: IpAddr = tape.of(&addresses).parse().unwrap();
    let from: IpAddr = addresses[from].parse().unwrap();
    let packet = match tape.next(5) {
        4 => Packet {
            source_port,
            ..Packet::icmp(from, to, if to.is_ipv4() { 8 } else { 128 })
        },
        number => Packet::new(
            if number < 2 {
                l4proto::TCP
            } else {
                l4proto::UDP
            },
            SocketAddr::new(from, source_port),
            SocketAddr::new(to, tape.of(&PORTS)),
        ),
    };
    (origin, packet)
}

/// Whether the tape still asks for something.
pub fn goes_on(tape: &Tape<'_>) -> bool {
    !tape.is_over()
}

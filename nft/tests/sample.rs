//! A table with one of everything, in the form that the product uses it.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_nft::{
    Chain, ChainKind, Class, DataType, Element, Field, Hook, Key, NatFamily, NatTarget, Operation,
    Operator, Part, Policy, Reject, Right, Rule, Set, Statement, Table, TableFlags, Type, Value,
    Verdict, ct_state, ct_status, icmpv6, l4proto,
};

pub fn address(text: &str) -> Value {
    Value::from(text.parse::<std::net::IpAddr>().unwrap())
}

pub fn network(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

pub fn port(number: u16) -> Value {
    Value::InetService(number)
}

pub const TRANSPORTS: [Value; 3] = [
    Value::InetProto(l4proto::TCP),
    Value::InetProto(l4proto::UDP),
    Value::InetProto(l4proto::SCTP),
];

/// The table. Its flags are none: a test sets what it is about.
pub fn table() -> Table {
    Table {
        sets: sets(),
        chains: chains(),
        ..Table::new("sample", TableFlags::default())
    }
}

/// A table whose rules carry numbers from one look-up to the next. nft lists it; its text names types
/// that nft 1.0.6 does not take for `numgen`.
pub fn carrier() -> Table {
    let chains = [
        ("balance", balance()),
        ("choose", choose()),
        ("stick", stick()),
    ];
    Table {
        sets: service_sets(),
        chains: chains.map(|(name, chain)| (name.to_owned(), chain)).into(),
        ..Table::new("carrier", TableFlags::default())
    }
}

fn sets() -> BTreeMap<String, Set> {
    let target = |kind| DataType::Values(vec![kind, Type::InetService]);
    let sets = [
        (
            "pods",
            Set::new([Type::IfaceIndex, Type::Ipv4Addr])
                .with_comment("link and address of each pod")
                .with_elements([(
                    Key::of([Value::IfaceIndex(1), address("10.1.0.7")]),
                    Element::default().with_comment("default/web-0"),
                )]),
        ),
        (
            "networks4",
            Set::new([Type::Ipv4Addr]).with_intervals().with_elements([
                (network("10.0.0.0/8").into(), Element::default()),
                (
                    network("11.0.0.0/8").into(),
                    Element::default().with_comment("next to it"),
                ),
                (
                    Key(vec![Part::range(
                        address("192.0.2.9"),
                        address("192.0.2.77"),
                    )]),
                    Element::default(),
                ),
                (address("198.51.100.1").into(), Element::default()),
                (network("240.0.0.0/4").into(), Element::default()),
            ]),
        ),
        (
            "networks6",
            Set::new([Type::Ipv6Addr])
                .with_intervals()
                .with_elements([(network("fd00:10::/48").into(), Element::default())]),
        ),
        (
            "services",
            Set::new([Type::Ipv4Addr, Type::InetService])
                .with_intervals()
                .with_elements([
                    (
                        Key(vec![
                            network("10.96.0.0/12").into(),
                            Part::range(port(80), port(90)),
                        ]),
                        Element::default().with_comment("web"),
                    ),
                    (
                        Key::of([address("10.96.0.10"), port(53)]),
                        Element::default(),
                    ),
                ]),
        ),
        (
            "host-ports4",
            Set::map([Type::InetProto, Type::InetService], target(Type::Ipv4Addr))
                .with_comment("host ports at every address")
                .with_elements([(
                    Key::of([TRANSPORTS[0].clone(), port(8080)]),
                    Element::of([address("10.1.0.7"), port(80)]).with_comment("default/web-0"),
                )]),
        ),
        (
            "host-ports6",
            Set::map(
                [Type::Ipv6Addr, Type::InetProto, Type::InetService],
                target(Type::Ipv6Addr),
            )
            .with_elements([(
                Key::of([address("2001:db8::1"), TRANSPORTS[1].clone(), port(53)]),
                Element::of([address("fd00:10::7"), port(53)]),
            )]),
        ),
        (
            "by-link",
            Set::map([Type::Ifname], DataType::Verdict).with_elements([
                (
                    Value::Ifname("eth0".into()).into(),
                    Element::verdict(Verdict::Goto("refuse".into())).with_comment("the uplink"),
                ),
                (
                    Value::Ifname("lo".into()).into(),
                    Element::verdict(Verdict::Accept),
                ),
            ]),
        ),
        (
            "marks",
            Set::map(
                [Type::Mark, Type::DevGroup],
                DataType::Values(vec![Type::ClassId]),
            )
            .with_elements([(
                Key::of([Value::Mark(0x4000), Value::DevGroup(7)]),
                Element::of([Value::ClassId(0x8001_0002)]),
            )]),
        ),
        (
            "recent",
            Set {
                flags: weft_nft::SetFlags {
                    timeout: true,
                    ..Default::default()
                },
                size: Some(1000),
                timeout: Some(Duration::from_secs(60)),
                ..Set::new([Type::Ipv6Addr])
            },
        ),
    ];
    sets.map(|(name, set)| (name.to_owned(), set)).into()
}

fn chains() -> BTreeMap<String, Chain> {
    let chains = [
        (
            "refuse",
            Chain::regular([
                Rule::new([
                    Statement::is(Field::L4proto, TRANSPORTS[0].clone()),
                    Statement::Counter,
                    Statement::Reject(Reject::TcpReset),
                ]),
                Rule::new([Statement::Reject(Reject::AdminProhibited)]).with_comment("the rest"),
                Rule::new([Statement::Reject(Reject::PortUnreachable)]),
                Rule::new([Statement::Reject(Reject::NoRoute)]),
                Rule::new([Statement::Reject(Reject::HostUnreachable)]),
            ])
            .with_comment("answers instead of silence"),
        ),
        ("spoof", spoof()),
        ("forward", forward()),
        ("translate", translate()),
        ("leave", leave()),
        (
            "reroute",
            Chain::base(ChainKind::Route, Hook::Output, -5, Policy::Accept).with_rules([
                Rule::new([Statement::is(Field::ThSport, port(53)), Statement::Notrack]),
                Rule::new([
                    Statement::is(Field::ThSport, port(54)),
                    Statement::SetLabel(82),
                ]),
            ]),
        ),
    ];
    chains.map(|(name, chain)| (name.to_owned(), chain)).into()
}

fn spoof() -> Chain {
    let drop = || Statement::Verdict(Verdict::Drop);
    Chain::base(ChainKind::Filter, Hook::Prerouting, -300, Policy::Accept)
        .with_comment("what pods send must have their own address")
        .with_rules([
            Rule::new([
                Statement::is_not(Field::Iifgroup, Value::DevGroup(0x57)),
                Statement::Verdict(Verdict::Return),
            ]),
            Rule::new([
                Statement::is(Field::Iifname, Value::Ifname("weft*".into())),
                Statement::not_in_set([Field::Iif, Field::IpSaddr], "pods"),
                Statement::Counter,
                drop(),
            ])
            .with_comment("not the pod's address"),
            Rule::new([
                Statement::compare(
                    Field::Icmpv6Type,
                    Operator::Eq,
                    Right::Range(
                        Value::Icmpv6Type(icmpv6::ND_ROUTER_SOLICIT),
                        Value::Icmpv6Type(icmpv6::ND_REDIRECT),
                    ),
                ),
                drop(),
            ]),
            Rule::new([
                Statement::is(Field::UdpSport, port(67)),
                Statement::is(Field::UdpDport, port(68)),
                drop(),
            ]),
            Rule::new([
                Statement::is(Field::UdpDport, port(4789)),
                Statement::compare(
                    Field::Ip6Saddr,
                    Operator::Eq,
                    Right::network(network("fd00:10::/48")),
                ),
                Statement::Notrack,
            ]),
        ])
}

fn forward() -> Chain {
    let accept = || Statement::Verdict(Verdict::Accept);
    Chain::base(ChainKind::Filter, Hook::Forward, 0, Policy::Drop).with_rules([
        Rule::new([
            Statement::is(
                Field::CtState,
                Value::CtState(ct_state::ESTABLISHED | ct_state::RELATED),
            ),
            accept(),
        ]),
        Rule::new([
            Statement::is_not(Field::CtStatus, Value::CtStatus(ct_status::DNAT)),
            Statement::is(Field::CtDirection, Value::CtOriginal),
            Statement::is(Field::CtOriginalIpDaddr, address("192.0.2.1")),
            Statement::is_not(Field::CtOriginalIp6Saddr, address("2001:db8::9")),
            accept(),
        ]),
        Rule::new([Statement::vmap([Field::Iifname], "by-link")]),
        Rule::new([
            Statement::in_set([Field::IpDaddr, Field::TcpDport], "services"),
            accept(),
        ]),
        Rule::new([
            Statement::is_any(Field::TcpDport, [port(80), port(443)]),
            Statement::compare(
                Field::IpSaddr,
                Operator::Ne,
                Right::network(network("10.128.0.0/9")),
            ),
            Statement::is_not(Field::Mark, Value::Mark(0x4000)),
            accept(),
        ]),
        Rule::new([
            Statement::compare(
                Field::SctpDport,
                Operator::Ne,
                Right::Range(port(1000), port(2000)),
            ),
            Statement::Verdict(Verdict::Return),
        ]),
        Rule::new([
            Statement::compare(
                Field::Icmpv6Type,
                Operator::Ne,
                Right::AnyOf([Value::Icmpv6Type(128), Value::Icmpv6Type(129)].into()),
            ),
            Statement::is(Field::Nfproto, Value::NfProtoIpv6),
            Statement::jump("refuse"),
        ]),
        Rule::new([
            Statement::is(Field::Oif, Value::IfaceIndex(1)),
            Statement::is(Field::Oifgroup, Value::DevGroup(3)),
            Statement::goto("refuse"),
        ]),
    ])
}

fn translate() -> Chain {
    let to_map = |family, key: &[Field], map: &str| Statement::Dnat {
        family,
        to: NatTarget::Map {
            key: key.to_vec(),
            map: map.to_owned(),
        },
    };
    let transport = || Statement::is_any(Field::L4proto, TRANSPORTS);
    Chain::base(ChainKind::Nat, Hook::Prerouting, -100, Policy::Accept).with_rules([
        Rule::new([
            Statement::is(Field::FibDaddrType, Value::FibLocal),
            Statement::is(Field::Nfproto, Value::NfProtoIpv4),
            transport(),
            to_map(
                NatFamily::Ip,
                &[Field::L4proto, Field::ThDport],
                "host-ports4",
            ),
        ]),
        Rule::new([
            transport(),
            to_map(
                NatFamily::Ip6,
                &[Field::Ip6Daddr, Field::L4proto, Field::ThDport],
                "host-ports6",
            ),
        ]),
        Rule::new([
            Statement::is(Field::IpDaddr, address("192.0.2.53")),
            Statement::is(Field::UdpDport, port(53)),
            Statement::Dnat {
                family: NatFamily::Ip,
                to: NatTarget::Literal {
                    address: "10.1.0.7".parse().unwrap(),
                    port: Some(5353),
                },
            },
        ]),
        Rule::new([
            Statement::is(Field::Ip6Daddr, address("2001:db8::53")),
            Statement::is(Field::TcpSport, port(53)),
            Statement::Dnat {
                family: NatFamily::Ip6,
                to: NatTarget::Literal {
                    address: "fd00:10::7".parse().unwrap(),
                    port: Some(53),
                },
            },
        ]),
        Rule::new([
            Statement::is(Field::Ip6Daddr, address("2001:db8::54")),
            Statement::Dnat {
                family: NatFamily::Ip6,
                to: NatTarget::Literal {
                    address: "fd00:10::8".parse().unwrap(),
                    port: None,
                },
            },
        ]),
    ])
}

/// Maps as services have them: address to number and count, number and slot to endpoint.
fn service_sets() -> BTreeMap<String, Set> {
    let class = || DataType::Values(vec![Type::ClassId]);
    let tuple = [Type::Ipv4Addr, Type::InetProto, Type::InetService];
    let web = || Key::of([address("10.96.0.10"), TRANSPORTS[0].clone(), port(80)]);
    let number = Value::ClassId(0x5200_0007);
    let endpoint = Value::ClassId(0x5300_0001);
    let sets = [
        (
            "counts4",
            Set::map(tuple, class())
                .with_elements([(web(), Element::of([Value::ClassId(0x5100_0002)]))]),
        ),
        (
            "numbers4",
            Set::map(tuple, class()).with_elements([(
                web(),
                Element::of([number.clone()]).with_comment("default/web"),
            )]),
        ),
        (
            "endpoints4",
            Set::map(
                [Type::ClassId, Type::Mark],
                DataType::Values(vec![Type::Ipv4Addr, Type::InetService]),
            )
            .with_elements([(
                Key::of([number.clone(), Value::Mark(1)]),
                Element::of([address("10.1.0.7"), port(8080)]),
            )]),
        ),
        (
            "counts",
            Set::map([Type::ClassId], DataType::Verdict).with_elements([(
                Value::ClassId(0x5100_0002).into(),
                Element::verdict(Verdict::Goto("choose".into())),
            )]),
        ),
        (
            "slots",
            Set::map([Type::ClassId, Type::Mark], class()).with_elements([(
                Key::of([number, Value::Mark(0)]),
                Element::of([endpoint.clone()]),
            )]),
        ),
        (
            "clients4",
            Set {
                flags: weft_nft::SetFlags {
                    timeout: true,
                    dynamic: true,
                    ..Default::default()
                },
                size: Some(65535),
                timeout: Some(Duration::from_secs(10800)),
                ..Set::map([Type::Ipv4Addr, Type::ClassId], class())
            },
        ),
        (
            "seen6",
            Set {
                flags: weft_nft::SetFlags {
                    timeout: true,
                    dynamic: true,
                    ..Default::default()
                },
                size: Some(1024),
                ..Set::new([Type::Ipv6Addr])
            },
        ),
        (
            "by-endpoint4",
            Set::map(
                [Type::ClassId],
                DataType::Values(vec![Type::Ipv4Addr, Type::InetService]),
            )
            .with_elements([(
                endpoint.into(),
                Element::of([address("10.1.0.7"), port(80)]),
            )]),
        ),
    ];
    sets.map(|(name, set)| (name.to_owned(), set)).into()
}

fn balance() -> Chain {
    let tuple = || vec![Field::IpDaddr, Field::L4proto, Field::ThDport];
    Chain::base(ChainKind::Nat, Hook::Output, -100, Policy::Accept).with_rules([
        Rule::new([
            Statement::is_any(Field::L4proto, TRANSPORTS),
            Statement::SetPriority(Class::Map {
                key: tuple(),
                map: "counts4".into(),
            }),
        ]),
        Rule::new([Statement::vmap([Field::Priority], "counts")]),
    ])
}

fn choose() -> Chain {
    let slot = |modulus, offset| Field::Random { modulus, offset };
    Chain::regular([
        Rule::new([
            Statement::is_any(Field::L4proto, TRANSPORTS),
            Statement::SetPriority(Class::Map {
                key: vec![Field::IpDaddr, Field::L4proto, Field::ThDport],
                map: "numbers4".into(),
            }),
        ]),
        Rule::new([
            Statement::is_any(Field::L4proto, TRANSPORTS),
            Statement::Dnat {
                family: NatFamily::Ip,
                to: NatTarget::Map {
                    key: vec![Field::Priority, slot(2, 0)],
                    map: "endpoints4".into(),
                },
            },
        ]),
        Rule::new([
            Statement::is_any(Field::L4proto, TRANSPORTS),
            Statement::Dnat {
                family: NatFamily::Ip,
                to: NatTarget::Map {
                    key: vec![Field::Priority, slot(2, 5)],
                    map: "endpoints4".into(),
                },
            },
        ]),
        Rule::new([Statement::SetPriority(Class::Literal(0))]),
        Rule::new([
            Statement::is(Field::CtProtocol, TRANSPORTS[1].clone()),
            Statement::is(Field::L4proto, TRANSPORTS[1].clone()),
            Statement::is(Field::CtOriginalProtoDst, port(53)),
            Statement::is_not(Field::CtOriginalProtoSrc, port(53)),
            Statement::is(Field::CtLabel, Value::CtLabel(3)),
            Statement::is_not(Field::CtLabel, Value::CtLabel(127)),
            Statement::SetPriority(Class::Literal(0x0001_0002)),
        ]),
    ])
}

fn stick() -> Chain {
    let client = || vec![Field::IpSaddr, Field::Priority];
    let dynamic = |operation, timeout, data| Statement::Dynamic {
        operation,
        set: "clients4".into(),
        key: client(),
        timeout,
        data,
    };
    let hour = Some(Duration::from_secs(3600));
    Chain::regular([
        Rule::new([Statement::SetPriority(Class::Map {
            key: vec![
                Field::Priority,
                Field::Random {
                    modulus: 1,
                    offset: 0,
                },
            ],
            map: "slots".into(),
        })]),
        Rule::new([dynamic(Operation::Update, hour, Some(Field::Priority))]),
        Rule::new([dynamic(Operation::Add, None, Some(Field::Priority))]),
        Rule::new([dynamic(Operation::Delete, None, Some(Field::Priority))]),
        Rule::new([Statement::SetPriority(Class::Map {
            key: client(),
            map: "clients4".into(),
        })]),
        Rule::new([
            Statement::is_any(Field::L4proto, TRANSPORTS),
            Statement::Dnat {
                family: NatFamily::Ip,
                to: NatTarget::Map {
                    key: vec![Field::Priority],
                    map: "by-endpoint4".into(),
                },
            },
        ]),
        Rule::new([Statement::Dynamic {
            operation: Operation::Update,
            set: "seen6".into(),
            key: vec![Field::Ip6Saddr],
            timeout: hour,
            data: None,
        }]),
    ])
}

fn leave() -> Chain {
    Chain::base(ChainKind::Nat, Hook::Postrouting, 100, Policy::Accept).with_rules([
        Rule::new([
            Statement::in_set([Field::IpSaddr], "networks4"),
            Statement::not_in_set([Field::IpDaddr], "networks4"),
            Statement::is_not(Field::Oifname, Value::Ifname("lo".into())),
            Statement::Masquerade { fully_random: true },
        ]),
        Rule::new([
            Statement::in_set([Field::Ip6Saddr], "networks6"),
            Statement::not_in_set([Field::Ip6Daddr], "networks6"),
            Statement::Masquerade {
                fully_random: false,
            },
        ]),
    ])
}

//! Known tables against the kernel: refusals, random slots, dynamic sets; and tables that are not
//! the ones that were loaded, which the comparison must find out.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use weft_nft::trace::{Arrival, Fate, Origin, Packet, Tracer};
use weft_nft::{
    Chain, ChainKind, Class, DataType, Element, Field, Hook, Key, NatFamily, NatTarget, Operation,
    Policy, Reject, Rule, Set, SetFlags, Statement, Table, TableFlags, Type, Value, Verdict,
    ct_status, replace,
};

use super::node::Place;
use super::wire::{Heard, Phase};
use super::{Bench, refusal, run};

const CLIENTS: [&str; 2] = ["10.1.0.2", "fd00:1::2"];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn port(port: u16) -> Value {
    Value::InetService(port)
}

fn address(text: &str) -> Value {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

fn rule(statements: impl IntoIterator<Item = Statement>) -> Rule {
    Rule::new(statements)
}

fn drop() -> Statement {
    Statement::Verdict(Verdict::Drop)
}

fn dnat(to: &str) -> Statement {
    Statement::Dnat {
        family: NatFamily::Ip,
        to: NatTarget::Literal {
            address: at(to).ip(),
            port: Some(at(to).port()),
        },
    }
}

fn to_map(key: &[Field], map: &str) -> Statement {
    Statement::Dnat {
        family: NatFamily::Ip,
        to: NatTarget::Map {
            key: key.to_vec(),
            map: map.to_owned(),
        },
    }
}

fn table(chains: impl IntoIterator<Item = (&'static str, Chain)>) -> Table {
    let mut table = Table::new("fixed", TableFlags::default());
    for (name, chain) in chains {
        table.chains.insert(name.to_owned(), chain);
    }
    table
}

fn base(
    kind: ChainKind,
    hook: Hook,
    priority: i32,
    rules: impl IntoIterator<Item = Rule>,
) -> Chain {
    Chain::base(kind, hook, priority, Policy::Accept).with_rules(rules)
}

fn load(bench: &mut Bench, table: &Table) {
    bench.kernel.apply(&replace(table)).unwrap();
    bench.node.forget();
    bench.node.hear();
}

/// Everything once: a service, a chain behind it, a filter, masquerading.
fn whole() -> Table {
    let service = || {
        let is = Statement::is(Field::IpDaddr, address("10.96.0.1"));
        [
            rule([
                is.clone(),
                Statement::is(Field::TcpDport, port(81)),
                Statement::jump("late"),
            ]),
            rule([is, dnat("10.1.0.3:80")]),
        ]
    };
    let inside = Statement::in_set([Field::IpDaddr, Field::ThDport], "open");
    let translated = Statement::is(Field::CtStatus, Value::CtStatus(ct_status::DNAT));
    let mut table = table([
        (
            "pre",
            base(ChainKind::Nat, Hook::Prerouting, -100, service()),
        ),
        ("late", Chain::regular([rule([dnat("10.1.0.3:443")])])),
        (
            "f",
            Chain::base(ChainKind::Filter, Hook::Forward, 0, Policy::Drop)
                .with_rules([rule([inside, Statement::Verdict(Verdict::Accept)])]),
        ),
        (
            "post",
            base(
                ChainKind::Nat,
                Hook::Postrouting,
                100,
                [rule([
                    translated,
                    Statement::Masquerade {
                        fully_random: false,
                    },
                ])],
            ),
        ),
    ]);
    let open = [80, 443].map(|number| {
        (
            Key::of([address("10.1.0.3"), port(number)]),
            Element::default(),
        )
    });
    let set = Set::new([Type::Ipv4Addr, Type::InetService]).with_elements(open);
    table.sets.insert("open".to_owned(), set);
    table
}

/// What is wrong with a table, and a change that makes it so.
type Mistake = (&'static str, fn(&mut Table));

/// What the whole table says of three packets, all of which must be so for the comparison to agree.
fn agrees(bench: &mut Bench, traced: &Table) -> bool {
    let [red, ..] = bench.node.indices();
    let tracer = Tracer::new(traced);
    ["10.96.0.1:80", "10.96.0.1:81", "10.1.0.3:5353"]
        .into_iter()
        .all(|to| {
            let from = format!("10.1.0.2:{}", bench.ports.next().unwrap());
            let packet = Packet::tcp(at(&from), at(to));
            bench.converse(&tracer, Origin::Link(red), packet).is_ok()
        })
}

#[test]
fn a_table_that_was_not_loaded_is_found_out() {
    run(|bench| {
        let loaded = whole();
        load(bench, &loaded);
        assert!(agrees(bench, &loaded));
        let wrong: [Mistake; 7] = [
            ("another port", |table| {
                table.chains.insert(
                    "late".to_owned(),
                    Chain::regular([rule([dnat("10.1.0.3:80")])]),
                );
            }),
            ("an empty chain", |table| {
                table.chains.insert("late".to_owned(), Chain::regular([]));
            }),
            ("a rule less", |table| {
                table.chains.get_mut("pre").unwrap().rules.pop();
            }),
            ("no masquerading", |table| {
                table.chains.remove("post");
            }),
            ("an element less", |table| {
                table.sets.get_mut("open").unwrap().elements.pop_first();
            }),
            ("another policy", |table| {
                table
                    .chains
                    .get_mut("f")
                    .unwrap()
                    .base
                    .as_mut()
                    .unwrap()
                    .policy = Policy::Accept;
            }),
            ("an exemption from tracking", |table| {
                let raw = base(
                    ChainKind::Filter,
                    Hook::Prerouting,
                    -300,
                    [rule([Statement::Notrack])],
                );
                table.chains.insert("raw".to_owned(), raw);
            }),
        ];
        for (what, change) in wrong {
            let mut table = whole();
            change(&mut table);
            assert!(!agrees(bench, &table), "{what} was not found out");
        }
    });
}

#[test]
fn refusals_have_the_form_that_the_table_says() {
    run(|bench| {
        let [red, ..] = bench.node.indices();
        let ways = [
            Reject::TcpReset,
            Reject::PortUnreachable,
            Reject::AdminProhibited,
            Reject::NoRoute,
            Reject::HostUnreachable,
        ];
        for (reject, client) in ways
            .into_iter()
            .flat_map(|way| CLIENTS.map(|client| (way, client)))
        {
            let refuse = rule([Statement::Reject(reject)]);
            let table = table([("f", base(ChainKind::Filter, Hook::Forward, 0, [refuse]))]);
            load(bench, &table);
            let client = SocketAddr::new(client.parse().unwrap(), bench.ports.next().unwrap());
            let to = if client.is_ipv4() {
                "10.1.0.3:80"
            } else {
                "[fd00:1::3]:80"
            };
            let packet = Packet::tcp(client, at(to));
            let traces = Tracer::new(&table).trace(&bench.host, &Arrival::by(red, packet));
            assert_eq!(traces[0].outcome.fate, Fate::Rejected(reject));
            let heard = bench.node.send(Origin::Link(red), &packet, Phase::First);
            assert_eq!(
                heard,
                [(Place::Link(red), refusal(reject, client.is_ipv4()))],
                "{reject}"
            );
        }
    });
}

/// A service of three endpoints, one of them twice, chosen by chance.
fn balanced() -> Table {
    let number = || Value::ClassId(0x5200_0007);
    let endpoint = |slot, port| {
        let endpoint = Element::of([address("10.1.0.3"), Value::InetService(port)]);
        (Key::of([number(), Value::Mark(slot)]), endpoint)
    };
    let slots = [
        endpoint(4, 1),
        endpoint(5, 2),
        endpoint(6, 3),
        endpoint(7, 1),
    ];
    let random = Field::Random {
        modulus: 4,
        offset: 4,
    };
    let chain = base(
        ChainKind::Nat,
        Hook::Prerouting,
        -100,
        [
            rule([Statement::SetPriority(Class::Map {
                key: vec![Field::TcpDport],
                map: "numbers".to_owned(),
            })]),
            rule([to_map(&[Field::Priority, random], "slots")]),
        ],
    );
    let mut table = table([("services", chain)]);
    let numbers = Set::map([Type::InetService], DataType::Values(vec![Type::ClassId]))
        .with_elements([(port(80).into(), Element::of([number()]))]);
    let target = DataType::Values(vec![Type::Ipv4Addr, Type::InetService]);
    let slots = Set::map([Type::ClassId, Type::Mark], target).with_elements(slots);
    table.sets = [("numbers", numbers), ("slots", slots)]
        .map(|(name, set)| (name.to_owned(), set))
        .into();
    table
}

#[test]
fn the_kernel_reaches_exactly_the_endpoints_that_are_traced() {
    run(|bench| {
        let table = balanced();
        load(bench, &table);
        let [red, ..] = bench.node.indices();
        let mut reached = BTreeSet::new();
        let mut traced = BTreeSet::new();
        // That an endpoint is missed by chance has a probability below 1e-12.
        for number in 0..120 {
            let packet = Packet::tcp(
                at(&format!("10.1.0.2:{}", 20_000 + number)),
                at("10.96.0.1:80"),
            );
            let flow = Tracer::new(&table).flow(&bench.host, &Arrival::by(red, packet));
            traced.extend(flow.reached.keys().copied());
            for (_, heard) in bench.node.send(Origin::Link(red), &packet, Phase::First) {
                match heard {
                    Heard::Packet(packet) => reached.insert(packet.to()),
                    other => panic!("{other:?}"),
                };
            }
        }
        assert_eq!(reached, traced);
        assert_eq!(reached.len(), 3);
    });
}

/// Clients stay with what they had first: a map of clients to classes, filled by packets.
fn sticky(operation: Operation, size: u32) -> Table {
    let class = |class| rule([Statement::SetPriority(Class::Literal(class))]);
    let remember = Statement::Dynamic {
        operation,
        set: "clients".to_owned(),
        key: vec![Field::IpSaddr],
        timeout: Some(Duration::from_secs(600)),
        data: Some(Field::Priority),
    };
    let known = Statement::SetPriority(Class::Map {
        key: vec![Field::IpSaddr],
        map: "clients".to_owned(),
    });
    let refused = Statement::is(Field::UdpDport, port(443));
    let mut table = table([(
        "f",
        base(
            ChainKind::Filter,
            Hook::Forward,
            0,
            [
                class(1),
                rule([
                    Statement::is(Field::UdpDport, port(81)),
                    Statement::SetPriority(Class::Literal(2)),
                ]),
                rule([remember, refused, drop()]),
                class(0),
                rule([known]),
                rule([Statement::is(Field::Priority, Value::ClassId(2)), drop()]),
            ],
        ),
    )]);
    let clients = Set {
        flags: SetFlags {
            timeout: true,
            dynamic: true,
            ..SetFlags::default()
        },
        size: Some(size),
        ..Set::map([Type::Ipv4Addr], DataType::Values(vec![Type::ClassId]))
    };
    table.sets.insert("clients".to_owned(), clients);
    table
}

#[test]
fn dynamic_sets_remember_as_in_the_kernel() {
    run(|bench| {
        let [red, blue, _] = bench.node.indices();
        // Two clients, three ports: what each remembers shows in whether port 81 and others pass.
        let packets = [
            (0, 80),
            (0, 81),
            (1, 81),
            (1, 80),
            (0, 443),
            (1, 443),
            (0, 81),
            (1, 80),
        ];
        for (operation, size) in [
            (Operation::Update, 8),
            (Operation::Add, 8),
            (Operation::Update, 1),
            (Operation::Add, 1),
        ] {
            let table = sticky(operation, size);
            load(bench, &table);
            let mut host = bench.host.clone();
            for (client, number) in packets {
                let source = bench.ports.next().unwrap();
                let from = [("10.1.0.2", red), ("10.1.0.3", blue)][client];
                let from_at = at(&format!("{}:{source}", from.0));
                let packet = Packet::udp(from_at, at(&format!("198.51.100.9:{number}")));
                let traces = Tracer::new(&table).trace(&host, &Arrival::by(from.1, packet));
                let [trace] = traces.as_slice() else {
                    panic!("{} ends", traces.len())
                };
                let heard = bench.node.send(Origin::Link(from.1), &packet, Phase::First);
                assert_eq!(
                    !heard.is_empty(),
                    trace.outcome.arrives(),
                    "{operation:?} of {size}: {trace}"
                );
                host.learn(&trace.outcome.updates);
            }
        }
    });
}

/// Port 80 adds the client, port 81 takes it away, port 443 is dropped for who is in.
fn forgetful(map: bool) -> Table {
    let change = |operation| Statement::Dynamic {
        operation,
        set: "seen".to_owned(),
        key: vec![Field::IpSaddr],
        timeout: None,
        data: map.then_some(Field::Priority),
    };
    let to = |number| Statement::is(Field::UdpDport, port(number));
    let is_in = if map {
        Statement::SetPriority(Class::Map {
            key: vec![Field::IpSaddr],
            map: "seen".to_owned(),
        })
    } else {
        Statement::in_set([Field::IpSaddr], "seen")
    };
    let rules = [
        rule([to(80), change(Operation::Add)]),
        rule([to(81), change(Operation::Delete), drop()]),
        rule([to(443), is_in, drop()]),
    ];
    let mut table = table([("f", base(ChainKind::Filter, Hook::Forward, 0, rules))]);
    let seen = if map {
        Set::map([Type::Ipv4Addr], DataType::Values(vec![Type::ClassId]))
    } else {
        Set::new([Type::Ipv4Addr])
    };
    let seen = Set {
        flags: SetFlags {
            dynamic: true,
            ..SetFlags::default()
        },
        size: Some(100),
        ..seen
    };
    table.sets.insert("seen".to_owned(), seen);
    table
}

#[test]
fn an_element_is_deleted_whether_it_was_there_or_not_and_the_rule_goes_on() {
    run(|bench| {
        let [red, ..] = bench.node.indices();
        for map in [false, true] {
            let table = forgetful(map);
            load(bench, &table);
            let mut host = bench.host.clone();
            let mut passed = Vec::new();
            for number in [81, 443, 80, 443, 80, 81, 443, 81, 80, 443] {
                let source = bench.ports.next().unwrap();
                let from = at(&format!("10.1.0.2:{source}"));
                let packet = Packet::udp(from, at(&format!("198.51.100.9:{number}")));
                let traces = Tracer::new(&table).trace(&host, &Arrival::by(red, packet));
                let heard = bench.node.send(Origin::Link(red), &packet, Phase::First);
                let traced = traces[0].outcome.arrives();
                assert_eq!(!heard.is_empty(), traced, "{}", traces[0]);
                host.learn(&traces[0].outcome.updates);
                passed.extend((number == 443).then_some(traced));
            }
            assert_eq!(passed, [true, false, true, false]);
        }
    });
}

//! Statements, sets and verdicts.

use super::*;

/// Whether a packet from the red pod to the blue one is dropped by a rule of this condition.
fn applies(condition: Statement, arrival: &Arrival) -> bool {
    let table = table([(
        "f",
        filter(
            Hook::Forward,
            Policy::Accept,
            [Rule::new([condition, drop()])],
        ),
    )]);
    match fate(&table, arrival) {
        Fate::Dropped => true,
        Fate::Sent { .. } => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn comparisons_hold_as_in_the_kernel() {
    let packet = tcp("10.1.0.3:80");
    let is = |field, value| applies(Statement::is(field, value), &packet);
    let is_not = |field, value| applies(Statement::is_not(field, value), &packet);
    let name = |name: &str| Value::Ifname(name.to_owned());
    assert!(is(Field::Iif, Value::IfaceIndex(RED)));
    assert!(is(Field::Oif, Value::IfaceIndex(BLUE)));
    assert!(!is(Field::Oif, Value::IfaceIndex(RED)));
    assert!(is(Field::Iifname, name("weftred")));
    assert!(is(Field::Iifname, name("weft*")));
    assert!(!is(Field::Iifname, name("eth*")));
    assert!(is_not(Field::Oifname, name("lo")));
    assert!(!is_not(Field::Oifname, name("weft*")));
    assert!(is(Field::Iifgroup, Value::DevGroup(82)));
    assert!(is(Field::L4proto, Value::InetProto(l4proto::TCP)));
    assert!(is(Field::Nfproto, Value::NfProtoIpv4));
    assert!(is(Field::IpDaddr, address("10.1.0.3")));
    assert!(is(Field::TcpDport, port(80)) && is(Field::ThDport, port(80)));
    assert!(!is(Field::UdpDport, port(80)), "it is TCP");
    assert!(
        !is_not(Field::UdpDport, port(90)),
        "a field that is not there breaks the rule"
    );
    assert!(is(
        Field::CtState,
        Value::CtState(ct_state::NEW | ct_state::RELATED)
    ));
    assert!(is_not(Field::CtState, Value::CtState(ct_state::INVALID)));
    assert!(is_not(Field::CtStatus, Value::CtStatus(ct_status::DNAT)));
    assert!(is(Field::CtDirection, Value::CtOriginal));
    assert!(is(Field::CtOriginalIpDaddr, address("10.1.0.3")));
    assert!(
        !is_not(Field::CtOriginalIp6Daddr, address("fd00::")),
        "the other family"
    );
    assert!(!is(Field::FibDaddrType, Value::FibLocal));
}

#[test]
fn a_rule_about_ipv4_addresses_never_applies_to_ipv6() {
    let inside = Statement::compare(
        Field::IpSaddr,
        Operator::Ne,
        Right::Network(net("192.168.0.0/16")),
    );
    assert!(applies(inside.clone(), &tcp("10.1.0.3:80")));
    assert!(!applies(inside, &tcp("[fd00:1::3]:80")));
}

#[test]
fn networks_ranges_and_alternatives_compare() {
    let compare = |operator, right| {
        let field = match right {
            Right::Network(_) => Field::IpDaddr,
            _ => Field::TcpDport,
        };
        applies(
            Statement::compare(field, operator, right),
            &tcp("10.1.0.3:80"),
        )
    };
    assert!(compare(Operator::Eq, Right::Network(net("10.1.0.2/31"))));
    assert!(!compare(Operator::Eq, Right::Network(net("10.1.0.4/31"))));
    assert!(compare(Operator::Eq, Right::Range(port(80), port(81))));
    assert!(!compare(Operator::Eq, Right::Range(port(81), port(90))));
    assert!(compare(Operator::Ne, Right::Range(port(81), port(90))));
    assert!(compare(
        Operator::Eq,
        Right::AnyOf([port(80), port(443)].into())
    ));
    assert!(compare(
        Operator::Ne,
        Right::AnyOf([port(81), port(443)].into())
    ));
}

/// Whether a key is in a set.
fn is_in(set: Set, key: &[Field], arrival: &Arrival) -> bool {
    let mut table = table([(
        "f",
        filter(
            Hook::Forward,
            Policy::Accept,
            [Rule::new([
                Statement::in_set(key.iter().copied(), "s"),
                drop(),
            ])],
        ),
    )]);
    table.sets.insert("s".to_owned(), set);
    fate(&table, arrival) == Fate::Dropped
}

#[test]
fn ranges_of_a_set_are_found_at_both_ends() {
    let pair = |first, last| {
        (
            Key(vec![Part::range(port(first), port(last))]),
            Element::default(),
        )
    };
    let set = Set::new([Type::InetService])
        .with_intervals()
        .with_elements([pair(80, 90), pair(95, 95), pair(1, 2), pair(100, 65535)]);
    let found: Vec<u16> = [1, 2, 3, 79, 80, 85, 90, 91, 95, 96, 99, 100, 65535]
        .into_iter()
        .filter(|port| {
            is_in(
                set.clone(),
                &[Field::TcpDport],
                &tcp(&format!("10.1.0.3:{port}")),
            )
        })
        .collect();
    assert_eq!(found, [1, 2, 80, 85, 90, 95, 100, 65535]);
}

#[test]
fn ranges_in_a_concatenation_are_found_whatever_their_shape() {
    let key = |net: &str, first, last| {
        let net: IpNet = net.parse().unwrap();
        (
            Key(vec![net.into(), Part::range(port(first), port(last))]),
            Element::default(),
        )
    };
    let set = Set::new([Type::Ipv4Addr, Type::InetService])
        .with_intervals()
        .with_elements([
            key("10.1.0.3/32", 80, 80),
            key("10.1.0.3/32", 90, 99),
            key("10.1.0.0/24", 70, 70),
        ]);
    let found: Vec<u16> = [69, 70, 80, 89, 90, 95, 99, 100]
        .into_iter()
        .filter(|port| {
            let arrival = tcp(&format!("10.1.0.3:{port}"));
            is_in(set.clone(), &[Field::IpDaddr, Field::TcpDport], &arrival)
        })
        .collect();
    assert_eq!(found, [70, 80, 90, 95, 99]);
}

#[test]
fn verdict_maps_lead_to_chains_and_a_miss_goes_on() {
    let lead = |verdict| {
        let mut table = table([
            (
                "f",
                filter(
                    Hook::Forward,
                    Policy::Accept,
                    [
                        Rule::new([Statement::vmap([Field::TcpDport], "m")]),
                        Rule::new([Statement::is(Field::TcpDport, port(81)), drop()]),
                    ],
                ),
            ),
            ("empty", Chain::regular([])),
            (
                "refuse",
                Chain::regular([Rule::new([Statement::Reject(Reject::TcpReset)])]),
            ),
        ]);
        let map = Set::map([Type::InetService], DataType::Verdict)
            .with_elements([(port(81).into(), Element::verdict(verdict))]);
        table.sets.insert("m".to_owned(), map);
        table
    };
    let fate = |verdict, to: &str| fate(&lead(verdict), &tcp(to));
    let chain = |name: &str| name.to_owned();
    assert_eq!(fate(Verdict::Drop, "10.1.0.3:80"), TO_BLUE, "a miss");
    assert_eq!(fate(Verdict::Accept, "10.1.0.3:81"), TO_BLUE);
    assert_eq!(fate(Verdict::Return, "10.1.0.3:81"), TO_BLUE);
    assert_eq!(fate(Verdict::Goto(chain("empty")), "10.1.0.3:81"), TO_BLUE);
    assert_eq!(
        fate(Verdict::Jump(chain("empty")), "10.1.0.3:81"),
        Fate::Dropped
    );
    let refused = Fate::Rejected(Reject::TcpReset);
    assert_eq!(fate(Verdict::Jump(chain("refuse")), "10.1.0.3:81"), refused);
    let nowhere = fate(Verdict::Jump(chain("gone")), "10.1.0.3:81");
    assert_eq!(nowhere, Fate::Unknown("there is no chain gone".to_owned()));
}

#[test]
fn after_a_goto_the_caller_of_the_caller_goes_on() {
    let table = table([
        (
            "f",
            filter(
                Hook::Forward,
                Policy::Drop,
                [Rule::new([Statement::jump("a")]), Rule::new([accept()])],
            ),
        ),
        (
            "a",
            Chain::regular([Rule::new([Statement::goto("b")]), Rule::new([drop()])]),
        ),
        ("b", Chain::regular([])),
    ]);
    assert_eq!(fate(&table, &tcp("10.1.0.3:80")), TO_BLUE);
}

#[test]
fn a_reset_is_for_tcp_alone() {
    let table = table([(
        "f",
        filter(
            Hook::Forward,
            Policy::Drop,
            [Rule::new([Statement::Reject(Reject::TcpReset)])],
        ),
    )]);
    let udp = Arrival::by(RED, Packet::udp(at("10.1.0.2:1"), at("10.1.0.3:2")));
    assert_eq!(fate(&table, &udp), Fate::Dropped);
}

#[test]
fn a_loop_of_chains_ends_as_unknown() {
    let table = table([
        (
            "f",
            filter(
                Hook::Forward,
                Policy::Drop,
                [Rule::new([Statement::jump("a")])],
            ),
        ),
        ("a", Chain::regular([Rule::new([Statement::jump("a")])])),
    ]);
    assert!(matches!(
        fate(&table, &tcp("10.1.0.3:80")),
        Fate::Unknown(_)
    ));
}

#[test]
fn what_somebody_else_wrote_is_unknown_where_it_is_reached() {
    let unknown = Rule::new([
        Statement::is(Field::TcpDport, port(80)),
        Statement::Unknown("quota".to_owned()),
    ]);
    let table = table([("f", filter(Hook::Forward, Policy::Accept, [unknown]))]);
    assert_eq!(
        fate(&table, &tcp("10.1.0.3:80")),
        Fate::Unknown("quota".to_owned())
    );
    assert_eq!(fate(&table, &tcp("10.1.0.3:81")), TO_BLUE);
}

/// A service of two endpoints, as services are laid out: number by address, endpoint by slot.
fn balanced() -> Table {
    let number = Value::ClassId(0x5200_0007);
    let endpoint = |last: u8| {
        Element::of([
            Value::from(std::net::Ipv4Addr::new(10, 1, 0, last)),
            Value::InetService(8080),
        ])
    };
    let slot = |slot| Key::of([number.clone(), Value::Mark(slot)]);
    let sets = [
        (
            "numbers4",
            Set::map([Type::Ipv4Addr], DataType::Values(vec![Type::ClassId])).with_elements([(
                Value::from(std::net::Ipv4Addr::new(10, 96, 0, 1)).into(),
                Element::of([number.clone()]),
            )]),
        ),
        (
            "endpoints4",
            Set::map(
                [Type::ClassId, Type::Mark],
                DataType::Values(vec![Type::Ipv4Addr, Type::InetService]),
            )
            .with_elements([(slot(0), endpoint(2)), (slot(1), endpoint(3))]),
        ),
        (
            "clients4",
            Set {
                flags: crate::SetFlags {
                    dynamic: true,
                    timeout: true,
                    ..Default::default()
                },
                timeout: Some(std::time::Duration::from_secs(60)),
                ..Set::map([Type::Ipv4Addr], DataType::Values(vec![Type::ClassId]))
            },
        ),
    ];
    let rules = [
        Rule::new([Statement::SetPriority(crate::Class::Literal(0))]),
        Rule::new([Statement::SetPriority(crate::Class::Map {
            key: vec![Field::IpDaddr],
            map: "numbers4".to_owned(),
        })]),
        Rule::new([Statement::Dynamic {
            operation: crate::Operation::Update,
            set: "clients4".to_owned(),
            key: vec![Field::IpSaddr],
            timeout: None,
            data: Some(Field::Priority),
        }]),
        Rule::new([Statement::Dnat {
            family: NatFamily::Ip,
            to: NatTarget::Map {
                key: vec![
                    Field::Priority,
                    Field::Random {
                        modulus: 2,
                        offset: 0,
                    },
                ],
                map: "endpoints4".to_owned(),
            },
        }]),
    ];
    let chain = Chain::base(ChainKind::Nat, Hook::Prerouting, -100, Policy::Accept);
    let mut table = table([("services", chain.with_rules(rules))]);
    table.sets = sets.map(|(name, set)| (name.to_owned(), set)).into();
    table
}

#[test]
fn every_slot_of_a_random_choice_is_followed_with_the_carried_number() {
    let table = balanced();
    let to = |text: &str| text.parse::<SocketAddr>().unwrap();
    let packet = Packet::tcp(to("10.1.0.9:40000"), to("10.96.0.1:80"));
    let flow = Tracer::new(&table).flow(&node(), &Arrival::by(UPLINK, packet));
    let reached: Vec<SocketAddr> = flow.reached.keys().copied().collect();
    assert_eq!(reached, [to("10.1.0.2:8080"), to("10.1.0.3:8080")]);
    for reached in flow.reached.values() {
        assert!(reached.translated);
        assert_eq!((reached.share.numerator, reached.share.denominator), (1, 2));
        let minute = std::time::Duration::from_secs(60);
        assert_eq!(reached.remembered, Some(minute));
    }
    let other = Packet::tcp(to("10.1.0.9:40000"), to("10.1.0.2:80"));
    let flow = Tracer::new(&table).flow(&node(), &Arrival::by(UPLINK, other));
    assert!(flow.is_untouched(to("10.1.0.2:80")), "{flow:?}");
}

#[test]
fn what_several_ways_share_is_told_once() {
    let table = balanced();
    let from = "198.51.100.9:40000".parse().unwrap();
    let packet = Packet::tcp(from, "10.96.0.1:80".parse().unwrap());
    let traces = Tracer::new(&table).trace(&node(), &Arrival::by(UPLINK, packet));
    let story = crate::trace::story(&traces);
    let told = |text: &str| story.lines().filter(|line| line.contains(text)).count();
    assert_eq!(told("@numbers4"), 1, "{story}");
    assert_eq!(told("  * chain services, rule 4"), 2);
    assert_eq!(told("    -> sent by interface"), 2);
}

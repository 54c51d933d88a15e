//! The order of things: hooks, priorities, routing.

use super::*;

#[test]
fn a_drop_is_final_and_an_accept_ends_its_own_chain_only() {
    let chains = |first: Statement| {
        table([
            (
                "a",
                Chain::base(ChainKind::Filter, Hook::Forward, -1, Policy::Accept)
                    .with_rules([Rule::new([first])]),
            ),
            ("b", filter(Hook::Forward, Policy::Drop, [])),
        ])
    };
    assert_eq!(fate(&chains(accept()), &tcp("10.1.0.3:80")), Fate::Dropped);
    let both = table([
        (
            "a",
            Chain::base(ChainKind::Filter, Hook::Forward, -1, Policy::Accept)
                .with_rules([Rule::new([drop()])]),
        ),
        (
            "b",
            filter(Hook::Forward, Policy::Accept, [Rule::new([accept()])]),
        ),
    ]);
    assert_eq!(fate(&both, &tcp("10.1.0.3:80")), Fate::Dropped);
}

#[test]
fn the_forward_hook_is_behind_dnat_and_in_front_of_masquerade() {
    let table = table([
        (
            "pre",
            nat(
                Hook::Prerouting,
                -100,
                [Rule::new([
                    Statement::is(Field::TcpDport, port(80)),
                    dnat("10.1.0.3:8080"),
                ])],
            ),
        ),
        (
            "f",
            filter(
                Hook::Forward,
                Policy::Drop,
                [Rule::new([
                    Statement::is(Field::IpDaddr, address("10.1.0.3")),
                    Statement::is(Field::TcpDport, port(8080)),
                    Statement::is(Field::IpSaddr, address("10.1.0.2")),
                    Statement::is(Field::CtStatus, Value::CtStatus(ct_status::DNAT)),
                    Statement::is(Field::CtOriginalIpDaddr, address("10.96.0.1")),
                    accept(),
                ])],
            ),
        ),
        (
            "post",
            nat(
                Hook::Postrouting,
                100,
                [Rule::new([Statement::Masquerade {
                    fully_random: false,
                }])],
            ),
        ),
    ]);
    let tracer = Tracer::new(&table);
    let flow = tracer.flow(&node(), &tcp("10.96.0.1:80"));
    assert_eq!(
        flow.reached.keys().copied().collect::<Vec<_>>(),
        [at("10.1.0.3:8080")]
    );
    assert_eq!(flow.masqueraded(at("10.1.0.2:0").ip()).len(), 1);
    let reached = &flow.reached[&at("10.1.0.3:8080")];
    assert!(
        reached.sources.contains(&at("192.0.2.1:0").ip()),
        "of the only interface with addresses"
    );
    assert!(reached.translated && !flow.is_untouched(at("10.96.0.1:80")));
}

#[test]
fn before_tracking_there_is_no_connection() {
    let raw = |rule: Rule| {
        table([(
            "raw",
            Chain::base(ChainKind::Filter, Hook::Prerouting, -300, Policy::Accept)
                .with_rules([rule]),
        )])
    };
    let state = |state| Rule::new([Statement::is(Field::CtState, Value::CtState(state)), drop()]);
    let fate = |rule| fate(&raw(rule), &tcp("10.1.0.3:80"));
    assert_eq!(fate(state(ct_state::NEW)), TO_BLUE);
    assert_eq!(fate(state(ct_state::INVALID)), Fate::Dropped);
    let direction = Statement::is_not(Field::CtDirection, Value::CtReply);
    assert_eq!(
        fate(Rule::new([direction, drop()])),
        TO_BLUE,
        "nothing to compare"
    );
}

#[test]
fn what_is_exempt_from_tracking_is_not_translated() {
    let table = table([
        (
            "raw",
            Chain::base(ChainKind::Filter, Hook::Prerouting, -300, Policy::Accept).with_rules([
                Rule::new([Statement::is(Field::TcpDport, port(53)), Statement::Notrack]),
            ]),
        ),
        (
            "pre",
            nat(Hook::Prerouting, -100, [Rule::new([dnat("10.1.0.3:8080")])]),
        ),
        (
            "f",
            filter(
                Hook::Forward,
                Policy::Accept,
                [Rule::new([
                    Statement::is(Field::CtState, Value::CtState(ct_state::UNTRACKED)),
                    Statement::Reject(Reject::NoRoute),
                ])],
            ),
        ),
    ]);
    assert_eq!(
        fate(&table, &tcp("192.0.2.9:53")),
        Fate::Rejected(Reject::NoRoute)
    );
    assert_eq!(fate(&table, &tcp("192.0.2.9:54")), TO_BLUE);
}

#[test]
fn the_node_reaches_itself_through_output_postrouting_and_prerouting() {
    let own = Arrival::of_node(Packet::tcp(at("192.0.2.1:4000"), at("192.0.2.1:80")));
    let chains = |hook, dropped| {
        let lo = |field| Statement::is(field, Value::Ifname("lo".to_owned()));
        let field = match hook {
            Hook::Prerouting | Hook::Input => Field::Iifname,
            _ => Field::Oifname,
        };
        let state = Statement::is(Field::CtState, Value::CtState(ct_state::NEW));
        let rules = if dropped {
            vec![Rule::new([lo(field), state, drop()])]
        } else {
            vec![]
        };
        table([("c", filter(hook, Policy::Accept, rules))])
    };
    for hook in [
        Hook::Output,
        Hook::Postrouting,
        Hook::Prerouting,
        Hook::Input,
    ] {
        assert_eq!(fate(&chains(hook, false), &own), Fate::Delivered);
        assert_eq!(fate(&chains(hook, true), &own), Fate::Dropped, "{hook}");
    }
}

#[test]
fn a_packet_of_the_node_is_routed_again_after_dnat_and_output_does_not_see_it() {
    let out = |hook, link| {
        let there = Statement::is(Field::Oif, Value::IfaceIndex(link));
        (hook, Rule::new([there, accept()]))
    };
    let table = |(hook, rule): (Hook, Rule)| {
        table([
            (
                "nat",
                nat(Hook::Output, -100, [Rule::new([dnat("10.1.0.3:8080")])]),
            ),
            ("c", filter(hook, Policy::Drop, [rule])),
        ])
    };
    let own = Arrival::of_node(Packet::tcp(at("192.0.2.1:4000"), at("10.96.0.1:80")));
    assert_eq!(fate(&table(out(Hook::Output, UPLINK)), &own), TO_BLUE);
    assert_eq!(fate(&table(out(Hook::Postrouting, BLUE)), &own), TO_BLUE);
    assert_eq!(
        fate(&table(out(Hook::Postrouting, UPLINK)), &own),
        Fate::Dropped
    );
}

#[test]
fn where_there_is_no_route_nothing_is_sent() {
    let empty = table([]);
    assert_eq!(fate(&empty, &tcp("10.1.0.77:80")), Fate::Unroutable);
    let own = Arrival::of_node(Packet::tcp(at("192.0.2.1:1"), at("10.1.0.77:80")));
    assert_eq!(fate(&empty, &own), Fate::Unroutable);
    assert_eq!(fate(&empty, &tcp("192.0.2.1:22")), Fate::Delivered);
    assert_eq!(fate(&empty, &tcp("127.0.0.1:22")), Fate::Delivered);
}

#[test]
fn an_interface_that_is_not_there_has_index_0_no_name_and_no_group() {
    let rule = |condition| {
        table([(
            "c",
            filter(
                Hook::Input,
                Policy::Accept,
                [Rule::new([condition, drop()])],
            ),
        )])
    };
    let fate = |condition| fate(&rule(condition), &tcp("192.0.2.1:22"));
    assert_eq!(
        fate(Statement::is(Field::Oif, Value::IfaceIndex(0))),
        Fate::Dropped
    );
    assert_eq!(
        fate(Statement::is_not(
            Field::Oifname,
            Value::Ifname("lo".to_owned())
        )),
        Fate::Dropped
    );
    assert_eq!(
        fate(Statement::is_not(Field::Oifgroup, Value::DevGroup(82))),
        Fate::Delivered
    );
}

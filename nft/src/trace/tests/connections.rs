//! Connections: the first packet, those after it, answers and errors.

use super::*;
use crate::trace::{Connection, Direction, Event, Outcome, Trace};

/// Services in prerouting and output, masquerading in postrouting.
fn translating() -> Table {
    let to_service = || {
        [Rule::new([
            Statement::is(Field::IpDaddr, address("10.96.0.1")),
            Statement::is(Field::TcpDport, port(80)),
            dnat("10.1.0.3:8080"),
        ])]
    };
    let masquerade = Rule::new([
        Statement::is(Field::CtStatus, Value::CtStatus(ct_status::DNAT)),
        Statement::Masquerade { fully_random: true },
    ]);
    table([
        ("pre", nat(Hook::Prerouting, -100, to_service())),
        ("out", nat(Hook::Output, -100, to_service())),
        ("post", nat(Hook::Postrouting, 100, [masquerade])),
    ])
}

fn only<'t>(table: &'t Table, arrival: &Arrival) -> Trace<'t> {
    let mut traces = Tracer::new(table).trace(&node(), arrival);
    assert_eq!(traces.len(), 1);
    traces.remove(0)
}

#[test]
fn an_answer_is_translated_back_by_the_connection_alone() {
    let table = translating();
    let there = only(&table, &tcp("10.96.0.1:80"));
    assert_eq!(there.outcome.packet.to(), at("10.1.0.3:8080"));
    assert_eq!(there.outcome.packet.from(), at("192.0.2.1:4000"));
    let answer = there.reply().unwrap();
    assert_eq!(answer.packet.from(), at("10.1.0.3:8080"));
    let back = only(&table, &answer);
    assert_eq!(back.outcome.fate, Fate::Sent { link: RED });
    assert_eq!(back.outcome.packet.from(), at("10.96.0.1:80"));
    assert_eq!(back.outcome.packet.to(), at("10.1.0.2:4000"));
    let words = back.to_string();
    assert!(
        words.contains("connection tracking says established"),
        "{words}"
    );
}

#[test]
fn later_packets_are_translated_alike_without_asking_the_chains() {
    let table = translating();
    let first = only(&table, &tcp("10.96.0.1:80"));
    let second = only(&table, &first.later().unwrap());
    assert_eq!(second.outcome.packet, first.outcome.packet);
    let asked = |trace: &Trace<'_>| {
        let mut steps = trace.steps.iter();
        steps.any(|step| matches!(step.event, Event::Base("pre" | "post", _)))
    };
    assert!(asked(&first) && !asked(&second));
}

#[test]
fn the_first_chain_that_translates_ends_the_turn_of_the_others() {
    let to = |to| [Rule::new([dnat(to)])];
    let table = table([
        ("a", nat(Hook::Prerouting, -90, to("10.1.0.3:2"))),
        ("b", nat(Hook::Prerouting, -110, to("10.1.0.3:1"))),
        (
            "accepts",
            nat(Hook::Prerouting, -120, [Rule::new([accept()])]),
        ),
    ]);
    let trace = only(&table, &tcp("10.96.0.1:80"));
    assert_eq!(trace.outcome.packet.to(), at("10.1.0.3:1"));
}

#[test]
fn translation_chains_run_at_the_priority_of_translation_whatever_their_own() {
    let first = Chain::base(ChainKind::Filter, Hook::Prerouting, -150, Policy::Drop).with_rules([
        Rule::new([Statement::is(Field::TcpDport, port(80)), accept()]),
    ]);
    let table = table([
        (
            "early",
            nat(Hook::Prerouting, -190, [Rule::new([dnat("10.1.0.3:1")])]),
        ),
        ("mangle", first),
    ]);
    let trace = only(&table, &tcp("10.96.0.1:80"));
    assert_eq!(
        trace.outcome.packet.to(),
        at("10.1.0.3:1"),
        "mangle saw port 80"
    );
}

#[test]
fn a_translation_to_what_is_there_already_leaves_no_mark() {
    let table = table([(
        "pre",
        nat(Hook::Prerouting, -100, [Rule::new([dnat("10.1.0.3:80")])]),
    )]);
    let Trace { outcome, .. } = only(&table, &tcp("10.1.0.3:80"));
    assert!(!outcome.is_dnat() && outcome.arrives());
}

#[test]
fn invalid_packets_are_not_translated() {
    let table = translating();
    let invalid = tcp("10.96.0.1:80").tracked(Tracking::Invalid);
    let Outcome {
        fate,
        packet,
        connection,
        updates: _,
    } = only(&table, &invalid).outcome;
    assert_eq!(fate, Fate::Sent { link: UPLINK });
    assert_eq!(packet.to(), at("10.96.0.1:80"));
    assert_eq!(connection, None);
}

#[test]
fn an_error_about_a_connection_is_related_and_translated_back() {
    let mut table = translating();
    let related = Rule::new([
        Statement::is(Field::CtState, Value::CtState(ct_state::RELATED)),
        accept(),
    ]);
    table.chains.insert(
        "f".to_owned(),
        filter(Hook::Forward, Policy::Drop, [related]),
    );
    let connection = Connection {
        status: ct_status::DNAT | ct_status::SNAT | ct_status::CONFIRMED,
        reply: crate::trace::Tuple {
            source: at("10.1.0.3:8080"),
            destination: at("192.0.2.1:4000"),
        },
        ..Connection::started_by(&tcp("10.96.0.1:80").packet)
    };
    let unreachable = Packet::icmp(at("10.1.0.3:0").ip(), at("192.0.2.1:0").ip(), 3);
    let error =
        Arrival::by(BLUE, unreachable).tracked(Tracking::Error(connection, Direction::Reply));
    let trace = only(&table, &error);
    assert_eq!(trace.outcome.fate, Fate::Sent { link: RED });
    assert_eq!(trace.outcome.packet.destination, at("10.1.0.2:0").ip());
    assert_eq!(trace.outcome.packet.source, at("10.96.0.1:0").ip());
}

#[test]
fn masquerading_without_an_address_drops() {
    let table = table([(
        "post",
        nat(
            Hook::Postrouting,
            100,
            [Rule::new([Statement::Masquerade {
                fully_random: false,
            }])],
        ),
    )]);
    let host = Host::new()
        .with_link(RED, "weftred", 82, [])
        .with_route(net("10.1.0.0/16"), Route::Link(RED));
    let traces = Tracer::new(&table).trace(&host, &tcp("10.1.0.3:80"));
    assert_eq!(traces[0].outcome.fate, Fate::Dropped);
}

#[test]
fn a_trace_reads_as_a_story() {
    let table = translating();
    let words = only(&table, &tcp("10.96.0.1:80")).to_string();
    assert_eq!(
        words,
        "\
tcp 10.1.0.2:4000 > 10.96.0.1:80 by interface 10, new connection
  prerouting: connection tracking says new
  prerouting: chain pre (priority -100, asked for the first packet)
  chain pre, rule 1: ip daddr 10.96.0.1; tcp dport 80; destination shall be 10.1.0.3:8080
  prerouting: destination becomes 10.1.0.3:8080
  prerouting: routed to interface 11
  postrouting: chain post (priority 100, asked for the first packet)
  chain post, rule 1: ct status dnat; source shall be 192.0.2.1
  postrouting: source becomes 192.0.2.1:4000
  -> sent by interface 11 as tcp 192.0.2.1:4000 > 10.1.0.3:8080
"
    );
}

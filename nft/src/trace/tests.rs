//! Traces, construct by construct.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Arrival, Fate, Host, Packet, Route, Tracer, Tracking};
use crate::{
    Chain, ChainKind, DataType, Element, Field, Hook, Key, NatFamily, NatTarget, Operator, Part,
    Policy, Reject, Right, Rule, Set, Statement, Table, TableFlags, Type, Value, Verdict, ct_state,
    ct_status, l4proto,
};

mod connections;
mod hooks;
mod rules;

/// Interfaces of the tests' node: the network outside, and two pods.
const UPLINK: u32 = 2;
const RED: u32 = 10;
const BLUE: u32 = 11;

fn node() -> Host {
    Host::new()
        .with_link(
            UPLINK,
            "eth0",
            0,
            [net("192.0.2.1/24"), net("2001:db8::1/64")],
        )
        .with_link(RED, "weftred", 82, [])
        .with_link(BLUE, "weftblue", 82, [])
        .with_route(net("10.1.0.2/32"), Route::Link(RED))
        .with_route(net("10.1.0.3/32"), Route::Link(BLUE))
        .with_route(net("fd00:1::2/128"), Route::Link(RED))
        .with_route(net("fd00:1::3/128"), Route::Link(BLUE))
        .with_route(net("10.1.0.0/24"), Route::Unreachable)
        .with_route(net("0.0.0.0/0"), Route::Link(UPLINK))
        .with_route(net("::/0"), Route::Link(UPLINK))
}

fn table(chains: impl IntoIterator<Item = (&'static str, Chain)>) -> Table {
    let mut table = Table::new("t", TableFlags::default());
    for (name, chain) in chains {
        table.chains.insert(name.to_owned(), chain);
    }
    table
}

/// The fate of a packet that has exactly one.
fn fate(table: &Table, arrival: &Arrival) -> Fate {
    let traces = Tracer::new(table).trace(&node(), arrival);
    let [trace] = traces.as_slice() else {
        panic!("{} ends", traces.len());
    };
    trace.outcome.fate.clone()
}

fn filter(hook: Hook, policy: Policy, rules: impl IntoIterator<Item = Rule>) -> Chain {
    Chain::base(ChainKind::Filter, hook, 0, policy).with_rules(rules)
}

fn nat(hook: Hook, priority: i32, rules: impl IntoIterator<Item = Rule>) -> Chain {
    Chain::base(ChainKind::Nat, hook, priority, Policy::Accept).with_rules(rules)
}

fn dnat(to: &str) -> Statement {
    let to = at(to);
    Statement::Dnat {
        family: match to.ip() {
            IpAddr::V4(_) => NatFamily::Ip,
            IpAddr::V6(_) => NatFamily::Ip6,
        },
        to: NatTarget::Literal {
            address: to.ip(),
            port: Some(to.port()),
        },
    }
}

fn drop() -> Statement {
    Statement::Verdict(Verdict::Drop)
}

fn accept() -> Statement {
    Statement::Verdict(Verdict::Accept)
}

/// From the red pod.
fn tcp(to: &str) -> Arrival {
    let from = match at(to).ip() {
        IpAddr::V4(_) => at("10.1.0.2:4000"),
        IpAddr::V6(_) => at("[fd00:1::2]:4000"),
    };
    Arrival::by(RED, Packet::tcp(from, at(to)))
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> Value {
    text.parse::<IpAddr>().unwrap().into()
}

fn port(port: u16) -> Value {
    Value::InetService(port)
}

const TO_BLUE: Fate = Fate::Sent { link: BLUE };

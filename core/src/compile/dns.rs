//! Cluster DNS on the node itself: while this node's server answers, questions to the addresses of the DNS Service
//! stay here, without translation and without connection tracking.
//!
//! Two things make it so: a route in the table `local`, and `notrack` for questions and answers, so that no chain of
//! translation sees them. The rules are always there; elements of two sets switch them on and off. The route is made
//! before the elements and goes after them, because a translated packet does not meet it.

use weft_nft::{
    Chain, ChainKind, Element, Field, Hook, Key, Policy, Rule, Set, Statement, Table, Value,
};

use super::masquerade::{address_type, destination, name, source};
use super::overlay::node_address;
use super::routes::host_net;
use super::{Fact, UnitPlan};
use crate::plan::Route;
use crate::view::{Family, NodeView};

/// Addresses that this node's DNS server answers at.
const ADDRESSES: [&str; 2] = ["node-dns4", "node-dns6"];
const QUESTIONS: &str = "dns-questions";
const ANSWERS: &str = "dns-answers";
/// Priority before connection tracking (`raw`).
const RAW: i32 = -300;
/// RFC 1035, section 4.2.
const PORT: u16 = 53;

/// Chains, sets and routes, on a node with a DNS server.
pub(super) fn chains(view: &NodeView, plan: &mut UnitPlan) {
    let Some(dns) = &view.dns else {
        return;
    };
    for family in Family::ALL {
        let set = Set::new([address_type(family)])
            .with_comment("cluster DNS addresses that this node answers at");
        plan.add(Fact::Set(name(ADDRESSES, family).to_owned(), set));
    }
    let chains = [
        (QUESTIONS, untracked(destination)),
        (ANSWERS, untracked(source)),
        ("dns-prerouting", base(Hook::Prerouting)),
        ("dns-output", base(Hook::Output)),
    ];
    for (name, chain) in chains {
        plan.add(Fact::Chain(name.to_owned(), chain));
    }
    if !dns.serving {
        return;
    }
    for &address in &dns.addresses {
        let family = Family::of(address);
        if family == Family::V6 && !view.host.ipv6 {
            continue;
        }
        let source = node_address(&view.host, family);
        let route = Route::Local { source };
        plan.add(Fact::Route(host_net(address), route));
        let set = name(ADDRESSES, family).to_owned();
        plan.add(Fact::Element(
            set,
            Key::from(Value::from(address)),
            Element::default(),
        ));
    }
}

/// Whether a table of ours leads questions to the node's server.
#[must_use]
pub fn answers_dns(table: &Table) -> bool {
    let mut sets = ADDRESSES.iter().filter_map(|set| table.sets.get(*set));
    sets.any(|set| !set.elements.is_empty())
}

/// Questions and answers are few among packets: a look at the port sends the others on.
fn base(hook: Hook) -> Chain {
    let ports = [
        (Field::UdpDport, QUESTIONS),
        (Field::UdpSport, ANSWERS),
        (Field::TcpDport, QUESTIONS),
        (Field::TcpSport, ANSWERS),
    ];
    let rules = ports.map(|(field, chain)| {
        Rule::new([
            Statement::is(field, Value::InetService(PORT)),
            Statement::jump(chain),
        ])
    });
    Chain::base(ChainKind::Filter, hook, RAW, Policy::Accept)
        .with_comment("cluster DNS that this node answers itself is not tracked")
        .with_rules(rules)
}

fn untracked(address: fn(Family) -> Field) -> Chain {
    Chain::regular(Family::ALL.map(|family| {
        Rule::new([
            Statement::in_set([address(family)], name(ADDRESSES, family)),
            Statement::Notrack,
        ])
    }))
}

//! The three base chains of translation, which services, host ports and masquerading share.
//!
//! A base chain of type nat is asked for the first packet of each connection; what is in it is a
//! matter of order alone, and here is the one place that says it: services before host ports, and
//! of sources an endpoint or pod that reaches itself before what leaves the cluster. While nothing
//! is translated the chains are not there, because the hooks of translation cost every packet a little.

use weft_nft::{Chain, ChainKind, Class, Field, Hook, Policy, Rule, Statement, Value};

use super::{Fact, UnitPlan, host_ports, masquerade, services};
use crate::view::{Family, NodeView};

/// Priority of destination translation (`dstnat`).
const DSTNAT: i32 = -100;
/// Priority of source translation (`srcnat`).
const SRCNAT: i32 = 100;

/// The chains of which there is something in.
pub(super) fn chains(view: &NodeView, plan: &mut UnitPlan) {
    let to_services = || services::destinations(view);
    let prerouting = to_services().chain(host_ports::prerouting(view));
    let output = to_services().chain(host_ports::output(view));
    let postrouting = services::sources(view)
        .chain(host_ports::postrouting(view))
        .chain(masquerade::postrouting(view));
    let chains: [(&str, Hook, i32, Vec<Rule>, &str); 3] = [
        (
            "nat-prerouting",
            Hook::Prerouting,
            DSTNAT,
            prerouting.collect(),
            "destinations of new connections from pods and others",
        ),
        (
            "nat-output",
            Hook::Output,
            DSTNAT,
            output.collect(),
            "destinations of new connections from the node itself",
        ),
        (
            "nat-postrouting",
            Hook::Postrouting,
            SRCNAT,
            postrouting.collect(),
            "sources of new connections",
        ),
    ];
    for (name, hook, priority, rules, comment) in chains {
        if !rules.is_empty() {
            let chain = Chain::base(ChainKind::Nat, hook, priority, Policy::Accept)
                .with_comment(comment)
                .with_rules(rules);
            plan.add(Fact::Chain(name.to_owned(), chain));
        }
    }
}

/// To a chain for packets of a family.
pub(super) fn jump(family: Family, chain: &str) -> Rule {
    Rule::new([
        Statement::is(Field::Nfproto, nfproto(family)),
        Statement::jump(chain),
    ])
}

/// A family's network protocol.
pub(super) fn nfproto(family: Family) -> Value {
    match family {
        Family::V4 => Value::NfProtoIpv4,
        Family::V6 => Value::NfProtoIpv6,
    }
}

/// Leaves the carrier empty.
pub(super) fn clear() -> Statement {
    Statement::SetPriority(Class::Literal(0))
}

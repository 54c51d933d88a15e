//! The chains of network policies: their number is fixed, whatever pods and policies there are.
//!
//! Connections are judged where the node forwards them, after destinations are translated and before
//! sources are: first by the side of the pod that makes them, then by that of the pod they are made to. A
//! pod's connections to its own node are judged on their way in. What the node itself sends is never
//! judged, so it always reaches its pods. Later packets of an allowed connection, answers and ICMP errors
//! about it pass at the second rule; what policies have revoked since is dropped at the first.
//!
//! The other side's class is carried by `meta priority`, which is cleared before and after. What is
//! listed for a pod is listed once, for its class or for everybody, so the order of look-ups decides nothing.

use weft_nft::{
    Chain, ChainKind, Class, Field, Hook, Operator, Policy, Right, Rule, Statement, Value, Verdict,
    ct_state, l4proto,
};

use super::masquerade::{destination, source};
use super::nat::clear;
use super::{Fact, UnitPlan};
use crate::names;
use crate::policy::{ANYBODY, Bulk, Default, Direction, Form, STRANGERS};
use crate::view::{Family, NodeView};

/// Priority of filters (`filter`).
const FILTER: i32 = 0;
const CLEAR: &str = "judged";
const LABELS: &str = "connection-labels";

/// The chains and sets, while this node enforces policies.
pub(super) fn chains(view: &NodeView, plan: &mut UnitPlan) {
    if !view.policies {
        return;
    }
    for bulk in Bulk::all() {
        plan.add(Fact::Set(bulk.name(), bulk.definition()));
    }
    plan.add(Fact::Chain("policy-forward".to_owned(), forward()));
    plan.add(Fact::Chain("policy-input".to_owned(), input()));
    for way in Direction::ALL {
        plan.add(Fact::Chain(peer_chain(way), peer(way)));
        plan.add(Fact::Chain(network_chain(way), network(way)));
        for rest in Default::ALL {
            plan.add(Fact::Chain(chain_name(way, rest), judge(way, rest)));
        }
    }
    let judged = Chain::regular([Rule::new([clear()])]);
    plan.add(Fact::Chain(CLEAR.to_owned(), judged));
    plan.add(Fact::Chain(LABELS.to_owned(), labels()));
}

fn forward() -> Chain {
    let itself = Rule::new([
        Statement::in_set([Field::Iif, Field::Oif], Bulk::Themselves.name()),
        Statement::Verdict(Verdict::Accept),
    ])
    .with_comment("a pod reaches itself");
    let sides = [Direction::Out, Direction::In].into_iter();
    let sides = sides.flat_map(|way| Default::ALL.map(|rest| to_judge(way, rest)));
    Chain::base(ChainKind::Filter, Hook::Forward, FILTER, Policy::Accept)
        .with_comment("network policies")
        .with_rules([revoked(), established(), itself].into_iter().chain(sides))
}

fn input() -> Chain {
    let others = Rule::new([
        Statement::is_not(Field::Iifgroup, Value::DevGroup(names::POD_LINK_GROUP)),
        Statement::Verdict(Verdict::Accept),
    ])
    .with_comment("not from a pod");
    let side = Default::ALL.map(|rest| to_judge(Direction::Out, rest));
    Chain::base(ChainKind::Filter, Hook::Input, FILTER, Policy::Accept)
        .with_comment("network policies: from pods to their own node")
        .with_rules([others, revoked(), established()].into_iter().chain(side))
}

fn revoked() -> Rule {
    Rule::new([
        Statement::is(Field::CtLabel, Value::CtLabel(names::REVOKED_LABEL)),
        Statement::Counter,
        Statement::Verdict(Verdict::Drop),
    ])
    .with_comment("a connection that policies allow no longer")
}

fn established() -> Rule {
    let state = ct_state::ESTABLISHED | ct_state::RELATED;
    Rule::new([
        Statement::is(Field::CtState, Value::CtState(state)),
        Statement::Verdict(Verdict::Accept),
    ])
}

/// To the judgement of a pod's side.
fn to_judge(way: Direction, rest: Default) -> Rule {
    Rule::new([
        Statement::in_set([link(way)], Bulk::Subjects(way, rest).name()),
        Statement::jump(chain_name(way, rest)),
    ])
}

/// Finds the class of the other side.
fn peer(way: Direction) -> Chain {
    let address = |family| address(way, family);
    let carry = |key, map: Bulk| {
        Statement::SetPriority(Class::Map {
            key: vec![key],
            map: map.name(),
        })
    };
    let identities =
        Family::ALL.map(|family| Rule::new([carry(address(family), Bulk::Identities(family))]));
    let nobody = Rule::new([
        Statement::is(Field::Priority, Value::ClassId(0)),
        Statement::goto(network_chain(way)),
    ])
    .with_comment("nobody who is known");
    let class = Rule::new([
        carry(Field::Priority, Bulk::Classes),
        Statement::Verdict(Verdict::Return),
    ]);
    let without = Rule::new([Statement::Counter, Statement::Verdict(Verdict::Drop)])
        .with_comment("an identity whose class is being replaced");
    let rules = [Rule::new([clear()])].into_iter();
    Chain::regular(rules.chain(identities).chain([nobody, class, without]))
}

/// Finds the class of an address that no pod or node has.
fn network(way: Direction) -> Chain {
    let strangers = Rule::new([Statement::SetPriority(Class::Literal(STRANGERS))]);
    let networks = Family::ALL.map(|family| {
        let map = Bulk::Networks(family).name();
        let key = vec![address(way, family)];
        Rule::new([Statement::SetPriority(Class::Map { key, map })])
    });
    Chain::regular([strangers].into_iter().chain(networks))
}

/// The chain that holds the room for labels: no packet comes here.
fn labels() -> Chain {
    let label = Rule::new([Statement::SetLabel(names::REVOKED_LABEL)]);
    Chain::regular([label])
        .with_comment("unused: with it, entries of connections have room for labels")
}

/// Looks a connection up in the lists, for the other side's class and for everybody.
fn judge(way: Direction, rest: Default) -> Chain {
    let found = || match rest {
        Default::Deny => vec![Statement::goto(CLEAR)],
        Default::Allow => vec![Statement::Counter, Statement::Verdict(Verdict::Drop)],
    };
    let lists = || {
        Form::ALL.map(|form| {
            let mut statements = look_up(way, rest, form);
            statements.extend(found());
            Rule::new(statements)
        })
    };
    let anybody = Rule::new([Statement::SetPriority(Class::Literal(ANYBODY))])
        .with_comment("what is listed for everybody");
    let end = match rest {
        Default::Deny => vec![Statement::Counter, Statement::Verdict(Verdict::Drop)],
        Default::Allow => vec![clear()],
    };
    let comment = match rest {
        Default::Deny => "allowed is what is listed",
        Default::Allow => "denied is what is listed",
    };
    let first = Rule::new([Statement::jump(peer_chain(way))]);
    let rules = [first]
        .into_iter()
        .chain(lists())
        .chain([anybody])
        .chain(lists());
    Chain::regular(rules.chain([Rule::new(end)])).with_comment(comment)
}

fn look_up(way: Direction, rest: Default, form: Form) -> Vec<Statement> {
    let transport = [l4proto::TCP, l4proto::UDP, l4proto::SCTP].map(Value::InetProto);
    let mut key = vec![link(way), Field::Priority];
    let mut statements = Vec::new();
    match form {
        Form::All => {}
        Form::Other => {
            let transport = Right::AnyOf(transport.into());
            statements.push(Statement::compare(Field::L4proto, Operator::Ne, transport));
        }
        Form::Protocol => key.push(Field::L4proto),
        Form::Port | Form::Range => {
            statements.push(Statement::is_any(Field::L4proto, transport));
            key.extend([Field::L4proto, Field::ThDport]);
        }
    }
    statements.push(Statement::in_set(key, Bulk::Listed(way, rest, form).name()));
    statements
}

fn link(way: Direction) -> Field {
    match way {
        Direction::Out => Field::Iif,
        Direction::In => Field::Oif,
    }
}

/// The address of the other side.
fn address(way: Direction, family: Family) -> Field {
    match way {
        Direction::Out => destination(family),
        Direction::In => source(family),
    }
}

fn network_chain(way: Direction) -> String {
    match way {
        Direction::Out => "class-of-destination-network".to_owned(),
        Direction::In => "class-of-source-network".to_owned(),
    }
}

fn peer_chain(way: Direction) -> String {
    match way {
        Direction::Out => "class-of-destination".to_owned(),
        Direction::In => "class-of-source".to_owned(),
    }
}

fn chain_name(way: Direction, rest: Default) -> String {
    Bulk::Subjects(way, rest).name()
}

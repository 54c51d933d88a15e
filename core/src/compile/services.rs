//! The chains of services: from the first packet of a connection to its endpoint.
//!
//! All Services share a handful of chains; what is particular to one is elements of large maps
//! ([`Bulk`]), which are not part of the plan. A packet's frontend is looked up in `count`, which says
//! among how many endpoints there is to choose; `choose` leads to the chain that chooses among so
//! many, which looks up the group of endpoints and takes one of its slots. Between two look-ups the
//! number is carried by `meta priority`; it is cleared where sources are translated, in the last
//! chain that the first packet of a connection sees.
//!
//! Where the source decides (`loadBalancerSourceRanges`, `externalTrafficPolicy: Local`) the first
//! look-up leads to a gate, and that to one of two further maps.
//!
//! What is not translated any more must not leave either: TCP packets outside their connection's
//! window are invalid to connection tracking and would pass as they are.

use weft_nft::{
    Chain, ChainKind, Class, DataType, Element, Field, Hook, Key, NatFamily, NatTarget, Operation,
    Policy, Reject, Rule, Set, Statement, Table, Type, Value, Verdict, ct_state, ct_status,
    l4proto,
};

use super::masquerade::{address_type, destination, name, source};
use super::nat::{clear, jump};
use super::{Fact, UnitPlan};
use crate::services::{Bulk, Code, Frame, Pick, clients};
use crate::view::{Family, NodeView};

pub(crate) const SERVICES: [&str; 2] = ["services4", "services6"];
const CHOOSE: [&str; 2] = ["choose4", "choose6"];
const GATE: [&str; 2] = ["gate4", "gate6"];
const INNER: [&str; 2] = ["inner4", "inner6"];
const OUTER: [&str; 2] = ["outer4", "outer6"];
const SOURCES: [&str; 2] = ["service-sources4", "service-sources6"];
const WINDOW: [&str; 2] = ["outside-window4", "outside-window6"];
pub(crate) const PODS: [&str; 2] = ["service-pods4", "service-pods6"];
pub(crate) const NETWORKS: [&str; 2] = ["service-networks4", "service-networks6"];
pub(crate) const OWN: [&str; 2] = ["own-addresses4", "own-addresses6"];
const REFUSE: &str = "no-endpoints";
const DROP: &str = "no-local-endpoints";
/// Priority between connection tracking and destination translation (`mangle`).
const MANGLE: i32 = -150;

/// The chains and sets, while this node serves Services.
pub(super) fn chains(view: &NodeView, plan: &mut UnitPlan) {
    let Some(frame) = &view.services else {
        return;
    };
    for family in Family::ALL {
        sets(frame, family, plan);
        let chains = [
            (SERVICES, services(family)),
            (GATE, gate(family)),
            (INNER, second(family, Bulk::InnerCount, false)),
            (OUTER, second(family, Bulk::OuterCount, true)),
            (SOURCES, service_sources(frame, family)),
            (WINDOW, outside_window(family)),
        ];
        for (names, chain) in chains {
            plan.add(Fact::Chain(name(names, family).to_owned(), chain));
        }
    }
    for (family, pick) in &frame.picks {
        plan.add(Fact::Chain(pick.chain(*family), choice(*family, *pick)));
    }
    let refuse = [
        Statement::Counter,
        Statement::Reject(Reject::PortUnreachable),
    ];
    let drop = [Statement::Counter, Statement::Verdict(Verdict::Drop)];
    let invalid = Rule::new([
        Statement::is(Field::CtState, Value::CtState(ct_state::INVALID)),
        Statement::is(Field::L4proto, Value::InetProto(l4proto::TCP)),
        Statement::jump("outside-window"),
    ]);
    let window = Family::ALL.map(|family| jump(family, name(WINDOW, family)));
    let chains = [
        (REFUSE, Chain::regular([Rule::new(refuse)])),
        (DROP, Chain::regular([Rule::new(drop)])),
        (
            "invalid-prerouting",
            Chain::base(ChainKind::Filter, Hook::Prerouting, MANGLE, Policy::Accept)
                .with_comment("what translation does not see must not pass untranslated")
                .with_rules([invalid]),
        ),
        ("outside-window", Chain::regular(window)),
    ];
    for (name, chain) in chains {
        plan.add(Fact::Chain(name.to_owned(), chain));
    }
}

/// Rules of the base chains that translate destinations.
pub(super) fn destinations(view: &NodeView) -> impl Iterator<Item = Rule> {
    let rules = Family::ALL.map(|family| jump(family, name(SERVICES, family)));
    view.services.iter().flat_map(move |_| rules.clone())
}

/// Rules of the base chain that translates sources.
pub(super) fn sources(view: &NodeView) -> impl Iterator<Item = Rule> {
    let rules = Family::ALL.map(|family| {
        Rule::new([
            Statement::is(Field::Nfproto, super::nat::nfproto(family)),
            Statement::is(Field::CtStatus, Value::CtStatus(ct_status::DNAT)),
            Statement::jump(name(SOURCES, family)),
        ])
    });
    let clear = Rule::new([clear()]).with_comment("nothing is carried any further");
    view.services
        .iter()
        .flat_map(move |_| [clear.clone()].into_iter().chain(rules.clone()))
}

fn sets(frame: &Frame, family: Family, plan: &mut UnitPlan) {
    for bulk in Bulk::ALL {
        let set = bulk.definition(family);
        plan.add(Fact::Set(bulk.name(family).to_owned(), set));
    }
    let (clients, set) = clients(family);
    plan.add(Fact::Set(clients.to_owned(), set));
    let Frame {
        pod_networks,
        service_networks,
        own_addresses,
        masquerade_all: _,
        picks,
    } = frame;
    let lists = [
        (PODS, pod_networks, "networks of pods"),
        (NETWORKS, service_networks, "ranges of cluster IPs"),
        (OWN, own_addresses, "addresses of this node"),
    ];
    for (names, nets, comment) in lists {
        let set = Set::new([address_type(family)])
            .with_intervals()
            .with_comment(comment);
        plan.add(Fact::Set(name(names, family).to_owned(), set));
        let nets: Vec<ipnet::IpNet> = nets.iter().copied().collect();
        // Elements of an interval set must not overlap.
        for net in ipnet::IpNet::aggregate(&nets) {
            if Family::of_net(&net) == family {
                let set = name(names, family).to_owned();
                plan.add(Fact::Element(set, net.into(), Element::default()));
            }
        }
    }
    let choose = Set::map([Type::ClassId], DataType::Verdict)
        .with_comment("what becomes of a connection, by what was counted");
    let own = picks.iter().filter(|(of, _)| *of == family);
    let codes = own.map(|(_, pick)| (Code::Pick(*pick), pick.chain(family)));
    let fixed = [
        (Code::Refuse, REFUSE.to_owned()),
        (Code::Drop, DROP.to_owned()),
    ];
    let map = name(CHOOSE, family);
    plan.add(Fact::Set(map.to_owned(), choose));
    for (code, chain) in codes.chain(fixed) {
        let key = Key::of([Value::ClassId(code.value())]);
        let element = Element::verdict(Verdict::Goto(chain));
        plan.add(Fact::Element(map.to_owned(), key, element));
    }
}

/// From a frontend to what becomes of it.
fn services(family: Family) -> Chain {
    let gates = [(true, false), (false, true), (true, true)];
    let gates = gates.map(|(ranges, inside)| Code::Gate { ranges, inside });
    let gates = gates.map(|code| Value::ClassId(code.value()));
    let daddr = [destination(family)];
    Chain::regular([
        Rule::new([clear()]),
        Rule::new([
            transport(),
            look_up(frontend(family), Bulk::Count.name(family)),
        ]),
        Rule::new([Statement::vmap([Field::Priority], name(CHOOSE, family))]),
        Rule::new([
            Statement::is_any(Field::Priority, gates),
            Statement::goto(name(GATE, family)),
        ])
        .with_comment("the source decides"),
        Rule::new([
            Statement::in_set(daddr, Bulk::ClusterIps.name(family)),
            Statement::goto(REFUSE),
        ])
        .with_comment("no port of the service"),
        Rule::new([
            Statement::in_set(daddr, name(NETWORKS, family)),
            Statement::Counter,
            Statement::Verdict(Verdict::Drop),
        ])
        .with_comment("no service has the address"),
    ])
}

/// By the source, to one of two choices or to nowhere.
fn gate(family: Family) -> Chain {
    let gates = |wanted: fn(bool, bool) -> bool| {
        let all = [(true, false), (false, true), (true, true)].into_iter();
        let gates = all.filter(move |(ranges, inside)| wanted(*ranges, *inside));
        let values = gates.map(|(ranges, inside)| Code::Gate { ranges, inside }.value());
        Statement::is_any(Field::Priority, values.map(Value::ClassId))
    };
    let from = [source(family)];
    let key = [frontend(family), from.to_vec()].concat();
    Chain::regular([
        Rule::new([
            gates(|ranges, _| ranges),
            transport(),
            Statement::not_in_set(key, Bulk::Sources.name(family)),
            Statement::Counter,
            Statement::Verdict(Verdict::Drop),
        ])
        .with_comment("not a source that the service is for"),
        Rule::new([
            gates(|_, inside| inside),
            Statement::in_set(from, name(PODS, family)),
            Statement::jump(name(INNER, family)),
        ]),
        Rule::new([
            gates(|_, inside| inside),
            Statement::in_set(from, name(OWN, family)),
            Statement::jump(name(INNER, family)),
        ]),
        Rule::new([Statement::goto(name(OUTER, family))]),
    ])
}

/// The choice behind a gate.
fn second(family: Family, count: Bulk, last: bool) -> Chain {
    let look_up = Rule::new([transport(), look_up(frontend(family), count.name(family))]);
    let choose = Rule::new([Statement::vmap([Field::Priority], name(CHOOSE, family))]);
    let rest = Rule::new([Statement::Counter, Statement::Verdict(Verdict::Drop)]);
    Chain::regular([look_up, choose].into_iter().chain(last.then_some(rest)))
}

/// A choice among some number of endpoints.
fn choice(family: Family, pick: Pick) -> Chain {
    let Pick {
        inner,
        count,
        affinity,
    } = pick;
    let number = if inner {
        Bulk::InnerNumber
    } else {
        Bulk::Number
    };
    let group = Rule::new([transport(), look_up(frontend(family), number.name(family))]);
    let random = Field::Random {
        modulus: count,
        offset: 0,
    };
    let slot = vec![Field::Priority, random];
    let rules = match affinity {
        None => {
            // Before kernel 6.17 a look-up may miss an element that is just being replaced: once more.
            let any = translate(family, slot, Bulk::Endpoints.name(family));
            vec![group, any.clone(), any]
        }
        Some(seconds) => {
            let choose = Rule::new([look_up(slot, Bulk::Slots.name(family))]);
            let remember = Rule::new([
                transport(),
                client(family, Operation::Update, Some(seconds)),
            ]);
            let (map, _) = clients(family);
            let recall = Rule::new([transport(), look_up(client_key(family), map)]);
            let forget = Rule::new([transport(), client(family, Operation::Delete, None)])
                .with_comment("the client's endpoint is gone");
            let key = vec![Field::Priority];
            let reach = translate(family, key, Bulk::Addresses.name(family));
            vec![
                group.clone(),
                choose.clone(),
                remember.clone(),
                recall,
                reach.clone(),
                forget,
                group,
                choose,
                remember,
                reach,
            ]
        }
    };
    let missed = Rule::new([Statement::Counter, Statement::Verdict(Verdict::Drop)])
        .with_comment("a change in the middle: the client asks again");
    Chain::regular(rules.into_iter().chain([missed]))
}

/// Who is masqueraded of those whose destination was translated.
/// Whether a table that is otherwise of this frame masquerades everything to cluster IPs.
pub(crate) fn masquerades_all(table: &Table, frame: &Frame) -> bool {
    let all = Frame {
        masquerade_all: true,
        ..frame.clone()
    };
    Family::ALL.into_iter().any(|family| {
        let there = table.chains.get(name(SOURCES, family));
        there.is_some_and(|chain| *chain == service_sources(&all, family))
    })
}

fn service_sources(frame: &Frame, family: Family) -> Chain {
    let (saddr, daddr) = (source(family), destination(family));
    let pods = frame
        .pod_networks
        .iter()
        .any(|net| Family::of_net(net) == family);
    let to_cluster_ip = Statement::in_set([original(family)], Bulk::ClusterIps.name(family));
    let masquerade = Statement::Masquerade { fully_random: true };
    let mut rules = vec![
        Rule::new([
            Statement::in_set([saddr, daddr], Bulk::Pairs.name(family)),
            masquerade.clone(),
        ])
        .with_comment("an endpoint that reaches itself"),
        Rule::new([
            transport(),
            Statement::in_set(original_frontend(family), Bulk::Masquerade.name(family)),
            masquerade.clone(),
        ])
        .with_comment("from outside, perhaps to another node"),
        Rule::new([
            Statement::in_set([saddr], name(OWN, family)),
            transport(),
            Statement::in_set(original_frontend(family), Bulk::MasqueradeOwn.name(family)),
            masquerade.clone(),
        ])
        .with_comment("the node itself may have taken the service's address as its source"),
    ];
    if frame.masquerade_all {
        rules.push(Rule::new([to_cluster_ip, masquerade]));
    } else if pods {
        rules.push(
            Rule::new([
                Statement::not_in_set([saddr], name(PODS, family)),
                to_cluster_ip,
                masquerade,
            ])
            .with_comment("from outside the cluster"),
        );
    }
    Chain::regular(rules)
}

/// What connection tracking does not know, of endpoints and frontends.
fn outside_window(family: Family) -> Chain {
    let (saddr, daddr) = (source(family), destination(family));
    let lookups = [
        Statement::in_set([saddr, saddr], Bulk::Pairs.name(family)),
        Statement::in_set([daddr], Bulk::ClusterIps.name(family)),
        Statement::in_set(frontend(family), Bulk::Masquerade.name(family)),
        Statement::in_set(frontend(family), Bulk::MasqueradeOwn.name(family)),
    ];
    Chain::regular(lookups.map(|look_up| {
        Rule::new([
            transport(),
            look_up,
            Statement::Counter,
            Statement::Verdict(Verdict::Drop),
        ])
    }))
}

/// The key of a frontend.
fn frontend(family: Family) -> Vec<Field> {
    vec![destination(family), Field::L4proto, Field::ThDport]
}

/// The key of a client with affinity.
fn client_key(family: Family) -> Vec<Field> {
    [vec![source(family)], frontend(family)].concat()
}

fn client(family: Family, operation: Operation, seconds: Option<u32>) -> Statement {
    Statement::Dynamic {
        operation,
        set: clients(family).0.to_owned(),
        key: client_key(family),
        timeout: seconds.map(|seconds| std::time::Duration::from_secs(seconds.into())),
        data: Some(Field::Priority),
    }
}

/// The original destination of a connection.
fn original(family: Family) -> Field {
    match family {
        Family::V4 => Field::CtOriginalIpDaddr,
        Family::V6 => Field::CtOriginalIp6Daddr,
    }
}

/// The key of the frontend that a connection was made to.
fn original_frontend(family: Family) -> Vec<Field> {
    vec![original(family), Field::L4proto, Field::CtOriginalProtoDst]
}

/// The protocols that have ports: presumed by what reads a port.
fn transport() -> Statement {
    let protocols = [l4proto::TCP, l4proto::UDP, l4proto::SCTP];
    Statement::is_any(Field::L4proto, protocols.map(Value::InetProto))
}

fn look_up(key: Vec<Field>, map: &str) -> Statement {
    Statement::SetPriority(Class::Map {
        key,
        map: map.to_owned(),
    })
}

fn translate(family: Family, key: Vec<Field>, map: &str) -> Rule {
    let nat = match family {
        Family::V4 => NatFamily::Ip,
        Family::V6 => NatFamily::Ip6,
    };
    Rule::new([
        transport(),
        Statement::Dnat {
            family: nat,
            to: NatTarget::Map {
                key,
                map: map.to_owned(),
            },
        },
    ])
}

//! Host ports: ports of the node that are forwarded to a pod of this node.
//!
//! The destination is translated in prerouting and, for the node's own processes, in output, if it
//! is an address of the node. 127.0.0.1 and ::1 are not served: the reply could only come back with
//! `route_localnet`, which would let the network reach what listens on loopback alone. A pod that
//! reaches itself by its host port gets the node's address as source, or the reply would not come
//! back through the translation. The chains are there only while a pod has a host port.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use weft_nft::{
    Chain, DataType, Element, Field, Key, NatFamily, NatTarget, Operator, Right, Rule, Set,
    Statement, Type, Value, Verdict, ct_status, l4proto,
};

use super::masquerade::{address_type, comment, destination, name, source};
use super::{Fact, UnitPlan};
use crate::finding::Finding;
use crate::view::{AttachmentKey, Family, HostPort, NodeView, PodView, Protocol};

/// Ports of every address of the node.
const ANY: [&str; 2] = ["host-ports4", "host-ports6"];
/// Ports of one address of the node.
const AT: [&str; 2] = ["host-ports-at4", "host-ports-at6"];
/// Pods that may reach themselves.
const HAIRPIN: [&str; 2] = ["hairpin4", "hairpin6"];
/// The regular chain.
const CHAIN: &str = "host-ports";

/// The pod that already has a host port that another pod asks for.
#[must_use]
pub fn conflict(view: &NodeView, key: &AttachmentKey, ports: &[HostPort]) -> Option<Finding> {
    let asks = view.pods.get(key).map_or("", |pod| pod.pod.as_str());
    let others = view.pods.iter().filter(|(other, _)| *other != key);
    others
        .flat_map(|(_, pod)| pod.host_ports.iter().map(move |has| (pod, has)))
        .find_map(|(pod, has)| {
            let port = ports.iter().find(|port| same(port, has))?;
            Some(Finding::HostPortTaken {
                pod: asks.to_owned(),
                other: pod.pod.clone(),
                port: port.clone(),
            })
        })
}

/// The maps and the set.
pub(super) fn base(plan: &mut UnitPlan) {
    for family in Family::ALL {
        let address = address_type(family);
        let target = DataType::Values(vec![address, Type::InetService]);
        let any = Set::map([Type::InetProto, Type::InetService], target.clone())
            .with_comment("host ports at every address of the node");
        let at = Set::map([address, Type::InetProto, Type::InetService], target)
            .with_comment("host ports at one address of the node");
        let hairpin =
            Set::new([address, address]).with_comment("pods with host ports, to themselves");
        for (names, set) in [(ANY, any), (AT, at), (HAIRPIN, hairpin)] {
            plan.add(Fact::Set(name(names, family).to_owned(), set));
        }
    }
}

/// The regular chain, and ports that two pods ask for.
pub(super) fn chains(view: &NodeView, plan: &mut UnitPlan) {
    if is_used(view) {
        let chain = Chain::regular(translations());
        plan.add(Fact::Chain(CHAIN.to_owned(), chain));
        taken_twice(view, plan);
    }
}

/// Rules of the base chain for what others send.
pub(super) fn prerouting(view: &NodeView) -> impl Iterator<Item = Rule> {
    is_used(view).then(to_node).into_iter()
}

/// Rules of the base chain for what the node itself sends.
pub(super) fn output(view: &NodeView) -> impl Iterator<Item = Rule> {
    let rules = || not_loopback().into_iter().chain([to_node()]);
    is_used(view).then(rules).into_iter().flatten()
}

/// Rules of the base chain for sources: a pod that reaches itself by its host port.
pub(super) fn postrouting(view: &NodeView) -> impl Iterator<Item = Rule> {
    let rules = || Family::ALL.map(hairpin);
    is_used(view).then(rules).into_iter().flatten()
}

/// Whether a pod has a host port.
fn is_used(view: &NodeView) -> bool {
    let wired = |pod: &PodView| pod.host_index.is_some() && !pod.host_ports.is_empty();
    view.pods.values().any(wired)
}

fn to_node() -> Rule {
    Rule::new([
        Statement::is(Field::FibDaddrType, Value::FibLocal),
        Statement::jump(CHAIN),
    ])
}

/// A pod's host ports.
pub(super) fn pod(view: &NodeView, key: &AttachmentKey, plan: &mut UnitPlan) {
    let Some(pod) = view.pods.get(key).filter(|pod| pod.host_index.is_some()) else {
        return;
    };
    for &address in pod.addresses.iter().filter(|_| !pod.host_ports.is_empty()) {
        let family = Family::of(address);
        for port in &pod.host_ports {
            if let Some(fact) = translation(pod, address, port) {
                plan.add(fact);
            }
        }
        plan.add(Fact::Element(
            name(HAIRPIN, family).to_owned(),
            Key::of([address.into(), address.into()]),
            Element::default().with_comment(comment(&pod.pod)),
        ));
    }
}

/// The element for one port and one of the pod's addresses, if the port is for that family.
fn translation(pod: &PodView, address: IpAddr, port: &HostPort) -> Option<Fact> {
    let family = Family::of(address);
    let proto = Value::InetProto(match port.protocol {
        Protocol::Tcp => l4proto::TCP,
        Protocol::Udp => l4proto::UDP,
        Protocol::Sctp => l4proto::SCTP,
    });
    let at = Value::InetService(port.host_port);
    // "0.0.0.0" and "::" are every address of their family.
    let (set, key) = match port.host_ip {
        Some(ip) if Family::of(ip) != family => return None,
        Some(ip) if !ip.is_unspecified() => (AT, Key::of([ip.into(), proto, at])),
        Some(_) | None => (ANY, Key::of([proto, at])),
    };
    let target = [address.into(), Value::InetService(port.container_port)];
    Some(Fact::Element(
        name(set, family).to_owned(),
        key,
        Element::of(target).with_comment(comment(&pod.pod)),
    ))
}

fn translations() -> impl Iterator<Item = Rule> {
    let transport = [l4proto::TCP, l4proto::UDP, l4proto::SCTP].map(Value::InetProto);
    let port = [Field::L4proto, Field::ThDport];
    let rules = move |family| {
        let (nat, nfproto) = match family {
            Family::V4 => (NatFamily::Ip, Value::NfProtoIpv4),
            Family::V6 => (NatFamily::Ip6, Value::NfProtoIpv6),
        };
        let at_address = [vec![destination(family)], port.to_vec()].concat();
        let transport = transport.clone();
        [(AT, at_address), (ANY, port.to_vec())].map(move |(map, key)| {
            Rule::new([
                Statement::is(Field::Nfproto, nfproto.clone()),
                Statement::is_any(Field::L4proto, transport.clone()),
                Statement::Dnat {
                    family: nat,
                    to: NatTarget::Map {
                        key,
                        map: name(map, family).to_owned(),
                    },
                },
            ])
        })
    };
    Family::ALL.into_iter().flat_map(rules)
}

fn not_loopback() -> [Rule; 2] {
    let v4 = IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));
    let v6 = Right::Value(Ipv6Addr::LOCALHOST.into());
    [(Field::IpDaddr, Right::Network(v4)), (Field::Ip6Daddr, v6)].map(|(field, right)| {
        Rule::new([
            Statement::compare(field, Operator::Eq, right),
            Statement::Verdict(Verdict::Return),
        ])
    })
}

fn hairpin(family: Family) -> Rule {
    Rule::new([
        Statement::is(Field::CtStatus, Value::CtStatus(ct_status::DNAT)),
        Statement::in_set([source(family), destination(family)], name(HAIRPIN, family)),
        Statement::Masquerade { fully_random: true },
    ])
    .with_comment("a pod that reaches itself by its host port")
}

/// Findings for ports that an earlier pod has.
fn taken_twice(view: &NodeView, plan: &mut UnitPlan) {
    let mut first: BTreeMap<(u16, Protocol, Option<IpAddr>), &str> = BTreeMap::new();
    for pod in view.pods.values().filter(|pod| pod.host_index.is_some()) {
        for port in &pod.host_ports {
            let other = *first
                .entry((port.host_port, port.protocol, port.host_ip))
                .or_insert(&pod.pod);
            if other != pod.pod {
                plan.find(Finding::HostPortTaken {
                    pod: pod.pod.clone(),
                    other: other.to_owned(),
                    port: port.clone(),
                });
            }
        }
    }
}

/// Two host ports that one packet could be for.
fn same(a: &HostPort, b: &HostPort) -> bool {
    let wide = |ip: Option<IpAddr>| ip.filter(|ip| !ip.is_unspecified());
    a.host_port == b.host_port
        && a.protocol == b.protocol
        && match (wide(a.host_ip), wide(b.host_ip)) {
            (Some(a), Some(b)) => a == b,
            (None, _) | (_, None) => true,
        }
}

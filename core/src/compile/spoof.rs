//! Spoof protection: what comes from a pod's link must have that pod's address as its source.
//!
//! The first chain of prerouting, before connection tracking, so that nothing forged leaves a
//! trace. A packet that did not come from a pod's link (by link group) leaves it at its first rule.
//! The rest is looked up by interface index and source address in a hash set; whatever is not in
//! there is dropped, and with it everything from a pod's link that is not known (yet).
//!
//! IPv6 link-local sources are never in the set. A pod needs none: the neighbour entries of both
//! ends are permanent, so it neither asks for fe80::1 nor answers for itself, and duplicate address
//! detection on its own /128 has nobody to hear it. So neighbour discovery, router advertisements
//! and redirects of pods are dropped with any source, the pod's own address included. ARP is not
//! seen by this family of tables and can change nothing: permanent entries are not overwritten.
//!
//! A pod's packet to a node's VXLAN port would be taken for one of a node. It is dropped where a
//! node receives it, whatever translation it went through on the way, so that pods may use the
//! port among themselves.

use weft_nft::{
    Chain, ChainKind, Element, Field, Hook, Key, Policy, Rule, Set, Statement, Type, Value,
    Verdict, icmpv6,
};

use super::masquerade::{POD_NETWORKS, address_type, comment, name, source};
use super::{Fact, UnitPlan};
use crate::names;
use crate::view::{AttachmentKey, Family, NodeView};

/// Interface and address of each pod.
const SOURCES: [&str; 2] = ["pod-sources4", "pod-sources6"];
/// UDP ports of this node's VXLAN devices.
const VXLAN_PORTS: &str = "vxlan-ports";
/// What pods of a family may not send with their own address either.
const RESTRICTIONS: [&str; 2] = ["from-pod4", "from-pod6"];
/// Priority before connection tracking (`raw`).
const RAW: i32 = -300;
/// UDP ports of DHCP, server then client (RFC 2131, section 4.1).
const DHCP: (u16, u16) = (67, 68);
/// UDP ports of DHCPv6, server then client (RFC 8415, section 7.2).
const DHCPV6: (u16, u16) = (547, 546);

/// The check of what pods send.
pub(super) fn base(plan: &mut UnitPlan) {
    for family in Family::ALL {
        let set = Set::new([Type::IfaceIndex, address_type(family)])
            .with_comment("link and address of each pod of this node");
        plan.add(Fact::Set(name(SOURCES, family).to_owned(), set));
    }
    let ports =
        Set::new([Type::InetService]).with_comment("UDP ports of this node's VXLAN devices");
    plan.add(Fact::Set(VXLAN_PORTS.to_owned(), ports));
    plan.add(Fact::Chain("from-pods".to_owned(), from_pods()));
    let [v4, v6] = RESTRICTIONS;
    plan.add(Fact::Chain(v4.to_owned(), Chain::regular([dhcp(DHCP)])));
    plan.add(Fact::Chain(
        v6.to_owned(),
        Chain::regular([neighbour_discovery(), dhcp(DHCPV6)]),
    ));
}

/// A pod's addresses.
pub(super) fn pod(view: &NodeView, key: &AttachmentKey, plan: &mut UnitPlan) {
    let Some((pod, index)) = view
        .pods
        .get(key)
        .and_then(|pod| Some((pod, pod.host_index?)))
    else {
        return;
    };
    for &address in &pod.addresses {
        plan.add(Fact::Element(
            name(SOURCES, Family::of(address)).to_owned(),
            Key::of([Value::IfaceIndex(index), address.into()]),
            Element::default().with_comment(comment(&pod.pod)),
        ));
    }
}

/// The protection of a VXLAN device's port.
pub(super) fn vxlan(overlay: &str, port: u16, plan: &mut UnitPlan) {
    plan.add(Fact::Element(
        VXLAN_PORTS.to_owned(),
        Value::InetService(port).into(),
        Element::default().with_comment(comment(&format!("overlay {overlay}"))),
    ));
    let rules = Family::ALL.map(|family| {
        Rule::new([
            Statement::in_set([Field::UdpDport], VXLAN_PORTS),
            Statement::in_set([source(family)], name(POD_NETWORKS, family)),
            Statement::Counter,
            Statement::Verdict(Verdict::Drop),
        ])
    });
    let chain = Chain::base(ChainKind::Filter, Hook::Input, RAW, Policy::Accept)
        .with_comment("encapsulated packets come from nodes, never from pods")
        .with_rules(rules);
    plan.add(Fact::Chain("vxlan-input".to_owned(), chain));
}

fn from_pods() -> Chain {
    let others = Rule::new([
        Statement::is_not(Field::Iifgroup, Value::DevGroup(names::POD_LINK_GROUP)),
        Statement::Verdict(Verdict::Accept),
    ])
    .with_comment("not from a pod");
    let [v4, v6] = Family::ALL.map(|family| {
        Rule::new([
            Statement::in_set([Field::Iif, source(family)], name(SOURCES, family)),
            Statement::goto(name(RESTRICTIONS, family)),
        ])
    });
    let rest = Rule::new([Statement::Counter, Statement::Verdict(Verdict::Drop)])
        .with_comment("not the pod's own address, or not a pod that is known");
    Chain::base(ChainKind::Filter, Hook::Prerouting, RAW, Policy::Accept)
        .with_comment("what pods send must have their own address")
        .with_rules([others, v4, v6, rest])
}

fn neighbour_discovery() -> Rule {
    let types = [
        icmpv6::ND_ROUTER_SOLICIT,
        icmpv6::ND_ROUTER_ADVERT,
        icmpv6::ND_NEIGHBOR_SOLICIT,
        icmpv6::ND_NEIGHBOR_ADVERT,
        icmpv6::ND_REDIRECT,
    ];
    Rule::new([
        Statement::is_any(Field::Icmpv6Type, types.map(Value::Icmpv6Type)),
        Statement::Counter,
        Statement::Verdict(Verdict::Drop),
    ])
    .with_comment("neighbour discovery: entries are permanent at both ends")
}

fn dhcp((server, client): (u16, u16)) -> Rule {
    Rule::new([
        Statement::is(Field::UdpSport, Value::InetService(server)),
        Statement::is(Field::UdpDport, Value::InetService(client)),
        Statement::Counter,
        Statement::Verdict(Verdict::Drop),
    ])
    .with_comment("answers of a DHCP server")
}

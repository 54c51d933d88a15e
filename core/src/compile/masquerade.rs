//! Masquerading: what leaves the cluster from a pool that asks for it gets the node's address.
//!
//! Judged once for each connection, by addresses alone and without marks: the source is in one of
//! this node's own blocks; the destination is no pod, no node and no exception of the pool; the
//! packet leaves by a link that is not a pod's. The chain is there only while a pool asks for it,
//! because a NAT chain costs every packet of the node a little.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_nft::{Chain, Element, Field, Key, Part, Rule, Set, Statement, Type, Value};

use super::{Fact, UnitPlan};
use crate::finding::Finding;
use crate::names;
use crate::view::{Family, NodeView};

/// Networks of all pods of the cluster.
pub(super) const POD_NETWORKS: [&str; 2] = ["pod-networks4", "pod-networks6"];
/// This node's blocks whose packets are masqueraded.
const SOURCES: [&str; 2] = ["masquerade-sources4", "masquerade-sources6"];
/// Pairs of source and destination that are not.
const EXCEPTIONS: [&str; 2] = ["masquerade-except4", "masquerade-except6"];
/// Addresses of all nodes.
const NODES: [&str; 2] = ["nodes4", "nodes6"];

/// The regular chain.
const CHAIN: &str = "masquerade-outgoing";

/// The name of a family's set, its address type and its fields.
pub(super) fn name(names: [&'static str; 2], family: Family) -> &'static str {
    let [v4, v6] = names;
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// Type of a family's addresses.
pub(super) fn address_type(family: Family) -> Type {
    match family {
        Family::V4 => Type::Ipv4Addr,
        Family::V6 => Type::Ipv6Addr,
    }
}

/// Source address of a family.
pub(super) fn source(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpSaddr,
        Family::V6 => Field::Ip6Saddr,
    }
}

/// Destination address of a family.
pub(super) fn destination(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpDaddr,
        Family::V6 => Field::Ip6Daddr,
    }
}

/// The sets, and the node's own addresses.
pub(super) fn base(view: &NodeView, plan: &mut UnitPlan) {
    for family in Family::ALL {
        let address = address_type(family);
        let sets = [
            (
                POD_NETWORKS,
                Set::new([address])
                    .with_intervals()
                    .with_comment("networks of all pods of the cluster"),
            ),
            (
                SOURCES,
                Set::new([address])
                    .with_intervals()
                    .with_comment("blocks of this node whose pods get the node's address outside"),
            ),
            (
                EXCEPTIONS,
                Set::new([address, address])
                    .with_intervals()
                    .with_comment("source and destination that keep the pod's address"),
            ),
            (
                NODES,
                Set::new([address]).with_comment("addresses of all nodes"),
            ),
        ];
        for (names, set) in sets {
            plan.add(Fact::Set(name(names, family).to_owned(), set));
        }
    }
    for address in view.host.addresses() {
        plan.add(node(address, &view.node));
    }
}

/// The regular chain, while a pool asks for it.
pub(super) fn chain(view: &NodeView, plan: &mut UnitPlan) {
    if !is_used(view) {
        return;
    }
    let rules = Family::ALL.map(|family| {
        let (source, destination) = (source(family), destination(family));
        Rule::new([
            Statement::in_set([source], name(SOURCES, family)),
            Statement::not_in_set([destination], name(POD_NETWORKS, family)),
            Statement::not_in_set([destination], name(NODES, family)),
            Statement::not_in_set([source, destination], name(EXCEPTIONS, family)),
            Statement::is_not(Field::Oifgroup, Value::DevGroup(names::POD_LINK_GROUP)),
            Statement::Masquerade { fully_random: true },
        ])
    });
    let chain =
        Chain::regular(rules).with_comment("what leaves the cluster gets the node's address");
    plan.add(Fact::Chain(CHAIN.to_owned(), chain));
}

/// Rules of the base chain for sources.
pub(super) fn postrouting(view: &NodeView) -> impl Iterator<Item = Rule> {
    let jump = || Rule::new([Statement::jump(CHAIN)]);
    is_used(view).then(jump).into_iter()
}

/// Whether a pool asks for masquerading.
fn is_used(view: &NodeView) -> bool {
    view.pools.values().any(|pool| pool.masquerade)
}

/// Networks of pods: those of all pools, and of blocks that outlive their pool's network.
pub(super) fn pod_networks(view: &NodeView, plan: &mut UnitPlan) {
    let pools = view
        .pools
        .values()
        .flat_map(|pool| pool.cidrs.iter().copied());
    let blocks = view.blocks.values().map(|block| block.cidr);
    // Elements of an interval set must not overlap.
    for net in IpNet::aggregate(&pools.chain(blocks).collect()) {
        let set = name(POD_NETWORKS, Family::of_net(&net)).to_owned();
        plan.add(Fact::Element(set, net.into(), Element::default()));
    }
}

/// A pool's exceptions.
pub(super) fn exceptions(view: &NodeView, pool: &str, plan: &mut UnitPlan) {
    let Some(view_pool) = view.pools.get(pool) else {
        return;
    };
    if view_pool.assignable && view_pool.has(Family::V6) && !view.host.ipv6 {
        plan.find(Finding::Ipv6Disabled {
            pool: pool.to_owned(),
        });
    }
    if !view_pool.masquerade {
        return;
    }
    let except = IpNet::aggregate(&view_pool.masquerade_except);
    for cidr in IpNet::aggregate(&view_pool.cidrs) {
        let family = Family::of_net(&cidr);
        for &destination in except.iter().filter(|net| Family::of_net(net) == family) {
            plan.add(Fact::Element(
                name(EXCEPTIONS, family).to_owned(),
                Key(vec![Part::from(cidr), Part::from(destination)]),
                Element::default().with_comment(comment(&format!("pool {pool}"))),
            ));
        }
    }
}

/// An own block whose pool asks for masquerading.
pub(super) fn block(view: &NodeView, block: &str, plan: &mut UnitPlan) {
    let Some(block) = view
        .blocks
        .get(block)
        .filter(|block| block.node == view.node)
    else {
        return;
    };
    if view
        .pools
        .get(&block.pool)
        .is_some_and(|pool| pool.masquerade)
    {
        plan.add(Fact::Element(
            name(SOURCES, Family::of_net(&block.cidr)).to_owned(),
            block.cidr.into(),
            Element::default().with_comment(comment(&format!("pool {}", block.pool))),
        ));
    }
}

/// A peer's addresses.
pub(super) fn peer(view: &NodeView, peer: &str, plan: &mut UnitPlan) {
    let addresses = view.peers.get(peer).map(|peer| &peer.addresses);
    for &address in addresses.into_iter().flatten() {
        plan.add(node(address, peer));
    }
}

/// A comment that the kernel takes: at most 127 bytes.
pub(crate) fn comment(text: &str) -> String {
    let mut end = text.len().min(127);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn node(address: IpAddr, node: &str) -> Fact {
    Fact::Element(
        name(NODES, Family::of(address)).to_owned(),
        Value::from(address).into(),
        Element::default().with_comment(comment(node)),
    )
}

//! From a [`NodeView`] to a [`NodePlan`], in units.
//!
//! Each unit (a pod, a block, a peer, …) is compiled by a pure function into facts: single entries
//! of the plan. The plan is the merge of all units; where two units state the same entry (two nodes
//! with one address, say) the first unit in the order of [`UnitKey`] wins. When the view changes,
//! only the units concerned are compiled again: [`Incremental`].

mod dns;
mod fact;
pub mod host_ports;
mod incremental;
pub mod masquerade;
pub mod mtu;
mod nat;
pub mod overlay;
mod pods;
mod policy;
mod routes;
pub(crate) mod services;
mod spoof;
pub mod sysctls;

use std::collections::{BTreeMap, BTreeSet};

use weft_nft::{Table, TableFlags};

pub use dns::answers_dns;
pub use fact::{Fact, Item};
pub use incremental::{Incremental, affected};

pub(crate) use masquerade::comment;

use crate::finding::Finding;
use crate::names;
use crate::plan::NodePlan;
use crate::view::{AttachmentKey, NodeView};

/// What is compiled by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitKey {
    /// What is there on every node: sets, the check of what pods send, the host's own sysctls and addresses.
    Base,
    /// The chain that translates what leaves the cluster, while a pool asks for it.
    Masquerade,
    /// The chains of host ports, while a pod has one.
    HostPorts,
    /// The chains of services, while this node serves them.
    Services,
    /// The base chains of translation, while something is translated.
    Nat,
    /// The chains of network policies, while this node enforces them.
    Policy,
    /// Cluster DNS on the node, where it has a server.
    Dns,
    /// The networks of pods, which are never masqueraded towards.
    PodNetworks,
    /// An overlay's VXLAN device.
    Overlay(String),
    /// A pool's exceptions from masquerading.
    Pool(String),
    /// What the way to a node is made of, and its addresses.
    Peer(String),
    /// A pod of this node.
    Pod(AttachmentKey),
    /// The route to a block. After pods: a pod's own route wins over that of a block of one address.
    Block(String),
}

/// What one unit compiles to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitPlan {
    /// Entries of the plan.
    pub facts: BTreeMap<Item, Fact>,
    /// What is not as wished.
    pub findings: Vec<Finding>,
}

impl UnitPlan {
    fn add(&mut self, fact: Fact) {
        self.facts.insert(fact.item(), fact);
    }

    fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

/// Every unit of a view.
#[must_use]
pub fn keys(view: &NodeView) -> BTreeSet<UnitKey> {
    let fixed = [
        UnitKey::Base,
        UnitKey::Masquerade,
        UnitKey::HostPorts,
        UnitKey::Services,
        UnitKey::Nat,
        UnitKey::Policy,
        UnitKey::Dns,
        UnitKey::PodNetworks,
    ];
    fixed
        .into_iter()
        .chain(view.overlays.keys().cloned().map(UnitKey::Overlay))
        .chain(view.pools.keys().cloned().map(UnitKey::Pool))
        .chain(view.peers.keys().cloned().map(UnitKey::Peer))
        .chain(view.pods.keys().cloned().map(UnitKey::Pod))
        .chain(view.blocks.keys().cloned().map(UnitKey::Block))
        .collect()
}

/// Compiles one unit. A unit whose object is not in the view compiles to nothing.
#[must_use]
pub fn unit(view: &NodeView, key: &UnitKey) -> UnitPlan {
    let mut plan = UnitPlan::default();
    match key {
        UnitKey::Base => base(view, &mut plan),
        UnitKey::Masquerade => masquerade::chain(view, &mut plan),
        UnitKey::HostPorts => host_ports::chains(view, &mut plan),
        UnitKey::Services => services::chains(view, &mut plan),
        UnitKey::Nat => nat::chains(view, &mut plan),
        UnitKey::Policy => policy::chains(view, &mut plan),
        UnitKey::Dns => dns::chains(view, &mut plan),
        UnitKey::PodNetworks => masquerade::pod_networks(view, &mut plan),
        UnitKey::Overlay(name) => overlay::device(view, name, &mut plan),
        UnitKey::Pool(name) => masquerade::exceptions(view, name, &mut plan),
        UnitKey::Peer(name) => {
            overlay::peer(view, name, &mut plan);
            masquerade::peer(view, name, &mut plan);
        }
        UnitKey::Pod(key) => {
            pods::pod(view, key, &mut plan);
            spoof::pod(view, key, &mut plan);
            host_ports::pod(view, key, &mut plan);
            sysctls::pod(view, key, &mut plan);
        }
        UnitKey::Block(name) => {
            routes::block(view, name, &mut plan);
            masquerade::block(view, name, &mut plan);
        }
    }
    plan
}

/// Compiles everything.
#[must_use]
pub fn all(view: &NodeView) -> (NodePlan, Vec<Finding>) {
    let mut merged: BTreeMap<Item, Fact> = BTreeMap::new();
    let mut findings = Vec::new();
    for key in keys(view) {
        let unit = unit(view, &key);
        for (item, fact) in unit.facts {
            merged.entry(item).or_insert(fact);
        }
        findings.extend(unit.findings);
    }
    let mut plan = empty_plan();
    for (item, fact) in merged {
        fact::put(&mut plan, item, fact);
    }
    (plan, findings)
}

fn empty_plan() -> NodePlan {
    NodePlan {
        table: Table::new(names::TABLE, TableFlags::OWNED),
        ..NodePlan::default()
    }
}

fn base(view: &NodeView, plan: &mut UnitPlan) {
    spoof::base(plan);
    masquerade::base(view, plan);
    host_ports::base(plan);
    sysctls::base(view, plan);
}

//! A plan that follows its view: only the units that a change concerns are compiled again.
//!
//! The result is the same as compiling everything, whatever came before; a property test holds the
//! two equal over random sequences of changes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Item, UnitKey, UnitPlan, empty_plan, fact, keys, unit};
use crate::finding::Finding;
use crate::plan::NodePlan;
use crate::services::Frame;
use crate::view::{AttachmentKey, DnsView, NodeView, PodView};

/// A view, its compiled units, and the plan that they merge to.
#[derive(Clone, Debug)]
pub struct Incremental {
    view: NodeView,
    units: BTreeMap<UnitKey, UnitPlan>,
    /// Which units state an item, in their order: the first one's fact is in the plan.
    owners: BTreeMap<Item, BTreeSet<UnitKey>>,
    plan: NodePlan,
}

impl Incremental {
    /// Compiles everything.
    #[must_use]
    pub fn new(view: NodeView) -> Self {
        let mut this = Self {
            view,
            units: BTreeMap::new(),
            owners: BTreeMap::new(),
            plan: empty_plan(),
        };
        let keys = keys(&this.view);
        this.recompile(&keys);
        this
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &NodeView {
        &self.view
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &NodePlan {
        &self.plan
    }

    /// What is not as wished, in the order of units.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.units.values().flat_map(|unit| &unit.findings)
    }

    /// Goes over to another view. Answers which units were compiled.
    pub fn update(&mut self, view: NodeView) -> BTreeSet<UnitKey> {
        let keys = affected(&self.view, &view);
        self.view = view;
        self.recompile(&keys);
        keys
    }

    /// Adds, changes or removes one pod, without looking at anything else.
    pub fn set_pod(&mut self, key: &AttachmentKey, pod: Option<PodView>) -> BTreeSet<UnitKey> {
        match pod {
            Some(pod) => drop(self.view.pods.insert(key.clone(), pod)),
            None => drop(self.view.pods.remove(key)),
        }
        let keys = [UnitKey::Pod(key.clone()), UnitKey::HostPorts, UnitKey::Nat].into();
        self.recompile(&keys);
        keys
    }

    /// Goes over to another frame of services, without looking at anything else.
    pub fn set_services(&mut self, services: Option<Frame>) -> BTreeSet<UnitKey> {
        self.view.services = services;
        let keys = [UnitKey::Services, UnitKey::Nat].into();
        self.recompile(&keys);
        keys
    }

    /// Goes over to another state of the node's DNS server, without looking at anything else.
    pub fn set_dns(&mut self, dns: Option<DnsView>) -> BTreeSet<UnitKey> {
        self.view.dns = dns;
        let keys = [UnitKey::Dns].into();
        self.recompile(&keys);
        keys
    }

    fn recompile(&mut self, keys: &BTreeSet<UnitKey>) {
        let mut touched = BTreeSet::new();
        for key in keys {
            let new = unit(&self.view, key);
            let old = self.units.remove(key).unwrap_or_default();
            for item in old
                .facts
                .keys()
                .filter(|item| !new.facts.contains_key(item))
            {
                if let Some(owners) = self.owners.get_mut(item) {
                    owners.remove(key);
                }
                touched.insert(item.clone());
            }
            for (item, fact) in &new.facts {
                if old.facts.get(item) != Some(fact) {
                    self.owners
                        .entry(item.clone())
                        .or_default()
                        .insert(key.clone());
                    touched.insert(item.clone());
                }
            }
            if new != UnitPlan::default() {
                self.units.insert(key.clone(), new);
            }
        }
        for item in touched {
            self.settle(item);
        }
    }

    /// Puts the first owner's fact into the plan.
    fn settle(&mut self, item: Item) {
        let first = self.owners.get(&item).and_then(BTreeSet::first);
        let winner = first
            .and_then(|key| self.units.get(key))
            .and_then(|unit| unit.facts.get(&item));
        match winner {
            Some(winner) => fact::put(&mut self.plan, item, winner.clone()),
            None => {
                fact::take(&mut self.plan, &item);
                self.owners.remove(&item);
            }
        }
    }
}

/// The units that have to be compiled again when one view takes the place of another.
#[must_use]
pub fn affected(old: &NodeView, new: &NodeView) -> BTreeSet<UnitKey> {
    let NodeView {
        node,
        overlays,
        pools,
        peers,
        blocks,
        pods,
        services,
        policies,
        dns,
        host,
    } = new;
    let families = (old.families(), new.families());
    if *node != old.node
        || *overlays != old.overlays
        || *host != old.host
        || families.0 != families.1
    {
        return keys(old).union(&keys(new)).cloned().collect();
    }
    let pools: BTreeSet<&String> = changed(&old.pools, pools);
    let peers: BTreeSet<&String> = changed(&old.peers, peers);
    let mut keys: BTreeSet<UnitKey> = changed(&old.blocks, blocks)
        .into_iter()
        .cloned()
        .map(UnitKey::Block)
        .collect();
    if !pools.is_empty() || !keys.is_empty() {
        keys.insert(UnitKey::PodNetworks);
    }
    if !pools.is_empty() {
        keys.extend([UnitKey::Masquerade, UnitKey::Nat]);
        // The families of an overlay's pools decide what its peers need.
        keys.extend(new.peers.keys().cloned().map(UnitKey::Peer));
    }
    if !pools.is_empty() || !peers.is_empty() {
        keys.extend(new.overlays.keys().cloned().map(UnitKey::Overlay));
        let concerned = new
            .blocks
            .iter()
            .filter(|(_, block)| !pools.is_empty() || peers.contains(&block.node));
        keys.extend(concerned.map(|(name, _)| UnitKey::Block(name.clone())));
    }
    keys.extend(pools.into_iter().cloned().map(UnitKey::Pool));
    keys.extend(peers.into_iter().cloned().map(UnitKey::Peer));
    let pods: BTreeSet<&AttachmentKey> = changed(&old.pods, pods);
    if !pods.is_empty() {
        keys.extend([UnitKey::HostPorts, UnitKey::Nat]);
    }
    if *policies != old.policies {
        keys.insert(UnitKey::Policy);
    }
    if *dns != old.dns {
        keys.insert(UnitKey::Dns);
    }
    if *services != old.services {
        keys.extend([UnitKey::Services, UnitKey::Nat]);
    }
    keys.extend(pods.into_iter().cloned().map(UnitKey::Pod));
    keys
}

/// Keys whose values are not the same on both sides.
fn changed<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> BTreeSet<&'a K> {
    let gone = old.keys().filter(|key| !new.contains_key(key));
    let other = new
        .iter()
        .filter(|(key, value)| old.get(key) != Some(value))
        .map(|(key, _)| key);
    gone.chain(other).collect()
}

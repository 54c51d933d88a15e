//! Everything that one node knows of policies, and what follows from it for its own pods.
//!
//! Events mark what they touch; [`Policies::compile`] builds the programs of the pods concerned, settles
//! who is in which class, renders the units again that may have changed, and answers with the
//! difference. A pod that is not known well enough to be judged is isolated in both directions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_nft::{Batch, Element, Key};

use super::batches::{self, Repair};
use super::build;
use super::bulk::{self, Bulk, Direction, Elements, Entry};
use super::code::ANYBODY;
use super::object::{Action, PodPort, Policy, PolicyKind, PolicyName};
use super::peers::{Owner, Peers, PredicateId, Settled, Signature, Who};
use super::ports::PortSet;
use super::program::{Program, Settlement};
use super::selector::Labels;
use crate::view::{AttachmentKey, Protocol};

mod findings;

/// A pod of the cluster, as its PodAddress tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodObject {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its named ports.
    pub ports: Box<[PodPort]>,
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
    /// When the PodAddress was created, seconds since 1970: of two pods with one address the newer has it.
    pub created: i64,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// Its labels.
    pub labels: Labels,
    /// All its addresses (`status.addresses`).
    pub addresses: Box<[IpAddr]>,
}

/// A pod of this node that has a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Interface index of the host end of its link.
    pub link: u32,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
    /// What its Pod object says; none while that was not seen.
    pub known: Option<Known>,
}

/// What a Pod object says of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its labels.
    pub labels: Labels,
    /// Its named ports.
    pub ports: Box<[PodPort]>,
}

/// What a change came to.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Transactions, in order.
    pub batches: Vec<Batch>,
    /// Connections of which addresses may have become allowed or denied.
    pub concerned: Concerned,
}

/// Addresses whose connections are to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerned {
    /// Those of these addresses, at either end.
    Addresses(BTreeSet<IpAddr>),
    /// All of local pods.
    All,
}

impl Default for Concerned {
    fn default() -> Self {
        Self::Addresses(BTreeSet::new())
    }
}

#[derive(Clone, Debug)]
struct Local {
    pod: LocalPod,
    sides: BTreeMap<Direction, Side>,
    entries: Vec<Entry>,
}

/// One direction of a local pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    /// Policies may be about it, and it is not known whether they are.
    Undecided,
    /// Policies are about it.
    Judged(Program, Settlement),
}

/// What a pod's rules ask about the other side: predicates, and names of ports.
type Wanted = (BTreeSet<PredicateId>, BTreeSet<Box<str>>);

/// Addresses of one pod or node.
type Addresses = Box<[IpAddr]>;

/// Policies and all that they are judged by.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    peers: Peers,
    policies: BTreeMap<PolicyName, Arc<Policy>>,
    by_namespace: HashMap<Box<str>, BTreeSet<PolicyName>>,
    cluster: BTreeSet<PolicyName>,
    pods: HashMap<Box<str>, (Owner, Addresses, Arc<Who>)>,
    nodes: HashMap<Box<str>, (Addresses, Arc<Who>)>,
    interned: HashSet<Arc<Who>>,
    /// Something interned may be needed no more.
    has_released: bool,
    locals: BTreeMap<AttachmentKey, Local>,
    by_address: HashMap<IpAddr, AttachmentKey>,
    wanted: HashMap<AttachmentKey, Wanted>,
    /// What was asked and may be asked no more.
    unwanted: Vec<(AttachmentKey, Wanted)>,
    /// Pods for which it matters that a peer is not known.
    guarded: BTreeSet<AttachmentKey>,
    wide: BTreeSet<AttachmentKey>,
    synced: bool,
    dirty: BTreeSet<AttachmentKey>,
    /// Units that are no more.
    gone: Vec<Entry>,
    lost: BTreeSet<IpAddr>,
}

impl Policies {
    /// Nothing is known, and every pod is isolated until [`Self::set_synced`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether all policies, namespaces and own pods have been told.
    pub fn set_synced(&mut self, synced: bool) {
        if self.synced != synced {
            self.synced = synced;
            self.dirty.extend(self.locals.keys().cloned());
        }
    }

    /// Networks of pods: an address in them that no pod is known to have is nobody's for allowances, and
    /// anybody's for denials.
    pub fn set_pod_networks(&mut self, networks: Vec<IpNet>) {
        self.peers.set_pod_networks(networks);
    }

    /// A namespace's labels, or none when it is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        if self.peers.namespace(name) == labels.as_ref() {
            return;
        }
        self.peers.set_namespace(name, labels);
        if !self.cluster.is_empty() {
            self.touch(|pod| *pod.namespace == *name);
        }
    }

    /// A policy, or none when it is gone.
    pub fn set_policy(&mut self, name: &PolicyName, policy: Option<Policy>) {
        let old = match policy {
            Some(policy) => {
                self.index(name).insert(name.clone());
                self.policies.insert(name.clone(), Arc::new(policy))
            }
            None => {
                self.index(name).remove(name);
                self.policies.remove(name)
            }
        };
        let new = self.policies.get(name).cloned();
        if old == new {
            return;
        }
        let about: Vec<Arc<Policy>> = old.into_iter().chain(new).collect();
        let peers = &self.peers;
        let touched = self.locals.iter().filter(|(_, local)| {
            about
                .iter()
                .any(|policy| build::is_subject(policy, &local.pod, peers) != Some(false))
        });
        self.dirty.extend(touched.map(|(key, _)| key.clone()));
    }

    /// A pod of the cluster by its UID, or none when it is gone.
    pub fn set_pod(&mut self, uid: &str, pod: Option<PodObject>) {
        if let Some((owner, addresses, _)) = self.pods.remove(uid) {
            self.peers.remove(&owner, &addresses);
            self.has_released = true;
        }
        let Some(pod) = pod else {
            return;
        };
        let PodObject {
            namespace,
            labels,
            ports,
            addresses,
            created,
        } = pod;
        let who = self.intern(Who::Pod(namespace, labels, sorted(ports)));
        let owner = Owner::Pod(created, uid.into());
        self.peers.add(&owner, &who, &addresses);
        self.pods.insert(uid.into(), (owner, addresses, who));
    }

    /// A node, or none when it is gone.
    pub fn set_node(&mut self, name: &str, node: Option<NodeObject>) {
        let owner = Owner::Node(name.into());
        if let Some((addresses, _)) = self.nodes.remove(name) {
            self.peers.remove(&owner, &addresses);
            self.has_released = true;
        }
        if let Some(NodeObject { labels, addresses }) = node {
            let who = self.intern(Who::Node(labels));
            self.peers.add(&owner, &who, &addresses);
            self.nodes.insert(name.into(), (addresses, who));
        }
    }

    /// A pod of this node, or none when it is gone.
    pub fn set_local(&mut self, key: &AttachmentKey, pod: Option<LocalPod>) {
        if self.locals.get(key).map(|local| &local.pod) == pod.as_ref() {
            return;
        }
        let owner = Owner::Local(key.clone());
        let mut entries = Vec::new();
        if let Some(old) = self.locals.remove(key) {
            self.peers.remove(&owner, &old.pod.addresses);
            for ip in &old.pod.addresses {
                if self.by_address.get(ip) == Some(key) {
                    self.by_address.remove(ip);
                }
            }
            self.has_released = true;
            self.lost.extend(old.pod.addresses);
            entries = old.entries;
        }
        let Some(pod) = pod else {
            self.gone.append(&mut entries);
            self.want(key, BTreeSet::new(), BTreeSet::new());
            self.guarded.remove(key);
            self.wide.remove(key);
            self.dirty.remove(key);
            return;
        };
        let who = pod.known.as_ref().map(|Known { labels, ports }| {
            Who::Pod(pod.namespace.clone(), labels.clone(), sorted(ports.clone()))
        });
        let who = who.map(|who| self.intern(who));
        if let Some(who) = &who {
            self.peers.add(&owner, who, &pod.addresses);
        }
        for ip in &pod.addresses {
            self.by_address.insert(*ip, key.clone());
        }
        let local = Local {
            pod,
            sides: BTreeMap::new(),
            entries,
        };
        self.locals.insert(key.clone(), local);
        self.dirty.insert(key.clone());
    }

    /// A rule in force here asks about pods: they have to be told ([`Self::set_pod`]).
    #[must_use]
    pub fn needs_pods(&self) -> bool {
        self.peers.needs_pods()
    }

    /// Transactions from what the last call left to what is wanted now.
    pub fn compile(&mut self) -> Changes {
        let dirty = std::mem::take(&mut self.dirty);
        for key in &dirty {
            self.build(key);
        }
        self.forget_unwanted();
        self.peers.set_guards(!self.guarded.is_empty());
        let Settled {
            mut old,
            mut new,
            classes,
            moved,
            networks_moved,
        } = self.peers.settle();
        let mut concerned = std::mem::take(&mut self.lost);
        concerned.extend(moved);
        old.append(&mut self.gone);
        for key in self.to_render(dirty, &classes) {
            self.render(&key, &mut old, &mut new, &mut concerned);
        }
        if std::mem::take(&mut self.has_released) {
            self.interned.retain(|who| Arc::strong_count(who) > 1);
        }
        Changes {
            batches: batches::difference(bulk_of(&old), bulk_of(&new)),
            concerned: if networks_moved {
                Concerned::All
            } else {
                Concerned::Addresses(concerned)
            },
        }
    }

    /// Every element, as of the last [`Self::compile`].
    #[must_use]
    pub fn elements(&self) -> Elements {
        let mut elements = Elements::new();
        self.entries().for_each(|entry| entry.render(&mut elements));
        elements
    }

    /// The elements of one set, as of the last [`Self::compile`].
    #[must_use]
    pub fn elements_of(&self, set: Bulk) -> BTreeMap<Key, Element> {
        let mut elements = Elements::new();
        let of = self.entries().filter(|entry| entry.is_of(set));
        of.for_each(|entry| entry.render(&mut elements));
        elements.remove(&set).unwrap_or_default()
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let locals = self.locals.values();
        let locals = locals.flat_map(|local| local.entries.iter().cloned());
        self.peers.entries().chain(locals)
    }

    /// What makes one set of a kernel right, whatever is in it.
    #[must_use]
    pub fn repair(&self, set: Bulk, have: BTreeMap<Key, Element>) -> Repair {
        let mut repair = Repair::default();
        repair.set(set, have, self.elements_of(set));
        repair
    }

    /// Whether policies allow a connection between two addresses, as far as this node judges it:
    /// destination and port after translation, source before. Protocols by IANA number.
    #[must_use]
    pub fn allows(&self, source: IpAddr, destination: IpAddr, protocol: u8, port: u16) -> bool {
        let (from, to) = (
            self.by_address.get(&source),
            self.by_address.get(&destination),
        );
        if from.is_some() && from == to {
            return true;
        }
        let protocol = super::ports::protocol(protocol);
        let side = |key: Option<&AttachmentKey>, way, other| {
            let local = key.and_then(|key| self.locals.get(key));
            let allowed = match local.and_then(|local| local.sides.get(&way)) {
                None => return true,
                Some(Side::Undecided) => return false,
                Some(Side::Judged(program, _)) => self.allowed(program, self.peers.class_of(other)),
            };
            allowed.contains(protocol, port)
        };
        side(from, Direction::Out, destination) && side(to, Direction::In, source)
    }

    /// Addresses of pods of this node.
    pub fn local_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_address.keys().copied()
    }

    /// The policies that are about a local pod, with the direction.
    #[must_use]
    pub fn about(&self, key: &AttachmentKey) -> Vec<(PolicyName, Direction)> {
        let Some(local) = self.locals.get(key) else {
            return Vec::new();
        };
        let candidates = self.candidates(&local.pod.namespace);
        let about = candidates
            .filter(|(_, policy)| build::is_subject(policy, &local.pod, &self.peers) == Some(true));
        let sides = about.flat_map(|(name, policy)| {
            let ways = Direction::ALL.into_iter();
            let ways = ways.filter(|way| build::rules(policy, *way).is_some());
            ways.map(|way| (name.clone(), way)).collect::<Vec<_>>()
        });
        sides.collect()
    }

    fn allowed(&self, program: &Program, class: u32) -> PortSet {
        match self.peers.signature(class) {
            Some(signature) => program.allowed(signature),
            None => program.allowed(&Signature::default()),
        }
    }

    fn candidates(&self, namespace: &str) -> impl Iterator<Item = (&PolicyName, &Arc<Policy>)> {
        let named = self.by_namespace.get(namespace).into_iter().flatten();
        named
            .chain(&self.cluster)
            .filter_map(|name| self.policies.get_key_value(name))
    }

    fn index(&mut self, name: &PolicyName) -> &mut BTreeSet<PolicyName> {
        match name.kind {
            PolicyKind::NetworkPolicy => {
                self.by_namespace.entry(name.namespace.clone()).or_default()
            }
            PolicyKind::ClusterNetworkPolicy => &mut self.cluster,
        }
    }

    fn touch(&mut self, which: impl Fn(&LocalPod) -> bool) {
        let touched = self.locals.iter().filter(|(_, local)| which(&local.pod));
        self.dirty.extend(touched.map(|(key, _)| key.clone()));
    }

    fn intern(&mut self, who: Who) -> Arc<Who> {
        if let Some(known) = self.interned.get(&who) {
            return known.clone();
        }
        let who = Arc::new(who);
        self.interned.insert(who.clone());
        who
    }

    /// Builds a pod's programs.
    fn build(&mut self, key: &AttachmentKey) {
        let Some(local) = self.locals.get(key) else {
            return;
        };
        let pod = local.pod.clone();
        let policies: Vec<(PolicyName, Arc<Policy>)> = self
            .candidates(&pod.namespace)
            .map(|(name, policy)| (name.clone(), policy.clone()))
            .collect();
        let mut sides = BTreeMap::new();
        let (mut predicates, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut guarded = false;
        let mut wide = false;
        for way in Direction::ALL {
            let Some(program) = self.program(key, &pod, &policies, way) else {
                sides.insert(way, Side::Undecided);
                continue;
            };
            if program.is_empty() {
                continue;
            }
            for step in program.steps() {
                predicates.extend(step.peers.iter().flatten().copied());
                names.extend(step.names.iter().map(|(_, name)| name.clone()));
                guarded |= step.action != Action::Accept && step.asks_for_pods;
            }
            let settlement = program.settle();
            wide |= settlement.is_wide;
            sides.insert(way, Side::Judged(program, settlement));
        }
        self.want(key, predicates, names);
        set_member(&mut self.guarded, key, guarded);
        set_member(&mut self.wide, key, wide);
        if let Some(local) = self.locals.get_mut(key) {
            local.sides = sides;
        }
    }

    /// None while it is not known which policies are about the pod.
    fn program(
        &mut self,
        key: &AttachmentKey,
        pod: &LocalPod,
        policies: &[(PolicyName, Arc<Policy>)],
        way: Direction,
    ) -> Option<Program> {
        if !self.synced {
            return None;
        }
        let mut about = Vec::new();
        for (name, policy) in policies {
            if build::rules(policy, way).is_some() && build::is_subject(policy, pod, &self.peers)? {
                about.push((name, &**policy));
            }
        }
        about.sort_by_key(|(name, policy)| (policy.tier, *name));
        let ports: &[PodPort] = match (way, &pod.known) {
            (Direction::In, Some(known)) => &known.ports,
            _ => &[],
        };
        let want = |peer: &_| self.peers.want(peer, key);
        Some(build::program(&about, way, ports, want))
    }

    /// Says what a pod's rules ask now. What they asked before is forgotten when all rules have been
    /// built: what another pod asks from now on stays the same.
    fn want(
        &mut self,
        key: &AttachmentKey,
        predicates: BTreeSet<PredicateId>,
        names: BTreeSet<Box<str>>,
    ) {
        let (old_predicates, old_names) = self.wanted.remove(key).unwrap_or_default();
        for name in names.difference(&old_names) {
            self.peers.want_name(name, key);
        }
        let left: Wanted = (&old_predicates - &predicates, &old_names - &names);
        if !left.0.is_empty() || !left.1.is_empty() {
            self.unwanted.push((key.clone(), left));
        }
        if !predicates.is_empty() || !names.is_empty() {
            self.wanted.insert(key.clone(), (predicates, names));
        }
    }

    fn forget_unwanted(&mut self) {
        for (key, (predicates, names)) in std::mem::take(&mut self.unwanted) {
            let wanted = self.wanted.get(&key);
            let is_wanted = |id| wanted.is_some_and(|(predicates, _)| predicates.contains(id));
            for id in predicates.iter().filter(|id| !is_wanted(id)) {
                self.peers.forget(*id, &key);
            }
            let is_wanted = |name| wanted.is_some_and(|(_, names)| names.contains(name));
            for name in names.iter().filter(|name| !is_wanted(*name)) {
                self.peers.forget_name(name, &key);
            }
        }
    }

    fn to_render(
        &self,
        dirty: BTreeSet<AttachmentKey>,
        classes: &[(u32, Signature)],
    ) -> BTreeSet<AttachmentKey> {
        let mut keys = dirty;
        for (_, signature) in classes {
            keys.extend(self.peers.users(signature));
            if signature.unknown {
                keys.extend(self.guarded.iter().cloned());
            }
        }
        if !classes.is_empty() {
            keys.extend(self.wide.iter().cloned());
        }
        keys
    }

    fn render(
        &mut self,
        key: &AttachmentKey,
        old: &mut Vec<Entry>,
        new: &mut Vec<Entry>,
        concerned: &mut BTreeSet<IpAddr>,
    ) {
        let Some(local) = self.locals.get(key) else {
            return;
        };
        let mut entries = Vec::new();
        for (way, side) in &local.sides {
            self.render_side(&local.pod, *way, side, &mut entries);
        }
        if !entries.is_empty() {
            entries.push(Entry::Itself(local.pod.link));
        }
        entries.sort_unstable();
        let Some(local) = self.locals.get_mut(key) else {
            return;
        };
        if local.entries == entries {
            return;
        }
        concerned.extend(local.pod.addresses.iter().copied());
        new.extend(entries.iter().cloned());
        old.append(&mut std::mem::replace(&mut local.entries, entries));
    }

    fn render_side(&self, pod: &LocalPod, way: Direction, side: &Side, entries: &mut Vec<Entry>) {
        let name: Arc<str> = format!("{}/{}", pod.namespace, pod.name).into();
        let (program, settlement) = match side {
            Side::Undecided => {
                entries.push(Entry::Subject(way, bulk::Default::Deny, pod.link, name));
                return;
            }
            Side::Judged(program, settlement) => (program, settlement),
        };
        let rest = settlement.rest;
        let mut list = |class: u32, ports: &PortSet| {
            let parts = ports.parts().into_iter();
            entries.extend(parts.map(|part| Entry::Listed(way, rest, pod.link, class, part)));
        };
        list(ANYBODY, &settlement.anybody);
        for class in self.asked_for(program, settlement) {
            list(class, &settlement.listed(&self.allowed(program, class)));
        }
        let is_listed = |entry: &Entry| matches!(entry, Entry::Listed(of, ..) if *of == way);
        if rest == bulk::Default::Deny || entries.iter().any(is_listed) {
            entries.push(Entry::Subject(way, rest, pod.link, name));
        }
    }

    /// Classes for which something of their own may be listed.
    fn asked_for(&self, program: &Program, settlement: &Settlement) -> BTreeSet<u32> {
        if settlement.is_wide {
            return self.peers.classes().collect();
        }
        let mut classes: BTreeSet<u32> = self.peers.unknown().collect();
        for step in program.steps() {
            for id in step.peers.iter().flatten() {
                classes.extend(self.peers.with_predicate(*id));
            }
            for (_, name) in &step.names {
                classes.extend(self.peers.with_name(name));
            }
        }
        classes
    }
}

fn set_member(set: &mut BTreeSet<AttachmentKey>, key: &AttachmentKey, is_in: bool) {
    if is_in {
        set.insert(key.clone());
    } else {
        set.remove(key);
    }
}

fn sorted(mut ports: Box<[PodPort]>) -> Box<[PodPort]> {
    ports.sort_unstable();
    ports
}

fn bulk_of(entries: &[Entry]) -> Elements {
    let mut elements = Elements::new();
    for entry in entries {
        entry.render(&mut elements);
    }
    elements
}

/// Number of a protocol that has ports.
#[must_use]
pub fn protocol_number(protocol: Protocol) -> u8 {
    bulk::protocol_number(protocol)
}

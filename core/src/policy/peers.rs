//! Who is in which class: the half of policies' state that is about the other side of connections.
//!
//! A *predicate* is what some rule in force asks about its peers. An identity's class follows from the
//! predicates that hold for it, and from its named ports as far as rules ask for the names. Policies come
//! and go by adding and removing predicates: only identities that one holds for are looked at, and only
//! addresses that a network contains.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::bulk::Entry;
use super::code::{Numbers, STRANGERS, hash};
use super::networks::{self, Segment};
use super::object::{Namespaces, Network, Peer, PodPort, Pods};
use super::selector::Labels;
use crate::view::{AttachmentKey, Protocol};

/// A predicate. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PredicateId(u32);

/// Who has addresses. Of two that claim one address, the greater has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owner {
    /// A node, by name.
    Node(Box<str>),
    /// A pod of the cluster, by time of creation and UID of its PodAddress.
    Pod(i64, Box<str>),
    /// A pod of this node.
    Local(AttachmentKey),
}

/// What policies can ask about whoever has an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// A pod: its namespace, labels and named ports.
    Pod(Box<str>, Labels, Box<[PodPort]>),
    /// A node: its labels.
    Node(Labels),
}

/// Ports that one name stands for.
pub type Ports = Box<[(Protocol, u16)]>;

/// What tells one class from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Signature {
    /// Predicates that hold, sorted.
    pub predicates: Box<[PredicateId]>,
    /// Ports by name, of the names that rules ask for; those without ports left out.
    pub names: Box<[(Box<str>, Ports)]>,
    /// An address of pods of which none is known.
    pub unknown: bool,
}

#[derive(Clone, Debug)]
struct Predicate {
    peer: Peer,
    hash: u64,
    users: BTreeSet<AttachmentKey>,
}

/// What an address leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Content {
    who: Arc<Who>,
    /// Predicates about networks that contain the address.
    networks: Box<[PredicateId]>,
}

#[derive(Clone, Debug)]
struct Identity {
    content: Content,
    /// Predicates about pods and nodes that hold.
    predicates: BTreeSet<PredicateId>,
    addresses: BTreeSet<IpAddr>,
    class: Option<u32>,
}

#[derive(Clone, Debug)]
struct Class {
    signature: Signature,
    /// Identities and segments.
    users: usize,
}

#[derive(Clone, Debug, Default)]
struct Address {
    owners: BTreeMap<Owner, Arc<Who>>,
    identity: Option<u32>,
}

/// Everything about the other side.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    namespaces: HashMap<Box<str>, Labels>,
    addresses: HashMap<IpAddr, Address>,
    identities: HashMap<u32, Identity>,
    by_content: HashMap<Content, u32>,
    by_namespace: HashMap<Box<str>, BTreeSet<u32>>,
    classes: HashMap<u32, Class>,
    by_signature: HashMap<Signature, u32>,
    numbers: Numbers,

    predicates: BTreeMap<PredicateId, Predicate>,
    by_peer: HashMap<Peer, PredicateId>,
    next: u32,
    /// Predicates about the pods of one namespace.
    in_namespace: HashMap<Box<str>, BTreeSet<PredicateId>>,
    /// Predicates about pods of namespaces by their labels.
    by_labels: BTreeSet<PredicateId>,
    about_nodes: BTreeSet<PredicateId>,
    about_networks: BTreeSet<PredicateId>,
    names: BTreeMap<Box<str>, BTreeSet<AttachmentKey>>,
    with_predicate: HashMap<PredicateId, BTreeSet<u32>>,
    with_name: HashMap<Box<str>, BTreeSet<u32>>,

    pod_networks: Vec<IpNet>,
    /// Pods that are not known are told from others.
    guards: bool,
    segments: Vec<(Segment, u32)>,

    new_predicates: BTreeSet<PredicateId>,
    dirty_namespaces: HashSet<Box<str>>,
    dirty_addresses: BTreeSet<IpAddr>,
    dirty_identities: BTreeSet<u32>,
    dirty_networks: bool,
    dirty_classes: bool,
    /// Whether pods and whether nodes have identities.
    identified: Identified,
}

/// Who has identities: nobody has one that no rule in force asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Identified {
    pods: bool,
    nodes: bool,
}

/// What came of changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    /// Entries that were.
    pub old: Vec<Entry>,
    /// Entries that are.
    pub new: Vec<Entry>,
    /// Classes that came or went.
    pub classes: Vec<(u32, Signature)>,
    /// Addresses of another class than before.
    pub moved: BTreeSet<IpAddr>,
    /// Addresses that nobody is known to have may be of another class.
    pub networks_moved: bool,
}

impl Signature {
    /// Whether a predicate holds.
    pub fn has(&self, predicate: PredicateId) -> bool {
        self.predicates.binary_search(&predicate).is_ok()
    }

    /// Ports of a name.
    pub fn named(&self, name: &str) -> &[(Protocol, u16)] {
        let mut names = self.names.iter();
        let found = names.find(|(known, _)| **known == *name);
        found.map_or(&[], |(_, ports)| ports)
    }
}

impl Peers {
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        if self.namespaces.get(name) == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.into(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
        self.dirty_namespaces.insert(name.into());
    }

    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    pub fn add(&mut self, owner: &Owner, who: &Arc<Who>, addresses: &[IpAddr]) {
        for ip in addresses {
            let address = self.addresses.entry(*ip).or_default();
            address.owners.insert(owner.clone(), who.clone());
            self.dirty_addresses.insert(*ip);
        }
    }

    pub fn remove(&mut self, owner: &Owner, addresses: &[IpAddr]) {
        for ip in addresses {
            if let Some(address) = self.addresses.get_mut(ip) {
                address.owners.remove(owner);
                self.dirty_addresses.insert(*ip);
            }
        }
    }

    pub fn set_pod_networks(&mut self, mut networks: Vec<IpNet>) {
        networks.sort_unstable();
        if self.pod_networks != networks {
            self.pod_networks = networks;
            self.dirty_networks = true;
        }
    }

    /// Whether pods that are not known are told from others.
    pub fn set_guards(&mut self, guards: bool) {
        if self.guards != guards {
            self.guards = guards;
            self.dirty_networks = true;
        }
    }

    /// A rule of a local pod asks this.
    pub fn want(&mut self, peer: &Peer, user: &AttachmentKey) -> PredicateId {
        let id = match self.by_peer.get(peer) {
            Some(id) => *id,
            None => self.add_predicate(peer),
        };
        if let Some(predicate) = self.predicates.get_mut(&id) {
            predicate.users.insert(user.clone());
        }
        id
    }

    /// No rule of a local pod asks this any more.
    pub fn forget(&mut self, id: PredicateId, user: &AttachmentKey) {
        let Some(predicate) = self.predicates.get_mut(&id) else {
            return;
        };
        predicate.users.remove(user);
        if predicate.users.is_empty() {
            self.remove_predicate(id);
        }
    }

    pub fn want_name(&mut self, name: &str, user: &AttachmentKey) {
        let known = self.names.entry(name.into()).or_default();
        if known.is_empty() {
            self.dirty_classes = true;
        }
        known.insert(user.clone());
    }

    pub fn forget_name(&mut self, name: &str, user: &AttachmentKey) {
        if let Some(known) = self.names.get_mut(name) {
            known.remove(user);
            if known.is_empty() {
                self.names.remove(name);
                self.dirty_classes = true;
            }
        }
    }

    /// Local pods with a rule that asks what tells this class from others.
    pub fn users(&self, signature: &Signature) -> BTreeSet<AttachmentKey> {
        let ids = signature.predicates.iter();
        let by_predicate = ids.filter_map(|id| self.predicates.get(id));
        let names = signature.names.iter();
        let by_name = names.filter_map(|(name, _)| self.names.get(name));
        let by_predicate = by_predicate.flat_map(|predicate| &predicate.users);
        by_predicate.chain(by_name.flatten()).cloned().collect()
    }

    /// Classes that a predicate holds for.
    pub fn with_predicate(&self, id: PredicateId) -> impl Iterator<Item = u32> + '_ {
        self.with_predicate.get(&id).into_iter().flatten().copied()
    }

    /// Classes with a port of that name.
    pub fn with_name(&self, name: &str) -> impl Iterator<Item = u32> + '_ {
        self.with_name.get(name).into_iter().flatten().copied()
    }

    /// Classes of which nobody is known.
    pub fn unknown(&self) -> impl Iterator<Item = u32> + '_ {
        let classes = self.classes.iter();
        classes
            .filter(|(_, class)| class.signature.unknown)
            .map(|(number, _)| *number)
    }

    pub fn classes(&self) -> impl Iterator<Item = u32> + '_ {
        let known = self.classes.keys().copied();
        known.filter(|class| *class != STRANGERS).chain([STRANGERS])
    }

    pub fn signature(&self, class: u32) -> Option<&Signature> {
        self.classes.get(&class).map(|class| &class.signature)
    }

    /// The class of an address.
    pub fn class_of(&self, ip: IpAddr) -> u32 {
        let known = self.addresses.get(&ip).and_then(|address| address.identity);
        let identity = known.and_then(|number| self.identities.get(&number));
        if let Some(identity) = identity {
            return identity.class.unwrap_or(STRANGERS);
        }
        let at = self
            .segments
            .partition_point(|(segment, _)| segment.last < ip);
        let segment = self
            .segments
            .get(at)
            .filter(|(segment, _)| segment.first <= ip);
        segment.map_or(STRANGERS, |(_, class)| *class)
    }

    /// A rule in force asks about pods, so their addresses have to be known.
    pub fn needs_pods(&self) -> bool {
        !self.by_labels.is_empty() || !self.in_namespace.is_empty() || !self.names.is_empty()
    }

    /// A rule in force asks about nodes.
    pub fn needs_nodes(&self) -> bool {
        !self.about_nodes.is_empty()
    }

    /// Some pod or node has what a predicate asks for.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let addresses = self.addresses.iter();
        let addresses =
            addresses.filter_map(|(ip, address)| Some(Entry::Address(*ip, address.identity?)));
        let identities = self.identities.iter();
        let classes = identities
            .map(|(number, identity)| Entry::Class(*number, identity.class.unwrap_or(STRANGERS)));
        let segments = self.segments.iter();
        let segments = segments.map(|(segment, class)| segment.entry(*class));
        addresses.chain(classes).chain(segments)
    }

    /// Brings identities and classes into step with what has changed.
    pub fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        self.numbers.begin();
        let (pods, nodes) = (self.needs_pods(), self.needs_nodes());
        let identified = Identified {
            pods: pods || nodes,
            nodes,
        };
        if identified != self.identified {
            self.identified = identified;
            self.dirty_addresses.extend(self.addresses.keys());
        }
        for id in std::mem::take(&mut self.new_predicates) {
            self.evaluate(id);
        }
        for namespace in std::mem::take(&mut self.dirty_namespaces) {
            self.reevaluate(&namespace);
        }
        for ip in std::mem::take(&mut self.dirty_addresses) {
            self.identify(ip, &mut settled);
        }
        if std::mem::take(&mut self.dirty_classes) {
            self.dirty_identities.extend(self.identities.keys());
        }
        for number in std::mem::take(&mut self.dirty_identities) {
            self.classify(number, &mut settled);
        }
        if std::mem::take(&mut self.dirty_networks) {
            self.cut(&mut settled);
        }
        settled
    }

    fn add_predicate(&mut self, peer: &Peer) -> PredicateId {
        let id = PredicateId(self.next);
        self.next += 1;
        match peer {
            Peer::Pods(Pods {
                namespaces: Namespaces::Named(name),
                ..
            }) => drop(
                self.in_namespace
                    .entry(name.clone())
                    .or_default()
                    .insert(id),
            ),
            Peer::Pods(_) => drop(self.by_labels.insert(id)),
            Peer::Nodes(_) => drop(self.about_nodes.insert(id)),
            Peer::Network(network) => {
                self.about_networks.insert(id);
                self.dirty_networks = true;
                self.touch_inside(&network.clone());
            }
        }
        let predicate = Predicate {
            peer: peer.clone(),
            hash: hash(peer),
            users: BTreeSet::new(),
        };
        self.predicates.insert(id, predicate);
        self.by_peer.insert(peer.clone(), id);
        self.new_predicates.insert(id);
        id
    }

    fn remove_predicate(&mut self, id: PredicateId) {
        let Some(predicate) = self.predicates.remove(&id) else {
            return;
        };
        self.by_peer.remove(&predicate.peer);
        self.new_predicates.remove(&id);
        match &predicate.peer {
            Peer::Pods(Pods {
                namespaces: Namespaces::Named(name),
                ..
            }) => {
                if let Some(ids) = self.in_namespace.get_mut(name) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.in_namespace.remove(name);
                    }
                }
            }
            Peer::Pods(_) => drop(self.by_labels.remove(&id)),
            Peer::Nodes(_) => drop(self.about_nodes.remove(&id)),
            Peer::Network(network) => {
                self.about_networks.remove(&id);
                self.dirty_networks = true;
                self.touch_inside(network);
            }
        }
        for (number, identity) in &mut self.identities {
            if identity.predicates.remove(&id) {
                self.dirty_identities.insert(*number);
            }
        }
    }

    fn touch_inside(&mut self, network: &Network) {
        let addresses = self.addresses.keys();
        let inside = addresses.filter(|ip| network.contains(**ip));
        self.dirty_addresses.extend(inside);
    }

    /// Asks a new predicate of all identities that may have it.
    fn evaluate(&mut self, id: PredicateId) {
        let Some(predicate) = self.predicates.get(&id) else {
            return;
        };
        let candidates: Vec<u32> = match &predicate.peer {
            Peer::Network(_) => return,
            Peer::Nodes(_) => self.identities.keys().copied().collect(),
            Peer::Pods(Pods { namespaces, .. }) => {
                let mut numbers = Vec::new();
                match namespaces {
                    Namespaces::Named(name) => {
                        numbers.extend(self.by_namespace.get(name).into_iter().flatten());
                    }
                    Namespaces::Matching(selector) => {
                        for (name, inside) in &self.by_namespace {
                            let labels = self.namespaces.get(name);
                            if labels.is_some_and(|labels| selector.matches(labels)) {
                                numbers.extend(inside);
                            }
                        }
                    }
                }
                numbers
            }
        };
        for number in candidates {
            if let Some(identity) = self.identities.get_mut(&number)
                && holds(&predicate.peer, &identity.content.who, &self.namespaces)
            {
                identity.predicates.insert(id);
                self.dirty_identities.insert(number);
            }
        }
    }

    /// Asks all predicates about labels of namespaces again, of the identities of one.
    fn reevaluate(&mut self, namespace: &str) {
        for number in self.by_namespace.get(namespace).into_iter().flatten() {
            let Some(identity) = self.identities.get_mut(number) else {
                continue;
            };
            for id in &self.by_labels {
                let peer = self.predicates.get(id).map(|predicate| &predicate.peer);
                let holds =
                    peer.is_some_and(|peer| holds(peer, &identity.content.who, &self.namespaces));
                let changed = if holds {
                    identity.predicates.insert(*id)
                } else {
                    identity.predicates.remove(id)
                };
                if changed {
                    self.dirty_identities.insert(*number);
                }
            }
        }
    }

    /// Finds an address's identity.
    fn identify(&mut self, ip: IpAddr, settled: &mut Settled) {
        let Some(address) = self.addresses.get(&ip) else {
            return;
        };
        let before = address.identity;
        let who = address.owners.last_key_value().map(|(_, who)| who.clone());
        let is_free = who.is_none();
        let wanted = who.filter(|who| match **who {
            Who::Pod(..) => self.identified.pods,
            Who::Node(_) => self.identified.nodes,
        });
        let after = wanted.map(|who| {
            let networks = self.about_networks.iter().copied();
            let inside = networks.filter(|id| match self.predicates.get(id).map(|p| &p.peer) {
                Some(Peer::Network(network)) => network.contains(ip),
                _ => false,
            });
            let content = Content {
                who,
                networks: inside.collect(),
            };
            self.intern(content)
        });
        if after != before {
            settled
                .old
                .extend(before.map(|number| Entry::Address(ip, number)));
            settled
                .new
                .extend(after.map(|number| Entry::Address(ip, number)));
            // Who comes has no connections yet, and those of who goes are over.
            if before.is_some() && after.is_some() {
                settled.moved.insert(ip);
            }
            if let Some(identity) = after.and_then(|number| self.identities.get_mut(&number)) {
                identity.addresses.insert(ip);
            }
            if let Some(number) = before {
                self.leave(number, ip);
            }
        }
        if is_free {
            self.addresses.remove(&ip);
        } else if let Some(address) = self.addresses.get_mut(&ip) {
            address.identity = after;
        }
    }

    fn intern(&mut self, content: Content) -> u32 {
        if let Some(number) = self.by_content.get(&content) {
            return *number;
        }
        let hashes = self.hashes(&content.networks);
        let number = self.numbers.identity(hash(&(&content.who, hashes)));
        let mut predicates = BTreeSet::new();
        let candidates: Vec<PredicateId> = match &*content.who {
            Who::Node(_) => self.about_nodes.iter().copied().collect(),
            Who::Pod(namespace, ..) => {
                self.by_namespace
                    .entry(namespace.clone())
                    .or_default()
                    .insert(number);
                let named = self.in_namespace.get(namespace).into_iter().flatten();
                named.chain(&self.by_labels).copied().collect()
            }
        };
        for id in candidates {
            if let Some(predicate) = self.predicates.get(&id)
                && holds(&predicate.peer, &content.who, &self.namespaces)
            {
                predicates.insert(id);
            }
        }
        self.by_content.insert(content.clone(), number);
        let identity = Identity {
            content,
            predicates,
            addresses: BTreeSet::new(),
            class: None,
        };
        self.identities.insert(number, identity);
        self.dirty_identities.insert(number);
        number
    }

    fn leave(&mut self, number: u32, ip: IpAddr) {
        if let Some(identity) = self.identities.get_mut(&number) {
            identity.addresses.remove(&ip);
            self.dirty_identities.insert(number);
        }
    }

    /// Finds an identity's class; forgets an identity without addresses.
    fn classify(&mut self, number: u32, settled: &mut Settled) {
        let Some(identity) = self.identities.get(&number) else {
            return;
        };
        let before = identity.class;
        if identity.addresses.is_empty() {
            let content = identity.content.clone();
            self.identities.remove(&number);
            self.by_content.remove(&content);
            if let Who::Pod(namespace, ..) = &*content.who
                && let Some(inside) = self.by_namespace.get_mut(namespace)
            {
                inside.remove(&number);
                if inside.is_empty() {
                    self.by_namespace.remove(namespace);
                }
            }
            self.numbers.release(number);
            if let Some(class) = before {
                settled.old.push(Entry::Class(number, class));
                self.leave_class(class, settled);
            }
            return;
        }
        let signature = self.signature_of(identity);
        let addresses = identity.addresses.clone();
        let after = self.join_class(signature, settled);
        if before == Some(after) {
            self.leave_class(after, settled);
            return;
        }
        settled
            .old
            .extend(before.map(|class| Entry::Class(number, class)));
        settled.new.push(Entry::Class(number, after));
        if let Some(class) = before {
            settled.moved.extend(addresses);
            self.leave_class(class, settled);
        }
        if let Some(identity) = self.identities.get_mut(&number) {
            identity.class = Some(after);
        }
    }

    fn signature_of(&self, identity: &Identity) -> Signature {
        let about = identity.predicates.iter();
        let networks = identity.content.networks.iter();
        let networks = networks.filter(|id| self.predicates.contains_key(id));
        let mut predicates: Vec<PredicateId> = about.chain(networks).copied().collect();
        predicates.sort_unstable();
        let ports: &[PodPort] = match &*identity.content.who {
            Who::Pod(_, _, ports) => ports,
            Who::Node(_) => &[],
        };
        let asked = self.names.keys().filter_map(|name| {
            let mut ports: Vec<(Protocol, u16)> = ports
                .iter()
                .filter(|port| port.name == *name)
                .map(|port| (port.protocol, port.port))
                .collect();
            ports.sort_unstable();
            (!ports.is_empty()).then(|| (name.clone(), ports.into()))
        });
        Signature {
            predicates: predicates.into(),
            names: asked.collect(),
            unknown: false,
        }
    }

    fn join_class(&mut self, signature: Signature, settled: &mut Settled) -> u32 {
        if let Some(number) = self.by_signature.get(&signature) {
            let number = *number;
            if let Some(class) = self.classes.get_mut(&number) {
                class.users += 1;
            }
            return number;
        }
        let number = if signature == Signature::default() {
            STRANGERS
        } else {
            let mut hashes = self.hashes(&signature.predicates);
            hashes.sort_unstable();
            let hash = hash(&(hashes, &signature.names, signature.unknown));
            self.numbers.class(hash)
        };
        for id in &signature.predicates {
            self.with_predicate.entry(*id).or_default().insert(number);
        }
        for (name, _) in &signature.names {
            self.with_name
                .entry(name.clone())
                .or_default()
                .insert(number);
        }
        settled.classes.push((number, signature.clone()));
        self.by_signature.insert(signature.clone(), number);
        let class = Class {
            signature,
            users: 1,
        };
        self.classes.insert(number, class);
        number
    }

    fn leave_class(&mut self, number: u32, settled: &mut Settled) {
        let Some(class) = self.classes.get_mut(&number) else {
            return;
        };
        class.users -= 1;
        if class.users > 0 {
            return;
        }
        let Some(Class { signature, .. }) = self.classes.remove(&number) else {
            return;
        };
        for id in &signature.predicates {
            if let Some(classes) = self.with_predicate.get_mut(id) {
                classes.remove(&number);
                if classes.is_empty() {
                    self.with_predicate.remove(id);
                }
            }
        }
        for (name, _) in &signature.names {
            if let Some(classes) = self.with_name.get_mut(name) {
                classes.remove(&number);
                if classes.is_empty() {
                    self.with_name.remove(name);
                }
            }
        }
        self.by_signature.remove(&signature);
        self.numbers.release(number);
        settled.classes.push((number, signature));
    }

    /// Cuts the address space anew.
    fn cut(&mut self, settled: &mut Settled) {
        let networks = self.about_networks.iter().filter_map(|id| {
            match self.predicates.get(id).map(|predicate| &predicate.peer) {
                Some(Peer::Network(network)) => Some((*id, network)),
                _ => None,
            }
        });
        let unknown: &[IpNet] = if self.guards { &self.pod_networks } else { &[] };
        let cut = networks::cut(networks, unknown);
        let old = std::mem::take(&mut self.segments);
        let mut segments = Vec::with_capacity(cut.len());
        for (segment, signature) in cut {
            let class = self.join_class(signature, settled);
            segments.push((segment, class));
        }
        for (_, class) in &old {
            self.leave_class(*class, settled);
        }
        if old != segments {
            settled.networks_moved = true;
            settled
                .old
                .extend(old.iter().map(|(segment, class)| segment.entry(*class)));
            settled.new.extend(
                segments
                    .iter()
                    .map(|(segment, class)| segment.entry(*class)),
            );
        }
        self.segments = segments;
    }

    fn hashes(&self, ids: &[PredicateId]) -> Vec<u64> {
        let known = ids.iter().filter_map(|id| self.predicates.get(id));
        let mut hashes: Vec<u64> = known.map(|predicate| predicate.hash).collect();
        hashes.sort_unstable();
        hashes
    }
}

fn holds(peer: &Peer, who: &Who, namespaces: &HashMap<Box<str>, Labels>) -> bool {
    match (peer, who) {
        (Peer::Pods(pods), Who::Pod(namespace, labels, _)) => {
            pods.matches(namespace, namespaces.get(namespace), labels)
        }
        (Peer::Nodes(selector), Who::Node(labels)) => selector.matches(labels),
        _ => false,
    }
}

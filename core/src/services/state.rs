//! All Services that a node serves, in a compact form, and what an update changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_nft::{Batch, Element, Key};

use super::batches::{Batches, Touched};
use super::bulk::Bulk;
use super::changes::{self, Changes, NoLocalEndpoints, StaleFlows};
use super::claims::{Claims, Rank};
use super::numbers::{Numbers, Tuple};
use super::slices::{Places, Slice};
use super::unit::{self, Compiled, Surroundings};
use super::{Config, Frame, Pick, ServiceName, ServiceObject, SliceName, SliceObject};
use crate::finding::Finding;
use crate::view::{Family, Protocol};

mod answers;

/// The largest number of elements that a map may hold: what is more is refused here, with the number
/// named, before a kernel runs out of memory in the middle.
pub const MAX_ELEMENTS: usize = 393_216;

/// All Services that a node serves.
#[derive(Debug, Default)]
pub struct Services {
    config: Config,
    /// Addresses that node ports are served on.
    node_ports: Vec<IpAddr>,
    places: Places,
    entries: Vec<Entry>,
    free: Vec<u32>,
    names: HashMap<ServiceName, u32>,
    /// The Service of each slice.
    owners: HashMap<SliceName, u32>,
    claims: Claims,
    numbers: Numbers,
    /// Users of addresses that are elements of their own.
    shared: HashMap<(Bulk, IpAddr), u32>,
    /// How many units make each choice.
    picks: BTreeMap<(Family, Pick), u32>,
    /// Choices that the kernel may still make.
    held: BTreeSet<(Family, Pick)>,
    /// Slots of both families.
    slots: [usize; 2],
    /// Ready endpoints here by health check node port; the first Service of each port has it.
    health: BTreeMap<(u16, ServiceName), usize>,
    health_is_new: bool,
    no_local_endpoints: NoLocalEndpoints,
    dirty: BTreeSet<u32>,
    /// Services that are too large, with the limit that they break.
    refused: BTreeMap<u32, Finding>,
    /// The frame that the plan is known to have.
    frame: Option<Frame>,
    /// Batches that were not committed.
    rest: Batches,
}

/// One Service, its slices, and what they compiled to.
#[derive(Debug, Default)]
struct Entry {
    name: Option<ServiceName>,
    object: Option<Box<ServiceObject>>,
    /// In the order of their names.
    slices: Vec<Slice>,
    claims: Box<[Tuple]>,
    compiled: Arc<Compiled>,
    /// Endpoints that serve and get no new connections, by UDP frontend.
    finishing: BTreeMap<SocketAddr, Vec<SocketAddr>>,
}

impl Services {
    /// No Services yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut this = Self::default();
        this.configure(config);
        this
    }

    /// What the node knows about itself.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes another configuration. Everything that depends on it is compiled again.
    pub fn configure(&mut self, config: Config) {
        let node_ports = config.node_port_addresses();
        let node = self.places.nodes.set_own(Some(&config.node));
        let zone = self.places.zones.set_own(config.zone.as_deref());
        if node || zone || node_ports != self.node_ports {
            self.dirty.extend(self.names.values());
        }
        self.node_ports = node_ports;
        self.config = config;
    }

    /// A Service came, changed or went.
    pub fn set_service(&mut self, name: &ServiceName, object: Option<ServiceObject>) {
        if object.is_none() && !self.names.contains_key(name) {
            return;
        }
        let id = self.id(name);
        let entry = &mut self.entries[id as usize];
        if entry.object.as_deref() != object.as_ref() {
            entry.object = object.map(Box::new);
            self.dirty.insert(id);
        }
    }

    /// An EndpointSlice came, changed or went.
    pub fn set_slice(&mut self, name: &SliceName, object: Option<SliceObject>) {
        let service = object.as_ref().map(|object| object.service.clone());
        let id = service.map(|service| self.id(&service));
        let before = self.owners.get(name).copied();
        if let Some(before) = before.filter(|before| Some(*before) != id) {
            let slices = &mut self.entries[before as usize].slices;
            slices.retain(|slice| slice.name != *name);
            self.owners.remove(name);
            self.dirty.insert(before);
        }
        let (Some(id), Some(object)) = (id, object) else {
            return;
        };
        self.owners.insert(name.clone(), id);
        let slice = Slice::new(name.clone(), object, &mut self.places);
        let slices = &mut self.entries[id as usize].slices;
        match slices.binary_search_by(|other| other.name.cmp(name)) {
            Ok(at) if slices[at] == slice => return,
            Ok(at) => slices[at] = slice,
            Err(at) => slices.insert(at, slice),
        }
        self.dirty.insert(id);
    }

    /// Names of all Services and slices that are held, to find those that a new list lacks.
    #[must_use]
    pub fn names(&self) -> (Vec<ServiceName>, Vec<SliceName>) {
        let services = self.names.iter().filter(|(_, id)| {
            let entry = &self.entries[**id as usize];
            entry.object.is_some()
        });
        (
            services.map(|(name, _)| name.clone()).collect(),
            self.owners.keys().cloned().collect(),
        )
    }

    /// Whether something changed since the last [`Services::compile`], or is still to be committed.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
            || !self.rest.is_empty()
            || self.frame.as_ref() != Some(&self.frame())
    }

    /// Compiles what changed since the last time.
    pub fn compile(&mut self) -> Changes {
        let moved = self.claim();
        let mut delta: HashMap<(Bulk, IpAddr), i64> = HashMap::new();
        let mut touched = Vec::new();
        let mut stale = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            let change = self.recompile(id);
            for (frontend, endpoints) in self.stale(id, change.as_ref()) {
                stale.push(StaleFlows {
                    protocol: Protocol::Udp,
                    frontend,
                    endpoints,
                });
            }
            let Some(change) = change else {
                continue;
            };
            for (step, compiled) in [(-1, &change.old), (1, &change.new)] {
                for set in shared(compiled) {
                    *delta.entry(set).or_default() += step;
                }
            }
            touched.push(Touched {
                moved: moved.contains(&id),
                ..change
            });
        }
        let (added, removed) = self.share(delta);
        let mut batches = Batches::new(touched, added, removed);
        batches.resume(None, std::mem::take(&mut self.rest));

        let after = self.frame();
        let mut before = after.clone();
        before.picks.extend(&self.held);
        self.held.clone_from(&before.picks);
        let changes = Changes {
            before: (self.frame.as_ref() != Some(&before)).then(|| before.clone()),
            batches,
            after: (after != before).then(|| after.clone()),
            stale,
        };
        self.frame = Some(after);
        changes
    }

    /// All batches of the last [`Services::compile`] are in the kernel.
    pub fn committed(&mut self) {
        self.held = self.frame().picks;
        self.numbers.settle();
        self.numbers.adopted = super::numbers::Adopted::default();
    }

    /// The kernel refused `batch`; `rest` was not tried. Both come first in the next [`Services::compile`].
    /// The frame `after` must not go into the plan.
    pub fn interrupted(&mut self, batch: Batch, rest: Batches) {
        self.rest.resume(Some(batch), rest);
        self.frame = None;
    }

    /// At start: takes the number that an element of the kernel gave. All of them are told before the
    /// first [`Services::compile`].
    pub fn adopt(&mut self, set: &str, key: &Key, element: &Element) {
        if let Some((bulk, family)) = Bulk::of(set) {
            self.numbers.adopted.take(bulk, family, key, element);
        }
    }

    /// At start: the elements that the kernel has may lead to any of these choices, until all batches of a
    /// [`Services::compile`] are committed.
    pub fn hold(&mut self, frame: &Frame) {
        self.held.extend(&frame.picks);
    }

    fn id(&mut self, name: &ServiceName) -> u32 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        self.entries[id as usize].name = Some(name.clone());
        self.names.insert(name.clone(), id);
        id
    }

    /// Settles who has which frontend. Answers the Services between which one moved; they are dirty too.
    fn claim(&mut self) -> BTreeSet<u32> {
        let mut moved = BTreeSet::new();
        let dirty: Vec<u32> = self.dirty.iter().copied().collect();
        for id in dirty {
            let entry = &self.entries[id as usize];
            let wanted: Vec<Tuple> = match &entry.object {
                Some(object) => {
                    let claims = unit::claims(object, &self.node_ports);
                    claims.into_iter().map(|(tuple, _)| tuple).collect()
                }
                None => Vec::new(),
            };
            let before = std::mem::take(&mut self.entries[id as usize].claims);
            for tuple in before.iter().filter(|tuple| !wanted.contains(tuple)) {
                if let Some(other) = self.claims.release(*tuple, id) {
                    moved.extend([id, other]);
                }
            }
            for tuple in &wanted {
                let rank = |id: u32| rank(&self.entries[id as usize], &self.node_ports, tuple);
                if let Some(other) = self.claims.claim(*tuple, id, rank) {
                    moved.extend([id, other]);
                }
            }
            self.entries[id as usize].claims = wanted.into();
        }
        self.dirty.extend(&moved);
        moved
    }

    /// Compiles one Service. None if nothing about it changed.
    fn recompile(&mut self, id: u32) -> Option<Touched> {
        let entry = &self.entries[id as usize];
        let name = entry.name.clone()?;
        let mut new = match &entry.object {
            Some(object) => {
                let around = Surroundings {
                    places: &self.places,
                    node_ports: &self.node_ports,
                    owns: &|tuple| self.claims.has(tuple, id),
                };
                unit::compile(object, &entry.slices, &around)
            }
            None => Compiled::default(),
        };
        let old = Arc::clone(&entry.compiled);
        let gone = entry.object.is_none() && entry.slices.is_empty();
        match self.too_large(&name, &old, &new) {
            Some(finding) => {
                self.refused.insert(id, finding);
                return None;
            }
            None => drop(self.refused.remove(&id)),
        }
        new.number(name.as_str(), &old, &mut self.numbers);
        self.account(&name, &old, &new);
        let unchanged = new == *old;
        let new = if unchanged {
            Arc::clone(&old)
        } else {
            Arc::new(new)
        };
        if gone {
            self.entries[id as usize] = Entry::default();
            self.names.remove(&name);
            self.free.push(id);
        } else {
            self.entries[id as usize].compiled = Arc::clone(&new);
        }
        (!unchanged).then_some(Touched {
            name,
            old,
            new,
            moved: false,
        })
    }

    /// UDP connections of a Service that may lead to endpoints that are gone. Whoever still serves keeps
    /// the connections that it has, even where new ones go elsewhere: because it shuts down, is far away
    /// or is not on this node.
    fn stale(
        &mut self,
        id: u32,
        change: Option<&Touched>,
    ) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
        let mut flows = change.map(changes::stale_flows).unwrap_or_default();
        let entry = &mut self.entries[id as usize];
        let finishing = match &entry.object {
            Some(object) => unit::finishing(object, &entry.slices, &entry.compiled, &self.places),
            None => BTreeMap::new(),
        };
        let before = std::mem::replace(&mut entry.finishing, finishing);
        let answers = changes::udp(&entry.compiled.units);
        for frontend in before.keys().chain(entry.finishing.keys()) {
            if before.get(frontend) != entry.finishing.get(frontend) {
                let answers = answers.get(frontend).cloned().unwrap_or_default();
                flows.entry(*frontend).or_insert(answers);
            }
        }
        for (frontend, endpoints) in &mut flows {
            // Where nobody takes new connections, a client is to be told so.
            if let Some(more) = entry
                .finishing
                .get(frontend)
                .filter(|_| !endpoints.is_empty())
            {
                endpoints.extend(more);
                endpoints.sort_unstable();
            }
        }
        flows
    }

    /// Why a Service cannot be taken over as it is now, if so.
    fn too_large(&self, name: &ServiceName, old: &Compiled, new: &Compiled) -> Option<Finding> {
        let affinity = new.largest_with_affinity();
        let limit = super::code::MOST_WITH_AFFINITY as usize;
        if affinity > limit {
            return Some(Finding::ServiceTooLarge {
                service: name.to_string(),
                endpoints: affinity,
                limit,
            });
        }
        Family::ALL
            .into_iter()
            .zip(self.slots)
            .find_map(|(family, slots)| {
                let (before, after) = (old.slots(family), new.slots(family));
                let total = slots - before + after;
                (after > before && total > MAX_ELEMENTS).then(|| Finding::ServiceTooLarge {
                    service: name.to_string(),
                    endpoints: total,
                    limit: MAX_ELEMENTS,
                })
            })
    }

    fn account(&mut self, name: &ServiceName, old: &Compiled, new: &Compiled) {
        for (family, slots) in Family::ALL.into_iter().zip(&mut self.slots) {
            *slots = *slots + new.slots(family) - old.slots(family);
        }
        let NoLocalEndpoints { internal, external } = &mut self.no_local_endpoints;
        for (at, family) in Family::ALL.into_iter().enumerate() {
            let (before, after) = (old.lacks_local(family), new.lacks_local(family));
            for (policy, counts) in [&mut *internal, &mut *external].into_iter().enumerate() {
                counts[at] = counts[at] + usize::from(after[policy]) - usize::from(before[policy]);
            }
        }
        for pick in new.picks() {
            *self.picks.entry(pick).or_default() += 1;
        }
        for pick in old.picks() {
            if let Some(users) = self.picks.get_mut(&pick) {
                *users -= 1;
                if *users == 0 {
                    self.picks.remove(&pick);
                }
            }
        }
        self.health_is_new |= old.health != new.health;
        if let Some((port, _)) = old.health {
            self.health.remove(&(port, name.clone()));
        }
        if let Some((port, ready)) = new.health {
            self.health.insert((port, name.clone()), ready);
        }
    }

    /// Counts users of shared addresses. Answers which addresses come and which go.
    #[expect(clippy::type_complexity, reason = "two lists of one kind")]
    fn share(
        &mut self,
        delta: HashMap<(Bulk, IpAddr), i64>,
    ) -> (Vec<(Bulk, IpAddr)>, Vec<(Bulk, IpAddr)>) {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (set, step) in delta {
            if step == 0 {
                continue;
            }
            let before = self.shared.get(&set).copied().unwrap_or(0);
            let after = i64::from(before) + step;
            match u32::try_from(after) {
                Ok(after) if after > 0 => drop(self.shared.insert(set, after)),
                _ => drop(self.shared.remove(&set)),
            }
            if before == 0 && after > 0 {
                added.push(set);
            } else if before > 0 && after <= 0 {
                removed.push(set);
            }
        }
        added.sort_unstable();
        removed.sort_unstable();
        (added, removed)
    }
}

fn rank(entry: &Entry, node_ports: &[IpAddr], tuple: &Tuple) -> Rank {
    let object = entry.object.as_deref();
    let claims = object.map(|object| unit::claims(object, node_ports));
    let claim = claims.into_iter().flatten().find(|(own, _)| own == tuple);
    Rank {
        kind: claim.map_or(unit::Kind::NodePort, |(_, kind)| kind),
        created: object.map_or(0, |object| object.created),
        name: entry
            .name
            .clone()
            .unwrap_or_else(|| ServiceName::new("", "")),
    }
}

/// Addresses that are elements of their own, as often as a Service uses them.
fn shared(compiled: &Compiled) -> impl Iterator<Item = (Bulk, IpAddr)> + '_ {
    let pairs = compiled.endpoint_addresses().map(|ip| (Bulk::Pairs, ip));
    pairs.chain(compiled.cluster_ips().map(|ip| (Bulk::ClusterIps, ip)))
}

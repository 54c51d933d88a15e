//! Updates of watches in, zones to serve out. One loop owns it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use weft_core::zones::Zones;
use weft_core::zones::audience::Labels;
use weft_core::zones::cluster::Cluster;
use weft_core::zones::config::Config;
use weft_core::zones::directory::{Entries, Needs, NodeIdentity, Objects, PodIdentity, ZoneInput};
use weft_core::zones::input::{ServiceInput, SliceInput};
use weft_core::zones::name::NameError;

use crate::follow::Update;
use crate::snapshot::Saved;

/// What watches say.
#[derive(Clone, Debug)]
pub enum Input {
    /// Namespaces.
    Namespaces(Update<Space>),
    /// Services of this cluster.
    Services(Update<ServiceInput>),
    /// Services of the cluster set.
    Imports(Update<ServiceInput>),
    /// Slices of endpoints.
    Slices(Update<SliceInput>),
    /// Pods' addresses.
    Pods(Update<Vec<IpAddr>>),
    /// Zones of users; none: one that this server cannot read, which a later version wrote.
    Zones(Update<Option<Box<ZoneInput>>>),
    /// ConfigMaps with zone files.
    Files(Update<Entries>),
    /// Who the pods are.
    People(Update<PodIdentity>),
    /// Who the nodes are.
    Nodes(Update<NodeIdentity>),
}

/// A namespace.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Space {
    /// Its services have names.
    pub exposed: bool,
    /// Its labels, for zones that are not for everybody.
    pub labels: Labels,
}

/// Which collections have been listed in full.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    namespaces: bool,
    services: bool,
    imports: bool,
    slices: bool,
    pods: bool,
    zones: bool,
    files: bool,
    people: bool,
    nodes: bool,
}

/// What watches have said so far.
pub struct State {
    cluster: Cluster,
    zones: Zones,
    objects: Objects,
    namespaces: BTreeMap<Box<str>, Space>,
    services: BTreeMap<Box<str>, ServiceInput>,
    imports: BTreeSet<Box<str>>,
    slices: BTreeMap<Box<str>, SliceInput>,
    pods: BTreeSet<Box<str>>,
    user_zones: BTreeMap<Box<str>, Option<Box<ZoneInput>>>,
    files: BTreeMap<Box<str>, Entries>,
    people: BTreeMap<Box<str>, PodIdentity>,
    nodes: BTreeMap<Box<str>, NodeIdentity>,
    listed: Listed,
    wanted: Listed,
    from_disk: bool,
}

/// Which collections are watched at all.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// ServiceImports.
    pub imports: bool,
    /// PodAddresses.
    pub pods: bool,
}

impl State {
    /// Knows nothing yet. `listen`: where this server is asked, beside the addresses of the configuration.
    ///
    /// # Errors
    /// A zone whose name is too long.
    pub fn new(
        config: Config,
        watched: Watched,
        listen: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Self, NameError> {
        let zones = Zones::new(config.clone())?;
        Ok(Self {
            objects: zones.objects(listen),
            zones,
            cluster: Cluster::new(config),
            namespaces: BTreeMap::new(),
            services: BTreeMap::new(),
            imports: BTreeSet::new(),
            slices: BTreeMap::new(),
            pods: BTreeSet::new(),
            user_zones: BTreeMap::new(),
            files: BTreeMap::new(),
            people: BTreeMap::new(),
            nodes: BTreeMap::new(),
            listed: Listed::default(),
            wanted: Listed {
                namespaces: true,
                services: true,
                imports: watched.imports,
                slices: true,
                pods: watched.pods,
                zones: true,
                files: true,
                people: false,
                nodes: false,
            },
            from_disk: false,
        })
    }

    /// Takes what was true when the last process wrote it down.
    pub fn restore(&mut self, saved: Saved) {
        let Saved {
            namespaces,
            services,
            slices,
            zones,
            people,
            nodes,
            time: _,
        } = saved;
        self.apply(Input::Namespaces(Update::Reset(namespaces)));
        self.apply(Input::Services(Update::Reset(services)));
        self.apply(Input::Slices(Update::Reset(slices)));
        let files = zones.values().flat_map(|zone| zone.files.clone()).collect();
        self.apply(Input::Files(Update::Reset(files)));
        let zones = zones
            .into_iter()
            .map(|(name, zone)| (name, Some(Box::new(zone.input))));
        self.apply(Input::Zones(Update::Reset(zones.collect())));
        self.apply(Input::People(Update::Reset(people)));
        self.apply(Input::Nodes(Update::Reset(nodes)));
        self.listed = Listed::default();
        self.from_disk = true;
    }

    /// Takes an update.
    pub fn apply(&mut self, input: Input) {
        let (cluster, objects) = (&mut self.cluster, &mut self.objects);
        match input {
            Input::Namespaces(update) => {
                self.listed.namespaces |= matches!(update, Update::Reset(_));
                keep(&mut self.namespaces, update, |key, space| {
                    cluster.set_namespace(key, space.map(|space| space.exposed));
                    objects.set_namespace(key, space.map(|space| space.labels.clone()));
                });
            }
            Input::Services(update) => {
                self.listed.services |= matches!(update, Update::Reset(_));
                keep(&mut self.services, update, |key, service| {
                    let (namespace, name) = split(key);
                    cluster.set_service(namespace, name, service.cloned());
                });
            }
            Input::Slices(update) => {
                self.listed.slices |= matches!(update, Update::Reset(_));
                keep(&mut self.slices, update, |key, slice| {
                    let (namespace, name) = split(key);
                    cluster.set_slice(namespace, name, slice.cloned());
                });
            }
            Input::Imports(update) => {
                self.listed.imports |= matches!(update, Update::Reset(_));
                pass(&mut self.imports, update, |key, service| {
                    let (namespace, name) = split(key);
                    cluster.set_import(namespace, name, service);
                });
            }
            Input::Pods(update) => {
                self.listed.pods |= matches!(update, Update::Reset(_));
                pass(&mut self.pods, update, |key, addresses| {
                    let (namespace, name) = split(key);
                    cluster.set_pod(namespace, name, &addresses.unwrap_or_default());
                });
            }
            Input::Zones(update) => {
                self.listed.zones |= matches!(update, Update::Reset(_));
                keep(&mut self.user_zones, update, |key, zone| match zone {
                    None => objects.set_zone(key, None),
                    Some(Some(zone)) => objects.set_zone(key, Some((**zone).clone())),
                    // The last version that could be read stays.
                    Some(None) => {}
                });
            }
            Input::Files(update) => {
                self.listed.files |= matches!(update, Update::Reset(_));
                keep(&mut self.files, update, |key, entries| {
                    objects.set_file(key, entries.cloned());
                });
            }
            Input::People(update) => {
                self.listed.people |= matches!(update, Update::Reset(_));
                keep(&mut self.people, update, |key, pod| {
                    objects.set_pod(key, pod.cloned());
                });
            }
            Input::Nodes(update) => {
                self.listed.nodes |= matches!(update, Update::Reset(_));
                keep(&mut self.nodes, update, |key, node| {
                    objects.set_node(key, node.cloned());
                });
            }
        }
    }

    /// Whether every collection that is watched has been listed.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        let Listed {
            namespaces,
            services,
            imports,
            slices,
            pods,
            zones,
            files,
            people,
            nodes,
        } = self.listed;
        let (wanted, needs) = (self.wanted, self.needs());
        namespaces >= wanted.namespaces
            && services >= wanted.services
            && imports >= wanted.imports
            && slices >= wanted.slices
            && pods >= wanted.pods
            && zones >= wanted.zones
            && files >= wanted.files
            && people >= needs.pods
            && nodes >= needs.nodes
    }

    /// What has to be watched for the zones that there are.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.objects.needs()
    }

    /// Zones of users.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Whether what is known comes from the disk alone.
    #[must_use]
    pub fn is_from_disk(&self) -> bool {
        self.from_disk && !self.is_listed()
    }

    /// Compiles what changed. `serial` is the serial number of the built-in zones.
    pub fn compile(&mut self, serial: u32) -> Zones {
        self.zones.set_data(self.cluster.compile());
        self.zones.set_directory(self.objects.compile());
        self.zones.synced = self.is_listed() || self.from_disk;
        self.zones.serial = serial;
        self.zones.clone()
    }

    /// What to write down; none before it is whole.
    #[must_use]
    pub fn save(&self, time: u64) -> Option<Saved> {
        self.is_listed().then(|| Saved {
            time,
            namespaces: self.namespaces.clone(),
            services: self.services.clone(),
            slices: self.slices.clone(),
            zones: self
                .objects
                .good()
                .map(|(name, zone)| (name.into(), zone.clone()))
                .collect(),
            people: self.people.clone(),
            nodes: self.nodes.clone(),
        })
    }
}

/// Brings a store up to date, and says what changed.
fn keep<T: PartialEq>(
    store: &mut BTreeMap<Box<str>, T>,
    update: Update<T>,
    mut change: impl FnMut(&str, Option<&T>),
) {
    match update {
        Update::Reset(all) => {
            for key in store.keys().filter(|key| !all.contains_key(*key)) {
                change(key, None);
            }
            for (key, value) in all
                .iter()
                .filter(|(key, value)| store.get(*key) != Some(*value))
            {
                change(key, Some(value));
            }
            *store = all;
        }
        Update::Apply(key, value) => {
            if store.get(&key) != Some(&value) {
                change(&key, Some(&value));
                store.insert(key, value);
            }
        }
        Update::Delete(key) => {
            if store.remove(&key).is_some() {
                change(&key, None);
            }
        }
    }
}

/// The same, where only the keys are kept here.
fn pass<T>(
    keys: &mut BTreeSet<Box<str>>,
    update: Update<T>,
    mut change: impl FnMut(&str, Option<T>),
) {
    match update {
        Update::Reset(all) => {
            for key in keys.iter().filter(|key| !all.contains_key(*key)) {
                change(key, None);
            }
            *keys = all.keys().cloned().collect();
            for (key, value) in all {
                change(&key, Some(value));
            }
        }
        Update::Apply(key, value) => {
            change(&key, Some(value));
            keys.insert(key);
        }
        Update::Delete(key) => {
            keys.remove(&key);
            change(&key, None);
        }
    }
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

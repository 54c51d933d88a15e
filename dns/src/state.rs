//! Updates of watches in, zones to serve out. One loop owns it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_core::zones::Zones;
use weft_core::zones::cluster::Cluster;
use weft_core::zones::config::Config;
use weft_core::zones::input::{ServiceInput, SliceInput};
use weft_core::zones::name::NameError;

use crate::follow::Update;
use crate::snapshot::Saved;

/// What watches say.
#[derive(Clone, Debug)]
pub enum Input {
    /// Namespaces, and whether they are exposed.
    Namespaces(Update<bool>),
    /// Services of this cluster.
    Services(Update<ServiceInput>),
    /// Services of the cluster set.
    Imports(Update<ServiceInput>),
    /// Slices of endpoints.
    Slices(Update<SliceInput>),
    /// Pods' addresses.
    Pods(Update<Vec<IpAddr>>),
}

/// Which collections have been listed in full.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    namespaces: bool,
    services: bool,
    imports: bool,
    slices: bool,
    pods: bool,
}

/// What watches have said so far.
pub struct State {
    cluster: Cluster,
    zones: Zones,
    namespaces: BTreeMap<Box<str>, bool>,
    services: BTreeMap<Box<str>, ServiceInput>,
    imports: BTreeSet<Box<str>>,
    slices: BTreeMap<Box<str>, SliceInput>,
    pods: BTreeSet<Box<str>>,
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
    /// Knows nothing yet.
    ///
    /// # Errors
    /// A zone whose name is too long.
    pub fn new(config: Config, watched: Watched) -> Result<Self, NameError> {
        Ok(Self {
            zones: Zones::new(config.clone())?,
            cluster: Cluster::new(config),
            namespaces: BTreeMap::new(),
            services: BTreeMap::new(),
            imports: BTreeSet::new(),
            slices: BTreeMap::new(),
            pods: BTreeSet::new(),
            listed: Listed::default(),
            wanted: Listed {
                namespaces: true,
                services: true,
                imports: watched.imports,
                slices: true,
                pods: watched.pods,
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
            ..
        } = saved;
        self.apply(Input::Namespaces(Update::Reset(namespaces)));
        self.apply(Input::Services(Update::Reset(services)));
        self.apply(Input::Slices(Update::Reset(slices)));
        self.listed = Listed::default();
        self.from_disk = true;
    }

    /// Takes an update.
    pub fn apply(&mut self, input: Input) {
        let cluster = &mut self.cluster;
        match input {
            Input::Namespaces(update) => {
                self.listed.namespaces |= matches!(update, Update::Reset(_));
                keep(&mut self.namespaces, update, |key, exposed| {
                    cluster.set_namespace(key, exposed.copied())
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
        } = self.listed;
        let wanted = self.wanted;
        namespaces >= wanted.namespaces
            && services >= wanted.services
            && imports >= wanted.imports
            && slices >= wanted.slices
            && pods >= wanted.pods
    }

    /// Whether what is known comes from the disk alone.
    #[must_use]
    pub fn is_from_disk(&self) -> bool {
        self.from_disk && !self.is_listed()
    }

    /// Compiles what changed. `serial` is the serial number of the built-in zones.
    pub fn compile(&mut self, serial: u32) -> Zones {
        self.zones.set_data(self.cluster.compile());
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

//! Zones of users and what is known of clients in, a table of zones for each class of clients out.
//!
//! Clients that the same audiences mean are one class, and share a table. A zone that is changed into one that cannot be
//! used stays as it was. [`Objects`] holds all this and compiles what a change touches; [`Directory`] is one moment of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_crds::{ConfigMapRef, DnsZoneSpec};

use super::audience::{Audience, Identity, Labels, Rank};
use super::builtin::BuiltIn;
use super::clients::{Class, Clients, Networks};
use super::name::Name;
use super::object::{self, Fault, Files, Surroundings, ZoneObject};
use super::table::Table;
use people::People;
pub use people::{NodeIdentity, PodIdentity};
use placed::{Placed, place, table};

mod people;
mod placed;
pub mod shadow;

/// Which table a client is answered from. A clone costs next to nothing.
#[derive(Clone)]
pub struct Directory {
    tables: Arc<Vec<Arc<Table>>>,
    clients: Clients,
}

impl Directory {
    /// The same zones for everybody.
    pub(crate) fn of(table: Table) -> Self {
        Self {
            tables: Arc::new(vec![Arc::new(table)]),
            clients: Clients::default(),
        }
    }

    /// What a client sees; without an address, what everybody does.
    pub(crate) fn table(&self, client: Option<IpAddr>) -> &Table {
        let class = match client {
            Some(client) if !self.clients.is_empty() => self.clients.class(client),
            _ => 0,
        };
        let class = usize::try_from(class).unwrap_or_default();
        self.tables.get(class).unwrap_or(&self.tables[0])
    }

    /// How many tables there are.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.tables.len()
    }
}

/// A zone of a user, as a server keeps it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ZoneInput {
    /// What the user wrote.
    pub spec: DnsZoneSpec,
    /// The serial number that the operator assigned; none: it has not accepted any version yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
}

/// The entries of a ConfigMap with zone files.
pub type Entries = BTreeMap<String, String>;

/// A version of a zone that can be used, with the zone files that it was made of.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct GoodZone {
    /// The zone.
    #[serde(flatten)]
    pub input: ZoneInput,
    /// Zone files by `namespace/name` of their ConfigMap.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<Box<str>, Entries>,
}

/// What has to be watched for the zones that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Pods' addresses, and labels of namespaces.
    pub pods: bool,
    /// Nodes.
    pub nodes: bool,
}

/// A zone, with the last version of it that could be used.
struct Entry {
    input: ZoneInput,
    good: Option<(GoodZone, Arc<ZoneObject>)>,
    faults: Vec<Fault>,
}

/// All zones of users, and everything that is known of clients.
pub struct Objects {
    builtin: Arc<Vec<BuiltIn>>,
    surroundings: Surroundings,
    zones: BTreeMap<Box<str>, Entry>,
    files: ConfigMaps,
    people: People,
    zones_changed: bool,
    touched: BTreeSet<IpAddr>,
    placed: Vec<Placed>,
    audiences: Vec<Audience>,
    classes: HashMap<Vec<(usize, Rank)>, Class>,
    tables: Arc<Vec<Arc<Table>>>,
    clients: Clients,
}

/// ConfigMaps by `namespace/name`.
#[derive(Default)]
struct ConfigMaps(BTreeMap<Box<str>, Entries>);

impl Files for ConfigMaps {
    fn text(&self, name: &ConfigMapRef) -> Option<&str> {
        let entries = self.0.get(file_key(name).as_str())?;
        entries.get(&name.key).map(String::as_str)
    }
}

fn file_key(name: &ConfigMapRef) -> String {
    format!("{}/{}", name.namespace, name.name)
}

impl Objects {
    /// No zones, beside those that are built in.
    pub(crate) fn new(builtin: Arc<Vec<BuiltIn>>, surroundings: Surroundings) -> Self {
        Self {
            builtin,
            surroundings,
            zones: BTreeMap::new(),
            files: ConfigMaps::default(),
            people: People::default(),
            zones_changed: true,
            touched: BTreeSet::new(),
            placed: Vec::new(),
            audiences: Vec::new(),
            classes: HashMap::new(),
            tables: Arc::default(),
            clients: Clients::default(),
        }
    }

    /// A zone is new, different, or gone.
    pub fn set_zone(&mut self, name: &str, input: Option<ZoneInput>) {
        self.zones_changed = true;
        let before = self.zones.remove(name);
        let Some(input) = input else { return };
        let mut entry = Entry {
            input,
            good: before.and_then(|entry| entry.good),
            faults: Vec::new(),
        };
        self.read(name, &mut entry);
        self.zones.insert(name.into(), entry);
    }

    /// A ConfigMap with zone files is new, different, or gone.
    pub fn set_file(&mut self, key: &str, entries: Option<Entries>) {
        match entries {
            Some(entries) => self.files.0.insert(key.into(), entries),
            None => self.files.0.remove(key),
        };
        let mut zones = std::mem::take(&mut self.zones);
        for (name, entry) in &mut zones {
            if sources(&entry.input.spec).any(|source| file_key(source) == key) {
                self.zones_changed = true;
                self.read(name, entry);
            }
        }
        self.zones = zones;
    }

    /// A pod's addresses are new, different, or gone.
    pub fn set_pod(&mut self, key: &str, pod: Option<PodIdentity>) {
        self.touched.extend(self.people.set_pod(key, pod));
    }

    /// A namespace is new, has other labels, or is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        self.touched.extend(self.people.set_namespace(name, labels));
    }

    /// A node is new, different, or gone.
    pub fn set_node(&mut self, name: &str, node: Option<NodeIdentity>) {
        self.touched.extend(self.people.set_node(name, node));
    }

    /// Compiles what changed.
    pub fn compile(&mut self) -> Directory {
        if std::mem::take(&mut self.zones_changed) {
            self.compile_zones();
            self.touched.extend(self.people.addresses());
        }
        for address in std::mem::take(&mut self.touched) {
            let class = self.class(address, None);
            let plain = self.clients.class_of_network(address);
            self.clients
                .set(address, Some(class).filter(|class| *class != plain));
        }
        Directory {
            tables: Arc::clone(&self.tables),
            clients: self.clients.clone(),
        }
    }

    fn compile_zones(&mut self) {
        let zones = self.zones.iter();
        let good = zones.filter_map(|(name, entry)| {
            let good = entry.good.as_ref();
            Some((name.as_ref(), Arc::clone(good.map(|(_, object)| object)?)))
        });
        (self.placed, self.audiences) = place(good);
        let table = table(&self.builtin, &self.placed, &self.broken(), &[]);
        self.tables = Arc::new(vec![Arc::new(table)]);
        self.classes = [(Vec::new(), 0)].into();
        let networks: Vec<_> = self
            .audiences
            .iter()
            .flat_map(|audience| audience.networks.iter().copied())
            .collect();
        let networks = Networks::new(&networks, |address| {
            self.class(address, Some(Identity::Unknown))
        });
        self.clients.reset(networks);
    }

    /// The class of a client, by what is known of it, or by what is said of it here.
    fn class(&mut self, address: IpAddr, identity: Option<Identity<'_>>) -> Class {
        let identity = identity.unwrap_or_else(|| self.people.identity(address));
        let ranked = self
            .audiences
            .iter()
            .map(|audience| audience.rank(address, identity));
        let met: Vec<(usize, Rank)> = ranked
            .enumerate()
            .filter_map(|(index, rank)| Some((index, rank?)))
            .collect();
        if let Some(class) = self.classes.get(&met) {
            return *class;
        }
        let table = table(&self.builtin, &self.placed, &self.broken(), &met);
        let class = Class::try_from(self.tables.len()).unwrap_or_default();
        Arc::make_mut(&mut self.tables).push(Arc::new(table));
        self.classes.insert(met, class);
        class
    }

    /// Zones of which the operator knows a version that could be used and we do not: what they hold must not be denied.
    fn broken(&self) -> Vec<Name> {
        let unknown = self
            .zones
            .values()
            .filter(|entry| entry.good.is_none() && entry.input.serial.is_some());
        unknown
            .filter_map(|entry| object::apex(&entry.input.spec.zone).ok())
            .collect()
    }

    fn read(&self, name: &str, entry: &mut Entry) {
        let Entry {
            input,
            good,
            faults,
        } = entry;
        let serial = input.serial.unwrap_or(1);
        match object::parse(name, &input.spec, serial, &self.files, &self.surroundings) {
            Ok(object) => {
                let used = sources(&input.spec).filter_map(|source| {
                    let key = file_key(source);
                    let entries = self.files.0.get(key.as_str())?;
                    Some((key.into(), entries.clone()))
                });
                let version = GoodZone {
                    input: input.clone(),
                    files: used.collect(),
                };
                *good = Some((version, Arc::new(object)));
                faults.clear();
            }
            Err(found) => *faults = found,
        }
    }

    /// What has to be watched.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let audiences = || {
            let good = self.zones.values().filter_map(|entry| entry.good.as_ref());
            good.flat_map(|(_, object)| {
                let views = object.views.iter().map(|(audience, _)| audience);
                object.visibility.iter().chain(views)
            })
        };
        Needs {
            pods: audiences().any(Audience::needs_identity),
            nodes: audiences().any(Audience::needs_nodes),
        }
    }

    /// The version of each zone that is served.
    pub fn good(&self) -> impl Iterator<Item = (&str, &GoodZone)> {
        let zones = self.zones.iter();
        zones.filter_map(|(name, entry)| Some((name.as_ref(), &entry.good.as_ref()?.0)))
    }

    /// Zones whose last version cannot be used, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &[Fault])> {
        let zones = self.zones.iter();
        let refused = zones.filter(|(_, entry)| !entry.faults.is_empty());
        refused.map(|(name, entry)| (name.as_ref(), entry.faults.as_slice()))
    }

    /// Whom zones and their views ask.
    pub fn forwards(&self) -> impl Iterator<Item = &Arc<super::forward::Forward>> {
        let good = self.zones.values().filter_map(|entry| entry.good.as_ref());
        let bodies = good.flat_map(|(_, object)| {
            let views = object.views.iter().map(|(_, body)| body);
            std::iter::once(&object.body).chain(views)
        });
        bodies.filter_map(|body| match body {
            object::Body::Forward(forward) => Some(forward),
            object::Body::Authoritative(_) | object::Body::Policy(_) => None,
        })
    }

    /// How many zones are served.
    #[must_use]
    pub fn len(&self) -> usize {
        self.good().count()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.good().next().is_none()
    }
}

/// The zone files that a zone names.
pub fn sources(spec: &DnsZoneSpec) -> impl Iterator<Item = &ConfigMapRef> {
    let views = spec
        .views
        .iter()
        .filter_map(|view| view.authoritative.as_ref());
    let bodies = spec.authoritative.iter().chain(views);
    bodies.flat_map(|body| body.sources.iter().map(|source| &source.config_map_ref))
}

#[cfg(test)]
mod tests;

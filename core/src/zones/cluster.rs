//! The cluster's services, endpoints, namespaces and pods: changes in, names that answer out.
//!
//! [`Cluster`] holds the cut-down objects and knows which services a change touches; [`Cluster::compile`] compiles
//! those alone and hands out a [`Data`], which shares everything else with the one before. The result
//! depends on what there is, not on the order in which it came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::config::{Config, PodMode};
use super::input::{self, Key, ServiceInput, SliceInput, UnitKey};
use ordered::Ordered;
use shards::Shards;
use unit::Unit;

pub(crate) mod lookup;
mod ordered;
pub(crate) mod records;
mod shards;
pub mod unit;

/// What the built-in zones answer from. A clone costs a few microseconds.
#[derive(Clone, Default)]
pub struct Data {
    /// Services of this cluster.
    services: Shards,
    /// Services of the cluster set.
    imports: Shards,
    /// Exposed namespaces, as labels in wire form.
    namespaces: Arc<BTreeSet<Box<[u8]>>>,
    /// Addresses of services and endpoints.
    reverse: Ordered,
    /// Addresses outside the cluster.
    external: Ordered,
    /// Addresses of pods, by the label of their namespace.
    pods: Ordered,
}

impl Data {
    /// How many services have names.
    #[must_use]
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// How many addresses have reverse names.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.reverse.len()
    }

    /// How many endpoints services have.
    #[must_use]
    pub fn endpoints(&self) -> usize {
        self.services
            .iter()
            .map(|unit| unit.endpoints.list.len())
            .sum()
    }
}

/// All input of the built-in zones, and what of it is compiled.
pub struct Cluster {
    config: Config,
    services: HashMap<UnitKey, ServiceInput>,
    slices: HashMap<Box<str>, SliceInput>,
    by_service: HashMap<UnitKey, BTreeSet<Box<str>>>,
    namespaces: BTreeMap<Box<[u8]>, bool>,
    pods: HashMap<Box<str>, Held>,
    touched: BTreeSet<UnitKey>,
    data: Data,
}

/// What a pod holds: the label of its namespace, and its addresses.
type Held = (Arc<[u8]>, Vec<IpAddr>);

impl Cluster {
    /// An empty cluster.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            services: HashMap::new(),
            slices: HashMap::new(),
            by_service: HashMap::new(),
            namespaces: BTreeMap::new(),
            pods: HashMap::new(),
            touched: BTreeSet::new(),
            data: Data::default(),
        }
    }

    /// The values in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A service of this cluster is there, different, or gone.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<ServiceInput>) {
        self.set_unit(false, namespace, name, service);
    }

    /// An imported service is there, different, or gone.
    pub fn set_import(&mut self, namespace: &str, name: &str, service: Option<ServiceInput>) {
        self.set_unit(true, namespace, name, service);
    }

    fn set_unit(
        &mut self,
        imported: bool,
        namespace: &str,
        name: &str,
        service: Option<ServiceInput>,
    ) {
        let Some(key) = input::key(namespace, name) else {
            return;
        };
        let key = UnitKey { imported, key };
        let before = match &service {
            Some(service) => self.services.insert(key.clone(), service.clone()),
            None => self.services.remove(&key),
        };
        if before != service {
            self.touched.insert(key);
        }
    }

    /// A slice is there, different, or gone.
    pub fn set_slice(&mut self, namespace: &str, name: &str, slice: Option<SliceInput>) {
        let id: Box<str> = format!("{namespace}/{name}").into();
        let before = self.slices.get(&id);
        if before == slice.as_ref() {
            return;
        }
        if let Some(before) = self.slices.remove(&id) {
            let slices = self.by_service.get_mut(&before.service);
            if slices.is_some_and(|slices| slices.remove(&id) && slices.is_empty()) {
                self.by_service.remove(&before.service);
            }
            self.touched.insert(before.service);
        }
        if let Some(slice) = slice {
            self.touched.insert(slice.service.clone());
            self.by_service
                .entry(slice.service.clone())
                .or_default()
                .insert(id.clone());
            self.slices.insert(id, slice);
        }
    }

    /// A namespace is there, exposed or not, or gone.
    pub fn set_namespace(&mut self, name: &str, exposed: Option<bool>) {
        let Some(label) = input::label(name) else {
            return;
        };
        let before = match exposed {
            Some(exposed) => self.namespaces.insert(label.clone(), exposed),
            None => self.namespaces.remove(&label),
        };
        if before.unwrap_or_default() == exposed.unwrap_or_default() {
            return;
        }
        let namespaces = Arc::make_mut(&mut self.data.namespaces);
        match exposed {
            Some(true) => namespaces.insert(label.clone()),
            _ => namespaces.remove(&label),
        };
        let keys = self.services.keys().filter(|key| key.key.ends_with(&label));
        self.touched.extend(keys.cloned());
    }

    /// The addresses that a pod holds; none where it is gone.
    pub fn set_pod(&mut self, namespace: &str, name: &str, addresses: &[IpAddr]) {
        if self.config.pods != PodMode::Verified {
            return;
        }
        let id: Box<str> = format!("{namespace}/{name}").into();
        if let Some((label, before)) = self.pods.remove(&id) {
            for address in before {
                // Two pods of one namespace may share an address for a moment.
                let shared = self
                    .pods
                    .values()
                    .any(|(other, held)| *other == label && held.contains(&address));
                if !shared {
                    self.data
                        .pods
                        .remove(&(number(address), Arc::clone(&label)));
                }
            }
        }
        let Some(label) = input::label(namespace).filter(|_| !addresses.is_empty()) else {
            return;
        };
        let label: Arc<[u8]> = label.into();
        for &address in addresses {
            self.data.pods.insert((number(address), Arc::clone(&label)));
        }
        self.pods.insert(id, (label, addresses.to_vec()));
    }

    /// Whether anything waits to be compiled.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Compiles what changed since the last time, and hands out all of it.
    pub fn compile(&mut self) -> Data {
        for key in std::mem::take(&mut self.touched) {
            let unit = self.unit(&key);
            self.replace(&key, unit.map(Arc::new));
        }
        self.data.clone()
    }

    fn unit(&self, key: &UnitKey) -> Option<Unit> {
        let service = self.services.get(key)?;
        let (name, namespace) = key.key.split_at(usize::from(key.key[0]) + 1);
        if self.namespaces.get(namespace) != Some(&true) || name.is_empty() {
            return None;
        }
        let slices = self.by_service.get(key).into_iter().flatten();
        let slices: Vec<_> = slices.filter_map(|id| self.slices.get(id)).collect();
        Unit::compile(self.stored_key(key), service, &slices, &self.config)
    }

    /// The key that the unit before has, so that reverse entries go on sharing it.
    fn stored_key(&self, key: &UnitKey) -> Arc<[u8]> {
        let units = if key.imported {
            &self.data.imports
        } else {
            &self.data.services
        };
        let before = units.get(&key.key).map(|unit| Arc::clone(&unit.key));
        before.unwrap_or_else(|| Arc::from(key.key.as_ref()))
    }

    fn replace(&mut self, key: &UnitKey, unit: Option<Arc<Unit>>) {
        if key.imported {
            self.data.imports.set(&key.key, unit);
            return;
        }
        let before = self.data.services.get(&key.key).cloned();
        let label = self.stored_key(key);
        let addresses = |unit: &Option<Arc<Unit>>| {
            unit.as_ref()
                .map(|unit| unit.addresses())
                .unwrap_or_default()
        };
        let external = |unit: &Option<Arc<Unit>>| {
            unit.as_ref()
                .map(|unit| unit.external.to_vec())
                .unwrap_or_default()
        };
        exchange(
            &mut self.data.reverse,
            &label,
            &addresses(&before),
            &addresses(&unit),
        );
        exchange(
            &mut self.data.external,
            &label,
            &external(&before),
            &external(&unit),
        );
        self.data.services.set(&key.key, unit);
    }
}

/// Brings the entries of one owner up to date.
fn exchange(entries: &mut Ordered, owner: &Arc<[u8]>, before: &[IpAddr], after: &[IpAddr]) {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    for &&address in old.difference(&new) {
        entries.remove(&(number(address), Arc::clone(owner)));
    }
    for &&address in new.difference(&old) {
        entries.insert((number(address), Arc::clone(owner)));
    }
}

/// An address as a number, IPv4 as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
#[must_use]
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Objects as the API has them, for callers that hold whole ones.
impl Cluster {
    /// Takes a Namespace.
    pub fn apply_namespace(&mut self, object: &Namespace) {
        let exposed = input::exposed(object, &self.config);
        self.set_namespace(
            object.metadata.name.as_deref().unwrap_or_default(),
            Some(exposed),
        );
    }

    /// Takes a Service.
    pub fn apply_service(&mut self, object: &Service) {
        let (namespace, name) = names(&object.metadata);
        self.set_service(namespace, name, ServiceInput::service(object));
    }

    /// Takes an EndpointSlice.
    pub fn apply_slice(&mut self, object: &EndpointSlice) {
        let (namespace, name) = names(&object.metadata);
        self.set_slice(
            namespace,
            name,
            SliceInput::slice(object, self.config.endpoint_pod_names),
        );
    }

    /// Takes a Pod.
    pub fn apply_pod(&mut self, object: &Pod) {
        let (namespace, name) = names(&object.metadata);
        self.set_pod(namespace, name, &input::pod_addresses(object));
    }
}

fn names(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (&str, &str) {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    (namespace, metadata.name.as_deref().unwrap_or_default())
}

/// The key of a service in the map of units; for records that follow a service.
#[must_use]
pub fn service_key(namespace: &str, name: &str) -> Option<Key> {
    input::key(namespace, name)
}

#[cfg(test)]
mod tests;

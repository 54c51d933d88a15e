//! What the state of Services answers: chains and elements that are wanted, endpoints, health, findings.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use weft_nft::{Element, Key, Table};

use super::super::bulk::{self, Bulk, Sink};
use super::super::changes::{Endpoints, Health, NoLocalEndpoints};
use super::super::slices::Slice;
use super::super::{Frame, Pick, ServiceName};
use super::Services;
use crate::finding::Finding;
use crate::view::Family;

/// Choices among so many endpoints and fewer are always there.
const FREQUENT: u32 = 8;

impl Services {
    /// What chains are needed.
    #[must_use]
    pub fn frame(&self) -> Frame {
        Frame {
            pod_networks: self.config.pod_networks.iter().copied().collect(),
            service_networks: self.config.service_networks.iter().copied().collect(),
            own_addresses: self.config.own_addresses(),
            masquerade_all: self.config.masquerade_all,
            picks: self.frequent().chain(self.picks.keys().copied()).collect(),
        }
    }

    /// Choices among few endpoints, which are there whether they are made or not: most changes then
    /// need no chain.
    fn frequent(&self) -> impl Iterator<Item = (Family, Pick)> + '_ {
        let used = |family: &Family| self.picks.keys().any(|(of, _)| of == family);
        let families = Family::ALL.into_iter().filter(used);
        families.flat_map(|family| {
            (1..=FREQUENT).map(move |count| (family, Pick::new(false, count, None)))
        })
    }

    /// Puts every wanted element into a table that has the sets.
    pub fn fill(&self, table: &mut Table) {
        let mut fill = Fill(table);
        self.render(&mut fill);
    }

    /// Endpoints of a service port; none if there is no such port.
    #[must_use]
    pub fn endpoints(&self, service: &ServiceName, port: &str) -> Option<Endpoints> {
        let entry = self.entries.get(*self.names.get(service)? as usize)?;
        let units = entry
            .compiled
            .units
            .iter()
            .filter(|unit| *unit.name == *port);
        let mut endpoints: Option<Endpoints> = None;
        for unit in units {
            let into = endpoints.get_or_insert_default();
            for (group, list) in [
                (&unit.cluster, &mut into.cluster),
                (&unit.local, &mut into.local),
            ] {
                if let Some(group) = group {
                    let all = group.endpoints.iter().copied().map(SocketAddr::from);
                    list.get_or_insert_default().extend(all);
                }
            }
        }
        endpoints
    }

    /// Every health check node port that this node serves.
    #[must_use]
    pub fn health(&self) -> BTreeMap<u16, Health> {
        let mut health = BTreeMap::new();
        for ((port, service), ready) in &self.health {
            health.entry(*port).or_insert_with(|| Health {
                service: service.clone(),
                ready: *ready,
            });
        }
        health
    }

    /// The same, if it is not what it was when this was last asked.
    pub fn new_health(&mut self) -> Option<BTreeMap<u16, Health>> {
        std::mem::take(&mut self.health_is_new).then(|| self.health())
    }

    /// How many Services want endpoints of this node where there are none.
    #[must_use]
    pub fn no_local_endpoints(&self) -> NoLocalEndpoints {
        self.no_local_endpoints
    }

    /// What is not as wished.
    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        let lost = self
            .claims
            .lost()
            .map(|(tuple, service, other)| Finding::FrontendTaken {
                service: service.to_string(),
                other: other.to_string(),
                frontend: SocketAddr::new(tuple.address, tuple.port),
            });
        self.refused.values().cloned().chain(lost)
    }

    /// Services and endpoints that are held.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let entries = self.entries.iter();
        let endpoints = entries.flat_map(|entry| entry.slices.iter().map(Slice::len));
        (self.names.len(), endpoints.sum())
    }

    /// Every wanted element.
    pub(in crate::services) fn render(&self, sink: &mut impl Sink) {
        for entry in &self.entries {
            if let Some(name) = &entry.name {
                bulk::render(name.as_str(), &entry.compiled, sink);
            }
        }
        for (bulk, address) in self.shared.keys() {
            if sink.wants((*bulk, Family::of(*address))) {
                let (set, key, element) = bulk::address_element(*bulk, *address);
                sink.put(set, key, element);
            }
        }
    }
}

/// Elements go into a table.
struct Fill<'a>(&'a mut Table);

impl Sink for Fill<'_> {
    fn wants(&self, _: (Bulk, Family)) -> bool {
        true
    }

    fn put(&mut self, set: (Bulk, Family), key: Key, element: Element) {
        let name = set.0.name(set.1).to_owned();
        let set = self.0.sets.entry(name).or_default();
        set.elements.insert(key, element);
    }
}

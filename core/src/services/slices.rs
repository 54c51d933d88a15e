//! EndpointSlices in the form in which they are kept: 20 bytes for each endpoint.
//!
//! Names of nodes and zones are looked at once. What depends on this node's name becomes bits; sets
//! of zones, of which a cluster has few, become numbers, because a node's zone may change.

use std::collections::HashMap;
use std::net::IpAddr;

use super::choice::{Candidate, Facts};
use super::object::{SliceEndpoint, SliceObject, SlicePort};
use super::{SliceName, object};
use crate::view::{Family, Protocol};

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub name: SliceName,
    family: Family,
    ports: Box<[SlicePort]>,
    endpoints: Box<[Endpoint]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint {
    address: IpAddr,
    bits: u8,
    zones: u16,
}

const READY: u8 = 1;
const SERVING: u8 = 1 << 1;
const TERMINATING: u8 = 1 << 2;
const LOCAL: u8 = 1 << 3;
const FOR_NODES: u8 = 1 << 4;
const FOR_THIS_NODE: u8 = 1 << 5;

/// Sets of zones by number; 0 is the empty one.
#[derive(Clone, Debug)]
pub(super) struct Zones {
    sets: Vec<Box<[Box<str>]>>,
    numbers: HashMap<Box<[Box<str>]>, u16>,
    /// Whether this node's zone is in a set.
    ours: Vec<bool>,
    zone: Option<Box<str>>,
}

impl Default for Zones {
    fn default() -> Self {
        Self {
            sets: vec![Box::default()],
            numbers: [(Box::default(), 0)].into(),
            ours: vec![false],
            zone: None,
        }
    }
}

impl Zones {
    /// The node is in another zone.
    pub fn set_zone(&mut self, zone: Option<&str>) {
        self.zone = zone.map(Box::from);
        self.ours = self.sets.iter().map(|set| self.holds(set)).collect();
    }

    fn holds(&self, set: &[Box<str>]) -> bool {
        self.zone.as_ref().is_some_and(|zone| set.contains(zone))
    }

    fn number(&mut self, set: &[Box<str>]) -> u16 {
        if let Some(number) = self.numbers.get(set) {
            return *number;
        }
        // 65,535 different sets of zones are no cluster's; hints beyond them are as if not given.
        let Ok(number) = u16::try_from(self.sets.len()) else {
            return 0;
        };
        self.ours.push(self.holds(set));
        self.sets.push(set.into());
        self.numbers.insert(set.into(), number);
        number
    }

    fn hint(&self, number: u16) -> Option<bool> {
        let ours = || self.ours.get(usize::from(number)).copied();
        (number > 0).then(ours).flatten()
    }
}

impl Slice {
    /// The compact form of an object.
    pub fn new(name: SliceName, object: SliceObject, node: &str, zones: &mut Zones) -> Self {
        let SliceObject {
            service: _,
            family,
            ports,
            endpoints,
        } = object;
        let endpoints = endpoints
            .iter()
            .map(|endpoint| Endpoint::new(endpoint, node, zones))
            .collect();
        Self {
            name,
            family,
            ports,
            endpoints,
        }
    }

    /// Adds the endpoints that serve a port.
    pub fn candidates(
        &self,
        family: Family,
        port: &object::ServicePort,
        zones: &Zones,
        into: &mut Vec<Candidate>,
    ) {
        let serves = |own: &&SlicePort| own.name == port.name && own.protocol == port.protocol;
        if self.family != family {
            return;
        }
        for own in self.ports.iter().filter(serves) {
            into.extend(self.endpoints.iter().map(|endpoint| Candidate {
                address: endpoint.address,
                port: own.port,
                facts: endpoint.facts(zones),
            }));
        }
    }

    /// Endpoints that the slice holds.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }
}

impl Endpoint {
    fn new(object: &SliceEndpoint, node: &str, zones: &mut Zones) -> Self {
        let SliceEndpoint {
            address,
            ready,
            serving,
            terminating,
            node: on,
            for_zones,
            for_nodes,
        } = object;
        let bits = [
            (*ready, READY),
            (*serving, SERVING),
            (*terminating, TERMINATING),
            (on.as_deref() == Some(node), LOCAL),
            (!for_nodes.is_empty(), FOR_NODES),
            (for_nodes.iter().any(|name| **name == *node), FOR_THIS_NODE),
        ];
        Self {
            address: *address,
            bits: bits
                .into_iter()
                .filter(|(is, _)| *is)
                .map(|(_, bit)| bit)
                .sum(),
            zones: zones.number(for_zones),
        }
    }

    fn facts(self, zones: &Zones) -> Facts {
        let has = |bit| self.bits & bit != 0;
        Facts {
            ready: has(READY),
            serving: has(SERVING),
            terminating: has(TERMINATING),
            local: has(LOCAL),
            for_node: has(FOR_NODES).then(|| has(FOR_THIS_NODE)),
            for_zone: zones.hint(self.zones),
        }
    }
}

/// The name of a protocol in hashes and comments.
pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => weft_nft::l4proto::TCP,
        Protocol::Udp => weft_nft::l4proto::UDP,
        Protocol::Sctp => weft_nft::l4proto::SCTP,
    }
}

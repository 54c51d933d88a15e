//! EndpointSlices in the form in which they are kept: 24 bytes for each endpoint.
//!
//! Names of nodes and zones, of which a cluster has few, become numbers of sets of names: an endpoint
//! runs on one node, and may be meant for several nodes or zones. Whether this node or its zone is in
//! a set is asked once for each set.

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
    node: u16,
    for_nodes: u16,
    for_zones: u16,
}

const READY: u8 = 1;
const SERVING: u8 = 1 << 1;
const TERMINATING: u8 = 1 << 2;

/// Where this node is, and the places that endpoints name.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub nodes: Sets,
    pub zones: Sets,
}

/// Sets of names by number; 0 is the empty one.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    sets: Vec<Box<[Box<str>]>>,
    numbers: HashMap<Box<[Box<str>]>, u16>,
    /// Whether our own name is in a set.
    ours: Vec<bool>,
    own: Option<Box<str>>,
}

impl Default for Sets {
    fn default() -> Self {
        Self {
            sets: vec![Box::default()],
            numbers: [(Box::default(), 0)].into(),
            ours: vec![false],
            own: None,
        }
    }
}

impl Sets {
    /// Our own name is another one. Answers whether it is.
    pub fn set_own(&mut self, own: Option<&str>) -> bool {
        if self.own.as_deref() == own {
            return false;
        }
        self.own = own.map(Box::from);
        self.ours = self.sets.iter().map(|set| self.holds(set)).collect();
        true
    }

    fn holds(&self, set: &[Box<str>]) -> bool {
        self.own.as_ref().is_some_and(|own| set.contains(own))
    }

    fn number(&mut self, set: &[Box<str>]) -> u16 {
        if let Some(number) = self.numbers.get(set) {
            return *number;
        }
        // 65,535 different sets are no cluster's; names beyond them are as if not given.
        let Ok(number) = u16::try_from(self.sets.len()) else {
            return 0;
        };
        self.ours.push(self.holds(set));
        self.sets.push(set.into());
        self.numbers.insert(set.into(), number);
        number
    }

    /// Whether we are in a set; none for the empty one.
    fn ours(&self, number: u16) -> Option<bool> {
        let ours = || self.ours.get(usize::from(number)).copied();
        (number > 0).then(ours).flatten()
    }
}

impl Slice {
    /// The compact form of an object.
    pub fn new(name: SliceName, object: SliceObject, places: &mut Places) -> Self {
        let SliceObject {
            service: _,
            family,
            ports,
            endpoints,
        } = object;
        let endpoints = endpoints
            .iter()
            .map(|endpoint| Endpoint::new(endpoint, places))
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
        places: &Places,
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
                facts: endpoint.facts(places),
            }));
        }
    }

    /// Endpoints that the slice holds.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }
}

impl Endpoint {
    fn new(object: &SliceEndpoint, places: &mut Places) -> Self {
        let SliceEndpoint {
            address,
            ready,
            serving,
            terminating,
            node,
            for_zones,
            for_nodes,
        } = object;
        let bits = [
            (*ready, READY),
            (*serving, SERVING),
            (*terminating, TERMINATING),
        ];
        let bits = bits.into_iter().filter(|(is, _)| *is);
        Self {
            address: *address,
            bits: bits.map(|(_, bit)| bit).sum(),
            node: places.nodes.number(node.as_slice()),
            for_nodes: places.nodes.number(for_nodes),
            for_zones: places.zones.number(for_zones),
        }
    }

    fn facts(self, places: &Places) -> Facts {
        let has = |bit| self.bits & bit != 0;
        Facts {
            ready: has(READY),
            serving: has(SERVING),
            terminating: has(TERMINATING),
            local: places.nodes.ours(self.node) == Some(true),
            for_node: places.nodes.ours(self.for_nodes),
            for_zone: places.zones.ours(self.for_zones),
        }
    }
}

/// A protocol's number (IANA protocol numbers).
pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => weft_nft::l4proto::TCP,
        Protocol::Udp => weft_nft::l4proto::UDP,
        Protocol::Sctp => weft_nft::l4proto::SCTP,
    }
}

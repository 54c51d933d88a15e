//! From Kubernetes objects to the few words of them that services need.
//!
//! Parsed once at the edge, where the object is dropped at once: a store of whole objects would be
//! many times as large. What cannot be used is skipped with a rejection; the rest stays in force.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::finding::Rejection;
use crate::view::{Family, Protocol};

mod address;
mod parse;

pub use address::{address, network};
pub use parse::{service, service_networks, slice, zone};

/// `namespace/name` of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

/// `namespace/name` of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceName(Arc<str>);

/// A Service that a proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceObject {
    /// When it was created, seconds since 1970: of two that claim one address and port, the older has it.
    pub created: i64,
    /// Its cluster IPs, at most one of each family.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.externalIPs`
    pub external_ips: Box<[IpAddr]>,
    /// Addresses of its load balancer with ipMode VIP.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`
    pub source_ranges: Box<[IpNet]>,
    /// Its ports.
    pub ports: Box<[ServicePort]>,
    /// Cluster IPs reach endpoints of the own node alone (`internalTrafficPolicy: Local`).
    pub internal_local: bool,
    /// So do external addresses and node ports (`externalTrafficPolicy: Local`).
    pub external_local: bool,
    /// For how many seconds a client keeps its endpoint (`sessionAffinity: ClientIP`).
    pub affinity: Option<u32>,
    /// `spec.healthCheckNodePort`, where load balancers ask for local endpoints.
    pub health_check_node_port: Option<u16>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it has none.
    pub name: Box<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The number on the Service's addresses.
    pub port: u16,
    /// The number on the node's addresses.
    pub node_port: Option<u16>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceObject {
    /// The Service that it belongs to (label `kubernetes.io/service-name`).
    pub service: ServiceName,
    /// The family of its addresses.
    pub family: Family,
    /// Its ports.
    pub ports: Box<[SlicePort]>,
    /// Its endpoints.
    pub endpoints: Box<[SliceEndpoint]>,
}

/// A port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name; empty if it has none.
    pub name: Box<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The number in the pod.
    pub port: u16,
}

/// An endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address.
    pub address: IpAddr,
    /// Takes new connections.
    pub ready: bool,
    /// Answers, although it may shut down.
    pub serving: bool,
    /// Shuts down.
    pub terminating: bool,
    /// The node that it runs on.
    pub node: Option<Box<str>>,
    /// Zones that are to use it (`hints.forZones`).
    pub for_zones: Box<[Box<str>]>,
    /// Nodes that are to use it (`hints.forNodes`).
    pub for_nodes: Box<[Box<str>]>,
}

/// An object of interest, or none where it is for somebody else, and what was not understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The object.
    pub object: Option<T>,
    /// Parts of it that cannot be used.
    pub rejections: Vec<Rejection>,
}

impl ServiceName {
    /// The name of a Service.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// `namespace/name`
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Namespace and name.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }
}

impl SliceName {
    /// The name of an EndpointSlice.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// `namespace/name`
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SliceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

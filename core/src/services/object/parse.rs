//! The only place of the services that reads texts out of Kubernetes objects.
//!
//! One bad value costs as little as possible: an endpoint, an address, a port. Everything beside it
//! stays in force.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::address::{address, network, special};
use super::{
    Parsed, ServiceName, ServiceObject, ServicePort, SliceEndpoint, SliceObject, SlicePort,
};
use crate::finding::{Object, Rejection};
use crate::view::{Family, Protocol};

/// Names the Service that a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Hands a Service or slice to another proxy.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// A Service or slice that no proxy serves.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// The zone of a Node.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Seconds that a client keeps its endpoint if nothing else is said (`DefaultClientIPServiceAffinitySeconds`).
const AFFINITY_SECONDS: i32 = 10_800;
/// The longest time of it (`MaxClientIPServiceAffinitySeconds`).
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// Sources that no packet has.
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];
const ADDRESS: &str = "write a unicast address that is neither loopback nor link-local";
const PORT: &str = "write a port from 1 to 65535";
const PROTOCOL: &str = "write TCP, UDP or SCTP";
const NETWORK: &str = "write a network such as 203.0.113.0/24";

/// A Service as services need it; none if it is headless, an external name, or somebody else's.
#[must_use]
pub fn service(object: &Service) -> Parsed<ServiceObject> {
    let none = Parsed {
        object: None,
        rejections: Vec::new(),
    };
    let Some(spec) = object.spec.as_ref() else {
        return none;
    };
    if is_for_others(&object.metadata) || kind(spec) == "ExternalName" {
        return none;
    }
    let mut reader = Reader::new("Service", &object.metadata);
    let cluster_ips = reader.cluster_ips(spec);
    if cluster_ips.is_empty() {
        return reader.parsed(None);
    }
    let external_ips = reader.external_ips(spec);
    let load_balancer_ips = reader.load_balancer_ips(object);
    let external = kind(spec) != "ClusterIP" || !external_ips.is_empty();
    let external_local = external && spec.external_traffic_policy.as_deref() == Some("Local");
    let health = spec.health_check_node_port.unwrap_or(0);
    let service = ServiceObject {
        created: created(&object.metadata),
        cluster_ips,
        external_ips,
        load_balancer_ips,
        source_ranges: reader.source_ranges(spec),
        ports: reader.service_ports(spec),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local,
        affinity: affinity(spec),
        health_check_node_port: (kind(spec) == "LoadBalancer" && external_local)
            .then(|| u16::try_from(health).ok().filter(|port| *port > 0))
            .flatten(),
    };
    reader.parsed(Some(service))
}

/// An EndpointSlice as services need it; none if it has names instead of addresses, or is somebody else's.
#[must_use]
pub fn slice(object: &EndpointSlice) -> Parsed<SliceObject> {
    let labels = object.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
    let family = match object.address_type.as_str() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    };
    let (Some(service), Some(family), false) = (
        service.filter(|name| !name.is_empty()),
        family,
        is_for_others(&object.metadata),
    ) else {
        return Parsed {
            object: None,
            rejections: Vec::new(),
        };
    };
    let mut reader = Reader::new("EndpointSlice", &object.metadata);
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let slice = SliceObject {
        service: ServiceName::new(namespace, service),
        family,
        ports: reader.slice_ports(object),
        endpoints: reader.endpoints(object, family),
    };
    reader.parsed(Some(slice))
}

/// The zone that a Node is in (label `topology.kubernetes.io/zone`).
#[must_use]
pub fn zone(node: &Node) -> Option<String> {
    let zone = node.metadata.labels.as_ref()?.get(ZONE)?;
    (!zone.is_empty()).then(|| zone.clone())
}

/// The ranges of a ServiceCIDR.
#[must_use]
pub fn service_networks(object: &ServiceCIDR) -> Parsed<Vec<IpNet>> {
    let mut reader = Reader::new("ServiceCIDR", &object.metadata);
    let cidrs = object.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
    let networks = cidrs
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, text)| reader.network(format!("spec.cidrs[{index}]"), text))
        .collect();
    reader.parsed(Some(networks))
}

fn is_for_others(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(PROXY_NAME) || labels.contains_key(HEADLESS))
}

/// The type of a Service.
fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn created(metadata: &ObjectMeta) -> i64 {
    let created = metadata.creation_timestamp.as_ref();
    created.map_or(0, |time| time.0.as_second())
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .unwrap_or(AFFINITY_SECONDS);
    u32::try_from(seconds.clamp(1, MAX_AFFINITY_SECONDS)).ok()
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// Reads one object and collects what it cannot use.
struct Reader<'a> {
    kind: &'static str,
    metadata: &'a ObjectMeta,
    rejections: Vec<Rejection>,
}

impl<'a> Reader<'a> {
    fn new(kind: &'static str, metadata: &'a ObjectMeta) -> Self {
        Self {
            kind,
            metadata,
            rejections: Vec::new(),
        }
    }

    fn parsed<T>(self, object: Option<T>) -> Parsed<T> {
        Parsed {
            object,
            rejections: self.rejections,
        }
    }

    fn reject(&mut self, field: String, value: impl ToString, remedy: &'static str) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let name = match self.metadata.namespace.as_deref() {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        self.rejections.push(Rejection::InvalidField {
            object: Object::new(self.kind, &name),
            field,
            value: value.to_string(),
            remedy,
        });
    }

    /// An address that something can be reached at.
    fn address(&mut self, field: String, text: &str) -> Option<IpAddr> {
        let address = address(text).filter(|address| !special(*address));
        if address.is_none() {
            self.reject(field, text, ADDRESS);
        }
        address
    }

    fn network(&mut self, field: String, text: &str) -> Option<IpNet> {
        let network = network(text);
        if network.is_none() {
            self.reject(field, text, NETWORK);
        }
        network
    }

    fn port(&mut self, field: String, number: i32) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() {
            self.reject(field, number, PORT);
        }
        port
    }

    fn protocol(&mut self, field: String, text: Option<&str>) -> Option<Protocol> {
        let protocol = protocol(text);
        if protocol.is_none() {
            self.reject(field, text.unwrap_or_default(), PROTOCOL);
        }
        protocol
    }

    /// The first cluster IP of each family.
    fn cluster_ips(&mut self, spec: &ServiceSpec) -> Box<[IpAddr]> {
        let first = spec.cluster_ip.as_ref().filter(|ip| !ip.is_empty());
        if first.is_none_or(|ip| ip == "None") {
            return Box::default();
        }
        let all = spec.cluster_ips.as_deref().unwrap_or_default();
        let texts: Vec<&String> = if all.is_empty() {
            first.into_iter().collect()
        } else {
            all.iter().collect()
        };
        let mut ips: Vec<IpAddr> = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            let Some(ip) = self.address(format!("spec.clusterIPs[{index}]"), text) else {
                continue;
            };
            if !ips.iter().any(|other| Family::of(*other) == Family::of(ip)) {
                ips.push(ip);
            }
        }
        ips.into()
    }

    fn external_ips(&mut self, spec: &ServiceSpec) -> Box<[IpAddr]> {
        let texts = spec.external_ips.iter().flatten().enumerate();
        texts
            .filter_map(|(index, text)| self.address(format!("spec.externalIPs[{index}]"), text))
            .collect()
    }

    fn load_balancer_ips(&mut self, object: &Service) -> Box<[IpAddr]> {
        let status = object.status.as_ref();
        let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let mut ips = Vec::new();
        for (index, ingress) in ingress.into_iter().flatten().enumerate() {
            // In mode Proxy the load balancer wants the packets itself.
            let text = ingress.ip.as_deref().filter(|ip| !ip.is_empty());
            let Some(text) = text.filter(|_| ingress.ip_mode.as_deref() != Some("Proxy")) else {
                continue;
            };
            let field = format!("status.loadBalancer.ingress[{index}].ip");
            ips.extend(self.address(field, text));
        }
        ips.into()
    }

    fn source_ranges(&mut self, spec: &ServiceSpec) -> Box<[IpNet]> {
        let texts = spec.load_balancer_source_ranges.iter().flatten();
        let mut ranges: Vec<IpNet> = texts
            .enumerate()
            .filter_map(|(index, text)| {
                self.network(format!("spec.loadBalancerSourceRanges[{index}]"), text)
            })
            .collect();
        // What was not understood must not open the address to everybody.
        if ranges.is_empty()
            && spec
                .load_balancer_source_ranges
                .iter()
                .flatten()
                .next()
                .is_some()
        {
            ranges.extend(NOBODY.map(IpNet::from));
        }
        ranges.into()
    }

    fn service_ports(&mut self, spec: &ServiceSpec) -> Box<[ServicePort]> {
        let mut ports = Vec::new();
        for (index, raw) in spec.ports.iter().flatten().enumerate() {
            let field = |name| format!("spec.ports[{index}].{name}");
            let number = self.port(field("port"), raw.port);
            let protocol = self.protocol(field("protocol"), raw.protocol.as_deref());
            let node_port = match raw.node_port.unwrap_or(0) {
                0 => None,
                number => self.port(field("nodePort"), number),
            };
            if let (Some(port), Some(protocol)) = (number, protocol) {
                ports.push(ServicePort {
                    name: raw.name.as_deref().unwrap_or_default().into(),
                    protocol,
                    port,
                    node_port,
                });
            }
        }
        ports.into()
    }

    fn slice_ports(&mut self, object: &EndpointSlice) -> Box<[SlicePort]> {
        let mut ports = Vec::new();
        for (index, raw) in object.ports.iter().flatten().enumerate() {
            // A port without a number stands for all ports, which a proxy cannot serve.
            let Some(number) = raw.port else {
                continue;
            };
            let port = self.port(format!("ports[{index}].port"), number);
            let field = format!("ports[{index}].protocol");
            let protocol = self.protocol(field, raw.protocol.as_deref());
            if let (Some(port), Some(protocol)) = (port, protocol) {
                ports.push(SlicePort {
                    name: raw.name.as_deref().unwrap_or_default().into(),
                    protocol,
                    port,
                });
            }
        }
        ports.into()
    }

    fn endpoints(&mut self, object: &EndpointSlice, family: Family) -> Box<[SliceEndpoint]> {
        let mut endpoints = Vec::with_capacity(object.endpoints.len());
        for (index, raw) in object.endpoints.iter().enumerate() {
            // The addresses of one endpoint are alike, and clients may use the first alone (API field).
            let Some(text) = raw.addresses.first() else {
                continue;
            };
            let field = || format!("endpoints[{index}].addresses[0]");
            match self.address(field(), text) {
                Some(address) if Family::of(address) == family => {
                    endpoints.push(endpoint(raw, address));
                }
                Some(_) => {
                    let remedy = "write an address of the slice's addressType";
                    self.reject(field(), text, remedy);
                }
                None => {}
            }
        }
        endpoints.into()
    }
}

fn endpoint(raw: &Endpoint, address: IpAddr) -> SliceEndpoint {
    let conditions = raw.conditions.as_ref();
    let hints = raw.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref());
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref());
    SliceEndpoint {
        address,
        // Nil means true for readiness and false for terminating (API fields).
        ready: conditions.and_then(|all| all.ready).unwrap_or(true),
        serving: conditions.and_then(|all| all.serving).unwrap_or(true),
        terminating: conditions.and_then(|all| all.terminating).unwrap_or(false),
        node: raw.node_name.as_deref().map(Box::from),
        for_zones: zones
            .into_iter()
            .flatten()
            .map(|zone| zone.name.as_str().into())
            .collect(),
        for_nodes: nodes
            .into_iter()
            .flatten()
            .map(|node| node.name.as_str().into())
            .collect(),
    }
}

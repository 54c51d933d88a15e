//! From objects of the API to what policies are judged by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_core::policy::{Known, Labels, NodeObject, PodObject, PodPort};
use weft_core::view::Protocol;

/// A pod, unless policies cannot be about it: it has its node's network, or has ended.
#[must_use]
pub fn pod(pod: &Pod) -> Option<PodObject> {
    if why_not(pod).is_some() {
        return None;
    }
    let Known { labels, ports } = known(pod);
    let created = pod.metadata.creation_timestamp.as_ref();
    Some(PodObject {
        namespace: namespace(&pod.metadata).into(),
        labels,
        ports,
        addresses: addresses(pod),
        created: created.map(|time| time.0.as_second()).unwrap_or_default(),
    })
}

/// Why policies are not about a pod.
#[must_use]
pub fn why_not(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return Some("it has its node's network (hostNetwork): it counts as the node");
    }
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Some("it has ended");
    }
    None
}

/// What policies ask about a pod.
#[must_use]
pub fn known(pod: &Pod) -> Known {
    let containers = pod.spec.iter().flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten();
        let is_sidecar =
            |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        spec.containers.iter().chain(sidecars.filter(is_sidecar))
    });
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| {
        Some(PodPort {
            name: port.name.as_deref()?.into(),
            protocol: match port.protocol.as_deref() {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                Some(_) => return None,
            },
            port: u16::try_from(port.container_port).ok()?,
        })
    });
    Known {
        ports: named.collect(),
        labels: labels(&pod.metadata),
    }
}

/// A pod's addresses.
#[must_use]
pub fn addresses(pod: &Pod) -> Box<[IpAddr]> {
    let status = pod.status.iter();
    let addresses = status.flat_map(|status| status.pod_ips.iter().flatten());
    addresses.filter_map(|ip| ip.ip.parse().ok()).collect()
}

/// A node.
#[must_use]
pub fn node(node: &Node) -> NodeObject {
    let status = node.status.iter();
    let addresses = status.flat_map(|status| status.addresses.iter().flatten());
    NodeObject {
        labels: labels(&node.metadata),
        addresses: addresses
            .filter_map(|address| address.address.parse().ok())
            .collect(),
    }
}

/// An object's labels.
#[must_use]
pub fn labels(metadata: &ObjectMeta) -> Labels {
    match &metadata.labels {
        Some(labels) => Labels::new(labels),
        None => Labels::new(&BTreeMap::new()),
    }
}

/// An object's namespace.
#[must_use]
pub fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or("default")
}

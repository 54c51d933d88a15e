//! Nodes and Pods as far as the agent reads them, and what is kept of each kind.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use weft_core::policy::{Labels, NodeObject as NodePeer};
use weft_crds::{
    IPBlock, NodeNetwork, NodeNetworkSpec, NodeNetworkStatus, PodAddress, PodAddressSpec, PodPort,
};

use crate::engine::BlockObject;

/// A static pod's mirror carries the UID that the kubelet, and so the runtime, knows it by.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Label of a Node: where it is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Taint of a Node that the cluster autoscaler is about to delete.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node as the API sends it, less what nobody reads.
#[derive(Deserialize, Clone, Debug)]
pub struct NodeObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeObjectSpec,
    #[serde(default)]
    status: NodeObjectStatus,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct NodeObjectSpec {
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Deserialize, Clone, Debug)]
struct Taint {
    key: String,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct NodeObjectStatus {
    #[serde(default)]
    addresses: Vec<NodeAddress>,
}

#[derive(Deserialize, Clone, Debug)]
struct NodeAddress {
    #[serde(rename = "type")]
    type_: String,
    address: String,
}

/// A Pod as the API sends it, less what nobody reads.
#[derive(Deserialize, Clone, Debug)]
pub struct PodObject {
    metadata: ObjectMeta,
    spec: PodObjectSpec,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct PodObjectSpec {
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    ports: Vec<ContainerPort>,
    /// `Always` makes an init container a sidecar, whose ports count.
    #[serde(default)]
    restart_policy: Option<String>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    #[serde(default)]
    name: Option<String>,
    container_port: u16,
    #[serde(default)]
    protocol: Option<String>,
}

/// Makes a type known as a resource of the API: its metadata, scope, group, version, kind and plural.
macro_rules! resource {
    ($type:ty, $($metadata:tt).+, $scope:ty, $group:literal, $version:literal, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.$($metadata).+
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.$($metadata).+
            }
        }
    };
}

pub(super) use resource;

resource!(
    NodeObject,
    metadata,
    ClusterResourceScope,
    "",
    "v1",
    "Node",
    "nodes"
);
resource!(
    PodObject,
    metadata,
    NamespaceResourceScope,
    "",
    "v1",
    "Pod",
    "pods"
);

/// What is kept of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its UID.
    pub uid: String,
    /// Its addresses of type InternalIP.
    pub internal_ips: Vec<IpAddr>,
    /// Its zone.
    pub zone: Option<String>,
    /// It is not deleted, nor about to be.
    pub stays: bool,
    /// What network policies can ask about it: all its labels and addresses.
    pub peer: NodePeer,
}

/// What is kept of a NodeNetwork.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// Its UID.
    pub uid: String,
    /// Of this node's own: the spec and its generation.
    pub own: Option<(NodeNetworkSpec, i64)>,
    /// Of others: the status, once their agent has written one.
    pub status: Option<NodeNetworkStatus>,
}

/// What is kept of a Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Its UID in the API.
    pub uid: String,
    /// The UID that the runtime knows it by, where that is another one (static pods).
    pub static_uid: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that have a name.
    pub ports: Vec<PodPort>,
}

/// What is kept of a PodAddress.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Its namespace.
    pub namespace: String,
    /// Its name: the pod's UID.
    pub name: String,
    /// Its spec.
    pub spec: PodAddressSpec,
}

/// Trims a Node; the key is its name.
pub fn node(object: NodeObject) -> (String, Node) {
    let NodeObject {
        metadata,
        spec,
        status,
    } = object;
    let stays = metadata.deletion_timestamp.is_none()
        && spec.taints.iter().all(|taint| taint.key != TO_BE_DELETED);
    let internal = status
        .addresses
        .iter()
        .filter(|address| address.type_ == "InternalIP");
    let internal_ips = internal
        .filter_map(|address| address.address.parse().ok())
        .collect();
    let labels = metadata.labels.as_ref().map(Labels::new);
    let addresses = status.addresses.iter();
    let peer = NodePeer {
        labels: labels.unwrap_or_default(),
        addresses: addresses
            .filter_map(|address| address.address.parse().ok())
            .collect(),
    };
    let zone = metadata
        .labels
        .and_then(|mut labels| labels.remove(ZONE))
        .filter(|zone| !zone.is_empty());
    (
        metadata.name.unwrap_or_default(),
        Node {
            uid: metadata.uid.unwrap_or_default(),
            internal_ips,
            zone,
            stays,
            peer,
        },
    )
}

/// Trims a NodeNetwork; the key is its name. `own` is this node's name.
pub fn network(object: NodeNetwork, own: &str) -> (String, Network) {
    let NodeNetwork {
        metadata,
        spec,
        status,
    } = object;
    let name = metadata.name.unwrap_or_default();
    let uid = metadata.uid.unwrap_or_default();
    let network = if name == own {
        Network {
            uid,
            own: Some((spec, metadata.generation.unwrap_or_default())),
            status: None,
        }
    } else {
        Network {
            uid,
            own: None,
            status,
        }
    };
    (name, network)
}

/// Trims an IPBlock; the key is its name.
pub fn block(object: IPBlock) -> (String, BlockObject) {
    let IPBlock { metadata, spec } = object;
    let name = metadata.name.unwrap_or_default();
    let created = metadata
        .creation_timestamp
        .map_or(0, |time| time.0.as_second());
    (
        name.clone(),
        BlockObject {
            name,
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            created,
            spec,
        },
    )
}

/// Trims a Pod; the key is its UID.
pub fn pod(object: PodObject) -> (String, Pod) {
    let static_uid = object.annotations().get(CONFIG_HASH).cloned();
    let PodObject { metadata, spec } = object;
    let sidecars = spec
        .init_containers
        .into_iter()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .into_iter()
        .chain(sidecars)
        .flat_map(|container| container.ports);
    let ports = ports.filter_map(|port| {
        let protocol = port.protocol.unwrap_or_else(|| "TCP".to_owned());
        Some(PodPort {
            name: port.name?,
            port: port.container_port,
            protocol,
        })
    });
    let uid = metadata.uid.unwrap_or_default();
    let pod = Pod {
        uid: uid.clone(),
        static_uid,
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        ports: ports.collect(),
    };
    (uid, pod)
}

/// Trims a PodAddress; the key is namespace and name.
pub fn address(object: PodAddress) -> (String, Address) {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    (
        format!("{namespace}/{name}"),
        Address {
            namespace,
            name,
            spec: object.spec,
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_node_uid_addresses_and_labels_are_kept() {
        let object = json!({
            "metadata": {"name": "a", "uid": "u", "labels": {"topology.kubernetes.io/zone": "z"}, "managedFields": [{"manager": "kubelet"}]},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"images": [], "addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "2001:db8::1"},
                {"type": "ExternalIP", "address": "198.51.100.1"},
                {"type": "Hostname", "address": "a"}]}
        });
        let (name, node) = node(serde_json::from_value(object).unwrap());
        assert_eq!(name, "a");
        let internal_ips = ["192.0.2.1", "2001:db8::1"]
            .map(|ip| ip.parse().unwrap())
            .to_vec();
        assert_eq!(
            node,
            Node {
                uid: "u".to_owned(),
                internal_ips,
                zone: Some("z".to_owned()),
                stays: true,
                peer: NodePeer {
                    labels: Labels::new(
                        &[("topology.kubernetes.io/zone".to_owned(), "z".to_owned())].into()
                    ),
                    addresses: ["192.0.2.1", "2001:db8::1", "198.51.100.1"]
                        .map(|ip| ip.parse().unwrap())
                        .into(),
                },
            }
        );
    }

    #[test]
    fn a_node_that_is_about_to_be_deleted_does_not_stay() {
        let stays = |object| node(serde_json::from_value(object).unwrap()).1.stays;
        let taint = |key: &str| json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
        assert!(stays(taint("node.kubernetes.io/unschedulable")));
        assert!(!stays(taint("ToBeDeletedByClusterAutoscaler")));
        let deleted =
            json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(!stays(deleted));
    }

    #[test]
    fn of_a_pod_labels_and_named_ports_are_kept() {
        let object = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"},
                         "annotations": {"kubernetes.io/config.hash": "h"}},
            "spec": {"nodeName": "a",
                "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]}],
                "initContainers": [
                    {"name": "i", "ports": [{"name": "once", "containerPort": 1}]},
                    {"name": "s", "restartPolicy": "Always",
                     "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]}
        });
        let (key, pod) = pod(serde_json::from_value(object).unwrap());
        assert_eq!((key.as_str(), pod.static_uid.as_deref()), ("u", Some("h")));
        let port = |name: &str, port, protocol: &str| PodPort {
            name: name.to_owned(),
            port,
            protocol: protocol.to_owned(),
        };
        assert_eq!(pod.ports, [port("http", 80, "TCP"), port("dns", 53, "UDP")]);
        assert_eq!(pod.labels.get("app").map(String::as_str), Some("x"));
    }

    #[test]
    fn of_networks_the_own_spec_and_the_others_status_are_kept() {
        let object = |name: &str| {
            let mut object = NodeNetwork::new(name, NodeNetworkSpec::default());
            object.metadata.generation = Some(7);
            object.status = Some(NodeNetworkStatus::default());
            object
        };
        let (_, own) = network(object("a"), "a");
        assert_eq!(
            (own.own, own.status),
            (Some((NodeNetworkSpec::default(), 7)), None)
        );
        let (_, other) = network(object("b"), "a");
        assert_eq!(
            (other.own, other.status),
            (None, Some(NodeNetworkStatus::default()))
        );
    }
}

//! What is kept of the objects that network policies are about, and the definition of a kind that a
//! cluster may lack.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::Deserialize;
use weft_core::policy::object::ClusterNetworkPolicy;
use weft_core::policy::{Known, Labels, PodObject, PodPort};
use weft_core::view::Protocol;
use weft_crds::PodAddress;

use crate::engine::{OwnPod, PeerPod};
use crate::watch::objects::{Pod, resource};

/// The version of ClusterNetworkPolicy that is read.
pub const VERSION: &str = "v1alpha2";
/// The name of its definition.
pub const DEFINITION: &str = "clusternetworkpolicies.policy.networking.k8s.io";

/// A ClusterNetworkPolicy as the API sends it.
#[derive(Deserialize, Clone, Debug)]
#[serde(transparent)]
pub struct ClusterPolicyObject(pub ClusterNetworkPolicy);

/// The definition of a kind, as far as it says whether the kind is served.
#[derive(Deserialize, Clone, Debug)]
pub struct DefinitionObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct Spec {
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize, Clone, Debug)]
struct Version {
    name: String,
    served: bool,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Clone, Debug)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

resource!(
    ClusterPolicyObject,
    0.metadata,
    ClusterResourceScope,
    "policy.networking.k8s.io",
    "v1alpha2",
    "ClusterNetworkPolicy",
    "clusternetworkpolicies"
);
resource!(
    DefinitionObject,
    metadata,
    ClusterResourceScope,
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions"
);

/// Whether the version that is read is served.
pub fn is_served(definition: &DefinitionObject) -> bool {
    let DefinitionObject {
        metadata,
        spec,
        status,
    } = definition;
    let mut versions = spec.versions.iter();
    let mut conditions = status.conditions.iter();
    metadata.deletion_timestamp.is_none()
        && versions.any(|version| version.name == VERSION && version.served)
        && conditions.any(|condition| condition.kind == "Established" && condition.status == "True")
}

/// A pod of this node as policies ask about it.
pub fn own(pod: &Pod) -> OwnPod {
    OwnPod {
        static_uid: pod.static_uid.as_deref().map(Into::into),
        namespace: pod.namespace.as_str().into(),
        name: pod.name.as_str().into(),
        known: Known {
            labels: Labels::new(&pod.labels),
            ports: ports(&pod.ports),
        },
    }
}

/// Trims a PodAddress; the key is namespace and name.
pub fn peer(object: PodAddress) -> (String, PeerPod) {
    let PodAddress { metadata, spec } = object;
    let namespace = metadata.namespace.unwrap_or_default();
    let created = metadata.creation_timestamp;
    let key = format!("{namespace}/{}", metadata.name.unwrap_or_default());
    let addresses = spec.addresses.iter();
    let pod = PodObject {
        namespace: namespace.into(),
        labels: Labels::new(&spec.labels),
        ports: ports(&spec.ports),
        addresses: addresses.filter_map(|ip| ip.parse().ok()).collect(),
        created: created.map_or(0, |time| time.0.as_second()),
    };
    let node = spec.node.into();
    (key, PeerPod { node, pod })
}

fn ports(ports: &[weft_crds::PodPort]) -> Box<[PodPort]> {
    let ports = ports.iter().filter_map(|port| {
        let protocol = match port.protocol.as_str() {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => return None,
        };
        Some(PodPort {
            name: port.name.as_str().into(),
            protocol,
            port: port.port,
        })
    });
    ports.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_is_served_when_it_is_established() {
        let served = |version: &str, served: bool, established: &str| {
            let object = json!({"metadata": {"name": DEFINITION},
                "spec": {"group": "policy.networking.k8s.io",
                    "versions": [{"name": version, "served": served, "storage": true}]},
                "status": {"conditions": [{"type": "Established", "status": established}]}});
            is_served(&serde_json::from_value(object).unwrap())
        };
        assert!(served("v1alpha2", true, "True"));
        assert!(!served("v1alpha2", true, "False"));
        assert!(!served("v1alpha2", false, "True"));
        assert!(!served("v1alpha1", true, "True"));
        let fresh = json!({"metadata": {"name": DEFINITION}, "spec": {"versions": []}});
        assert!(!is_served(&serde_json::from_value(fresh).unwrap()));
    }
}

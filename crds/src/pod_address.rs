//! `PodAddress`: which pod has which addresses, written by the agent of the pod's node.
//!
//! Named by the pod's UID; readers believe an address only within a block of the same node.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A pod's addresses.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weftnet.dev",
    doc = "The addresses of one pod; written by the agent of its node.",
    version = "v1alpha1",
    kind = "PodAddress",
    plural = "podaddresses",
    singular = "podaddress",
    namespaced,
    category = "weft",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Pod","type":"string","jsonPath":".spec.pod"}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.node"}"#,
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.addresses"}"#,
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.pools"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    selectable = ".spec.node",
    selectable = ".spec.pod"
)]
#[x_kube(
    validation = Rule::new("self.node == oldSelf.node && self.pod == oldSelf.pod").message("spec.node and spec.pod of a PodAddress cannot change")
)]
#[serde(rename_all = "camelCase")]
pub struct PodAddressSpec {
    /// The node that the pod runs on.
    pub node: String,
    /// The pod's name.
    pub pod: String,
    /// One address of each family.
    #[schemars(length(max = 8), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))").message("each of spec.addresses must be an IP address"))]
    pub addresses: Vec<String>,
    /// The pool of each address, in the same order.
    pub pools: Vec<String>,
    /// All labels of the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Named container ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PodPort>,
}

/// A named container port.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PodPort {
    /// The port's name.
    pub name: String,
    /// 1 to 65535.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: String,
}

//! `NodeNetwork`: what a node is told (`spec`, by the operator) and what its peers route by
//! (`status`, by that node's agent alone). It changes when the node does, not when its pods do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{NatOutgoing, OverlayMode};

/// What the operator tells a node: accepted overlays and pools only, with every default resolved.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "weftnet.dev",
    doc = "What a node is told, and what its peers route by; written by operator and agent.",
    version = "v1alpha1",
    kind = "NodeNetwork",
    plural = "nodenetworks",
    singular = "nodenetwork",
    category = "weft",
    status = "NodeNetworkStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Addresses","type":"string","jsonPath":".status.underlays[*].addresses"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkSpec {
    /// Overlays that the node takes part in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<NodeOverlay>,
    /// All accepted pools of the cluster: their networks are excepted from masquerading everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    // The bound is what the API server's budget for validation rules allows.
    #[schemars(length(max = 128))]
    pub pools: Vec<NodePool>,
}

/// An overlay, resolved for one node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeOverlay {
    /// The Overlay's name.
    pub name: String,
    /// How packets travel.
    pub mode: OverlayMode,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub port: u16,
    /// MTU of pods' packets in bytes. Absent: from the egress device to each peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// `IPv4` or `IPv6`: the family of encapsulated packets.
    pub underlay_family: String,
    /// Only addresses in these networks are the node's own. Empty: the Node's InternalIP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub underlay_cidrs: Vec<String>,
}

/// A pool, resolved for one node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodePool {
    /// The IPPool's name.
    pub name: String,
    /// The Overlay that its addresses travel by.
    pub overlay: String,
    /// Whether this node's pods may get addresses from it.
    pub assignable: bool,
    /// Higher is preferred.
    pub priority: i32,
    /// Its networks.
    pub cidrs: Vec<NodePoolCidr>,
    /// Free addresses to hold ready, per family.
    pub prealloc: u32,
    /// Rest of a released address, in seconds.
    pub cooldown_seconds: u64,
    /// What happens to packets that leave the cluster.
    pub nat_outgoing: NatOutgoing,
}

/// One network of a pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolCidr {
    /// The network.
    pub cidr: String,
    /// Prefix length of blocks.
    pub block_size: u8,
    /// Networks from which no pod gets an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<String>,
}

/// What a node's agent says of the node: its peers route by this.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkStatus {
    /// The generation of `spec` that is in force on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One entry per overlay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub underlays: Vec<NodeUnderlay>,
    /// Every address of the node that other nodes must not masquerade towards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Ready, with the reason when not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A node's own ends of one overlay.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeUnderlay {
    /// The Overlay's name.
    pub overlay: String,
    /// At most one address of each family, with the prefix length of its segment: `192.0.2.7/24`.
    pub addresses: Vec<String>,
    /// Hardware address of the VXLAN device. Absent where the node has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vtep_mac: Option<String>,
    /// MTU of the device that the addresses are on, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_mtu: Option<u32>,
    /// Why the overlay is not in force on this node, with code. Absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

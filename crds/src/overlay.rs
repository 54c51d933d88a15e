//! `Overlay`: how packets travel between the pods of different nodes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a user asks of an overlay.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weftnet.dev",
    version = "v1alpha1",
    kind = "Overlay",
    plural = "overlays",
    singular = "overlay",
    shortname = "ovl",
    category = "weft",
    status = "OverlayStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct OverlaySpec {
    /// Whether packets are encapsulated.
    #[serde(default)]
    pub mode: OverlayMode,
    /// Parameters of the encapsulation; not used by mode Direct.
    #[serde(default)]
    pub vxlan: Vxlan,
    /// `Auto`, or the MTU of pods' packets in bytes, 1280 to 65535.
    #[serde(default = "default_mtu")]
    pub mtu: IntOrString,
    /// How a node's own address is chosen.
    #[serde(default)]
    pub underlay: Underlay,
    /// The nodes that take part. Absent: all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
}

/// How packets travel.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlayMode {
    /// Plain packets; the network between the nodes, or one segment, delivers them.
    Direct,
    /// VXLAN (RFC 7348) between all nodes.
    #[serde(rename = "VXLAN")]
    Vxlan,
    /// Plain packets within an L2 segment, VXLAN across segments.
    #[default]
    Auto,
}

/// Parameters of VXLAN.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// VXLAN network identifier, 1 to 16777215 (RFC 7348, section 5).
    #[serde(default = "default_vni")]
    pub vni: u32,
    /// UDP port; 4789 is IANA's.
    #[serde(default = "default_port")]
    pub port: u16,
}

impl Default for Vxlan {
    fn default() -> Self {
        Self { vni: default_vni(), port: default_port() }
    }
}

/// How a node's own address is chosen; by default it is the Node's InternalIP.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Underlay {
    /// Only addresses in these networks. Empty: the Node's InternalIP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// The family of encapsulated packets. Auto: IPv4 where every node has it, else IPv6.
    #[serde(default)]
    pub family: UnderlayFamily,
}

/// The family of encapsulated packets.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderlayFamily {
    /// IPv4 where every node has it, else IPv6.
    #[default]
    Auto,
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

/// What became of an overlay.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OverlayStatus {
    /// Counts of nodes, and the worst few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<OverlayNodes>,
    /// Accepted, Programmed, Ready; MTUReduced, Reconciling and Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The smallest MTU that pods get on any node, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
}

/// Nodes of an overlay.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct OverlayNodes {
    /// Nodes that take part.
    pub desired: i64,
    /// Nodes that have it in force.
    pub ready: i64,
    /// `ready/desired`, for the printer column.
    pub summary: String,
    /// At most five nodes that are not ready, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<String>,
}

fn default_mtu() -> IntOrString {
    IntOrString::String("Auto".to_owned())
}

fn default_vni() -> u32 {
    4096
}

fn default_port() -> u16 {
    4789
}

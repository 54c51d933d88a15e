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
    doc = "How packets travel between the pods of different nodes.",
    version = "v1alpha1",
    kind = "Overlay",
    plural = "overlays",
    singular = "overlay",
    shortname = "ovl",
    category = "weft",
    status = "OverlayStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"VNI","type":"integer","jsonPath":".spec.vxlan.vni"}"#,
    printcolumn = r#"{"name":"MTU","type":"integer","jsonPath":".status.mtu","description":"the smallest that pods get on any node"}"#,
    printcolumn = r#"{"name":"Nodes","type":"string","jsonPath":".status.nodes.summary","description":"ready/desired"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct OverlaySpec {
    /// Whether packets are encapsulated.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.mode cannot change: make another overlay, and pools that refer to it"))]
    pub mode: OverlayMode,
    /// Parameters of the encapsulation; not used by mode Direct.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self.vni == oldSelf.vni").message("spec.vxlan.vni cannot change: make another overlay, and pools that refer to it"))]
    #[x_kube(validation = Rule::new("self.port == oldSelf.port").message("spec.vxlan.port cannot change: make another overlay, and pools that refer to it"))]
    pub vxlan: Vxlan,
    /// `Auto`, or the MTU of pods' packets in bytes, 1280 to 65535.
    #[serde(default = "default_mtu")]
    #[x_kube(validation = Rule::new("string(self) == 'Auto' || (string(self).matches('^[0-9]{4,5}$') && int(string(self)) >= 1280 && int(string(self)) <= 65535)").message("spec.mtu must be Auto or a number of bytes from 1280 to 65535"))]
    pub mtu: IntOrString,
    /// How a node's own address is chosen.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.underlay cannot change: make another overlay, and pools that refer to it"))]
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
    #[x_kube(validation = Rule::new("self >= 1 && self <= 16777215").message("spec.vxlan.vni must be from 1 to 16777215"))]
    pub vni: u32,
    /// UDP port; 4789 is IANA's.
    #[serde(default = "default_port")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("spec.vxlan.port must be from 1 to 65535"))]
    pub port: u16,
}

impl Default for Vxlan {
    fn default() -> Self {
        Self {
            vni: default_vni(),
            port: default_port(),
        }
    }
}

/// How a node's own address is chosen; by default it is the Node's InternalIP.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Underlay {
    /// Only addresses in these networks. Empty: the Node's InternalIP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 49)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each of spec.underlay.cidrs must be a network in CIDR form, such as 192.0.2.0/24"))]
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

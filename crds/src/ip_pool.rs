//! `IPPool`: ranges of addresses for pods, and how traffic from them leaves the cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a user asks of a pool.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weftnet.dev",
    doc = "Addresses for pods, and how traffic from them leaves the cluster.",
    version = "v1alpha1",
    kind = "IPPool",
    plural = "ippools",
    singular = "ippool",
    shortname = "ipp",
    category = "weft",
    status = "IPPoolStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"CIDR","type":"string","jsonPath":".status.summary.cidrs","description":"networks"}"#,
    printcolumn = r#"{"name":"Used","type":"string","jsonPath":".status.summary.used","description":"addresses that pods have, IPv4/IPv6"}"#,
    printcolumn = r#"{"name":"Free","type":"string","jsonPath":".status.summary.free","description":"addresses that pods could get, IPv4/IPv6"}"#,
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.summary.nodes","description":"nodes with a block"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new("self.uses.exists(u, u == 'LoadBalancer') || self.cidrs.all(c, !isCIDR(c.cidr) || has(c.blockSize) || cidr(c.cidr).prefixLength() <= (cidr(c.cidr).ip().family() == 4 ? 26 : 122))").message("blockSize is shorter than the prefix of cidr: a block must fit into its network; the default is 26 for IPv4 and 122 for IPv6"),
    validation = Rule::new("!self.uses.exists(u, u == 'LoadBalancer') || self.cidrs.all(c, !has(c.blockSize))").message("blockSize is for uses [Workload]: load balancer addresses are not granted in blocks"),
    validation = Rule::new("self.uses.exists(u, u == 'LoadBalancer') || self.cidrs.all(c, !has(c.start) && !has(c.end))").message("start and end are for uses [LoadBalancer]: exclude addresses of pods with reserved")
)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolSpec {
    /// One or several ranges, of either family; a dual-stack pool has both.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cidr".to_owned()]))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("spec.cidrs is empty: name at least one network, such as 10.64.0.0/16"))]
    #[x_kube(validation = Rule::new("self.all(a, !isCIDR(a.cidr) || self.all(b, a.cidr == b.cidr || !isCIDR(b.cidr) || !cidr(a.cidr).containsCIDR(b.cidr)))").message("two entries of spec.cidrs overlap: no entry may lie within another"))]
    #[schemars(length(max = 16))]
    pub cidrs: Vec<PoolCidr>,
    /// How the pool's addresses travel between nodes.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self.name == oldSelf.name").message("spec.overlayRef cannot change: make another pool with the other overlay"))]
    pub overlay_ref: OverlayRef,
    /// What the addresses are for: `[Workload]` for pods, `[LoadBalancer]` for Services of type LoadBalancer.
    #[serde(default = "default_uses")]
    #[x_kube(validation = Rule::new("size(self) == 1").message("spec.uses names one use: write [Workload] for pods or [LoadBalancer] for Services"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.uses cannot change: make another pool for the other use"))]
    #[schemars(length(min = 1, max = 2))]
    pub uses: Vec<PoolUse>,
    /// The nodes whose pods get addresses from here. Absent: all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// A higher number is preferred; a tie is decided by name.
    #[serde(default)]
    pub priority: i32,
    /// Free addresses to hold ready on each node, per family; blocks are granted ahead of need.
    #[serde(default = "default_prealloc")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 4096").message("spec.prealloc must be from 0 to 4096 addresses"))]
    pub prealloc: u32,
    /// How long a released address rests before it is used again, such as `30s`.
    #[serde(default = "default_cooldown")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) <= duration('24h')").message("spec.cooldown must be a duration from 0s to 24h, such as 30s"))]
    #[schemars(length(max = 32))]
    pub cooldown: String,
    /// What happens to packets that leave the cluster.
    #[serde(default)]
    pub nat_outgoing: NatOutgoing,
}

/// One range of a pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("!isCIDR(self.cidr) || !has(self.blockSize) || (cidr(self.cidr).ip().family() == 4 ? self.blockSize >= 20 && self.blockSize <= 32 : self.blockSize >= 116 && self.blockSize <= 128)").message("blockSize must be from 20 to 32 for IPv4 and from 116 to 128 for IPv6"),
    validation = Rule::new("!isCIDR(self.cidr) || !has(self.blockSize) || cidr(self.cidr).prefixLength() <= self.blockSize").message("blockSize is shorter than the prefix of cidr: a block must fit into its network"),
    validation = Rule::new("has(self.blockSize) == has(oldSelf.blockSize) && (!has(self.blockSize) || self.blockSize == oldSelf.blockSize)").message("blockSize cannot change: add an entry for another network instead"),
    validation = Rule::new("!isCIDR(self.cidr) || !has(self.reserved) || self.reserved.all(r, isCIDR(r) && cidr(self.cidr).containsCIDR(r))").message("each of reserved must be a network within cidr"),
    validation = Rule::new("!isCIDR(self.cidr) || !has(self.start) || (isIP(self.start) && cidr(self.cidr).containsIP(self.start))").message("start must be an address within cidr"),
    validation = Rule::new("!isCIDR(self.cidr) || !has(self.end) || (isIP(self.end) && cidr(self.cidr).containsIP(self.end))").message("end must be an address within cidr")
)]
#[serde(rename_all = "camelCase")]
pub struct PoolCidr {
    /// The network, such as `10.64.0.0/16`.
    #[schemars(length(max = 49))]
    #[x_kube(validation = Rule::new("isCIDR(self)").message("cidr must be a network in CIDR form, such as 10.64.0.0/16 or fd00:64::/56"))]
    #[x_kube(validation = Rule::new("!isCIDR(self) || cidr(self) == cidr(self).masked()").message("cidr has host bits set: write the network's own address"))]
    pub cidr: String,
    /// The prefix length of the blocks granted to nodes. Default: 26 for IPv4, 122 for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// The first address to give, within `cidr`; for `uses: [LoadBalancer]`. Default: the first of `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub start: Option<String>,
    /// The last address to give, within `cidr`; for `uses: [LoadBalancer]`. Default: the last of `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub end: Option<String>,
    /// Networks inside `cidr` from which no address is given, but to a Service that asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 49)))]
    pub reserved: Vec<String>,
}

/// What a pool's addresses are for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolUse {
    /// Pods.
    Workload,
    /// Services of type LoadBalancer.
    LoadBalancer,
}

impl IPPoolSpec {
    /// Its addresses are for Services of type LoadBalancer.
    #[must_use]
    pub fn is_for_load_balancers(&self) -> bool {
        self.uses.contains(&PoolUse::LoadBalancer)
    }
}

/// Names an Overlay.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct OverlayRef {
    /// The Overlay's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl Default for OverlayRef {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
        }
    }
}

/// Translation of the source address of packets that leave the cluster.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct NatOutgoing {
    /// Whether packets get the node's address.
    #[serde(default)]
    pub mode: NatMode,
    /// Destinations that see the pod's own address. All pools and all nodes are excepted always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    #[x_kube(validation = Rule::new("self.all(e, isCIDR(e))").message("each of natOutgoing.except must be a network in CIDR form, such as 10.0.0.0/8"))]
    pub except: Vec<String>,
}

/// How packets that leave the cluster are translated.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatMode {
    /// Packets keep the pod's address: the routers around the cluster know the pods.
    Disabled,
    /// Packets get the address of the node's interface that they leave by.
    #[default]
    Masquerade,
}

/// What became of a pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolStatus {
    /// One entry per family, numbers as decimal strings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<FamilyUsage>,
    /// Accepted, Allocatable, Ready; Exhausted, Terminating, Reconciling and Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Networks, as the printer column shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<PoolSummary>,
}

/// The cells of `kubectl get ipp`: both families in one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct PoolSummary {
    /// All networks, comma-separated.
    pub cidrs: String,
    /// Addresses in use, `IPv4/IPv6` where both are there.
    pub used: String,
    /// Addresses free, in the same form.
    pub free: String,
    /// Nodes with a block.
    pub nodes: i64,
}

/// Counts of one family of a pool. Decimal strings, because IPv6 counts exceed 64 bits.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FamilyUsage {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// All addresses that pods could have.
    pub capacity: String,
    /// Addresses that pods have.
    pub allocated: String,
    /// Addresses that pods could get now or after a further block is granted.
    pub free: String,
    /// Addresses resting after use.
    pub cooling: String,
    /// Addresses excluded by `reserved`.
    pub reserved: String,
    /// Blocks granted.
    pub blocks: String,
    /// Nodes that hold a block.
    pub nodes: String,
}

fn default_uses() -> Vec<PoolUse> {
    vec![PoolUse::Workload]
}

fn default_prealloc() -> u32 {
    16
}

fn default_cooldown() -> String {
    "30s".to_owned()
}

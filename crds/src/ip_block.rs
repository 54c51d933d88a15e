//! `IPBlock`: the unit of allocation and of routing, granted to one node for good.
//!
//! Its name is its network's only spelling (`v4-0a400000-26`), so that the API server itself
//! refuses a second one. Made by POST only; it never changes owner.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A block of addresses that belongs to one node.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weftnet.dev",
    doc = "A block of addresses that belongs to one node; made by the operator.",
    version = "v1alpha1",
    kind = "IPBlock",
    plural = "ipblocks",
    singular = "ipblock",
    category = "weft",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.pool"}"#,
    printcolumn = r#"{"name":"CIDR","type":"string","jsonPath":".spec.cidr"}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.node"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".spec.state"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    selectable = ".spec.node",
    selectable = ".spec.pool",
    validation = Rule::new("self.metadata.name.startsWith(isCIDR(self.spec.cidr) && cidr(self.spec.cidr).ip().family() == 6 ? 'v6-' : 'v4-')").message("the name of an IPBlock is made from its network: v4-0a400000-26 for 10.64.0.0/26")
)]
#[x_kube(
    validation = Rule::new("self.pool == oldSelf.pool && self.cidr == oldSelf.cidr && self.node == oldSelf.node").message("spec.pool, spec.cidr and spec.node of an IPBlock cannot change"),
    validation = Rule::new("oldSelf.state != 'Draining' || self.state == 'Draining'").message("spec.state goes from Active to Draining and never back"),
    validation = Rule::new("isCIDR(self.cidr) && cidr(self.cidr) == cidr(self.cidr).masked()").message("spec.cidr must be a network without host bits, such as 10.64.0.0/26")
)]
#[serde(rename_all = "camelCase")]
pub struct IPBlockSpec {
    /// The pool that it was cut from.
    pub pool: String,
    /// Its network.
    #[schemars(length(max = 49))]
    pub cidr: String,
    /// The node that assigns from it.
    pub node: String,
    /// `Active`, then `Draining`; never back.
    #[serde(default)]
    pub state: BlockState,
}

/// What a node may do with a block.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum BlockState {
    /// Assign addresses.
    #[default]
    Active,
    /// Assign no more; say in the NodeReport when the last address has come back.
    Draining,
}

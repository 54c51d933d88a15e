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
    version = "v1alpha1",
    kind = "IPBlock",
    plural = "ipblocks",
    singular = "ipblock",
    category = "weft",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct IPBlockSpec {
    /// The pool that it was cut from.
    pub pool: String,
    /// Its network.
    pub cidr: String,
    /// The node that assigns from it.
    pub node: String,
    /// `Active`, then `Draining`; never back.
    #[serde(default)]
    pub state: BlockState,
}

/// What a node may do with a block.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockState {
    /// Assign addresses.
    #[default]
    Active,
    /// Assign no more; say in the NodeReport when the last address has come back.
    Draining,
}

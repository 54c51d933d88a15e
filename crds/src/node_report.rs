//! `NodeReport`: what a node's agent tells the operator and tools, at most once in ten seconds.
//!
//! Like a Lease it has a `spec` that its holder writes. No agent watches it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What a node reports.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "weftnet.dev",
    doc = "Usage, versions and conditions of a node; written by its agent.",
    version = "v1alpha1",
    kind = "NodeReport",
    plural = "nodereports",
    singular = "nodereport",
    category = "weft",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".spec.version"}"#,
    printcolumn = r#"{"name":"Kernel","type":"string","jsonPath":".spec.kernel"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".spec.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reported","type":"date","jsonPath":".spec.time"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeReportSpec {
    /// When the report was made, RFC 3339. The operator takes an agent for gone after five minutes without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The kernel's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Addresses in use and in demand, per pool and family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolUsage>,
    /// Each block that the node knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockUsage>,
    /// MTU that pods get, by overlay, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mtus: Vec<DeviceMtu>,
    /// Ready, RecordHealthy, KernelInSync and what else is not as wished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One pool's use on one node, of one family.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct PoolUsage {
    /// The IPPool's name.
    pub pool: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Addresses that pods have.
    pub allocated: u64,
    /// Addresses that pods could get at once.
    pub free: u64,
    /// Addresses resting.
    pub cooling: u64,
    /// Requests waiting for an address.
    pub waiting: u64,
}

/// One block's use.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct BlockUsage {
    /// The IPBlock's name.
    pub name: String,
    /// The IPBlock's UID, so that a report is never taken for one about its successor.
    pub uid: String,
    /// Addresses that pods have.
    pub allocated: u64,
    /// Addresses resting.
    pub cooling: u64,
    /// The agent has given it up: Draining, empty, and never to be used again.
    #[serde(default)]
    pub released: bool,
    /// Why the agent does not use it: an older block overlaps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlaps: Option<String>,
}

/// MTU of pods in one overlay.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct DeviceMtu {
    /// The Overlay's name.
    pub overlay: String,
    /// MTU of pods' devices, in bytes.
    pub mtu: u32,
    /// Device, its MTU, and the encapsulation's overhead.
    pub why: String,
}

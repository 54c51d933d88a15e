//! The words of `dial`: many connections to a Service, and what must become of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Count, Family};
use crate::probe::connect::Protocol;

/// Many connections, one after another.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dial {
    /// Who dials: a pod, `node/1`, or `outside`.
    pub from: String,
    /// Whom: a pod, `service/NAME`, `balancer/NAME`, `node/1`, or an address.
    pub to: String,
    /// Port; default 8080 for HTTP, else 7070.
    #[serde(default)]
    pub port: Option<u16>,
    /// How; default TCP.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// Families; default: all that the cluster has.
    #[serde(default)]
    pub families: Vec<Family>,
    /// New connections per second; in a step, 0 is as fast as one comes after the other.
    #[serde(default)]
    pub rate: Option<u32>,
    /// For a step: how many. One of `always` goes on until the end.
    #[serde(default = "count")]
    pub count: Count,
    /// Connections that are held open the whole time; none may break.
    #[serde(default)]
    pub hold: u32,
    /// How many new ones may fail.
    #[serde(default)]
    pub allowed_failures: u64,
    /// Host names of pods: each of them must have answered, and nobody else.
    #[serde(default)]
    pub answered_by: Vec<String>,
    /// So many different servers must have answered.
    #[serde(default)]
    pub servers: Option<usize>,
    /// Which source address all servers must have seen: a pod, `node/1`, `outside`.
    #[serde(default)]
    pub seen_as: Option<String>,
    /// For a step: how long it may take until all this is so; each try dials them all.
    #[serde(default = "within")]
    pub within: String,
    /// How long one may take.
    #[serde(default = "timeout")]
    pub timeout: String,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

fn count() -> Count {
    Count::Same(60)
}

fn within() -> String {
    "20s".to_owned()
}

fn timeout() -> String {
    "3s".to_owned()
}

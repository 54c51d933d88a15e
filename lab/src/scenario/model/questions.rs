//! The words of `questions`: DNS questions of a client that asks once more where no answer comes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Count, Family};

/// DNS questions at a steady rate.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Questions {
    /// Who asks: a pod, or `node/1`.
    pub from: String,
    /// The name, absolute, with `${…}`.
    pub name: String,
    /// The type: A, AAAA, PTR or SRV.
    #[serde(rename = "type", default = "a")]
    pub kind: String,
    /// Over TCP.
    #[serde(default)]
    pub tcp: bool,
    /// Who is asked, an address; default: the cluster DNS addresses of all families.
    #[serde(default)]
    pub server: Option<String>,
    /// Families of the server's addresses; default: all that the cluster has.
    #[serde(default)]
    pub families: Vec<Family>,
    /// Questions per second.
    #[serde(default = "rate")]
    pub rate: u32,
    /// For a step: how many. Those of `always` go on until the end.
    #[serde(default = "count")]
    pub count: Count,
    /// How long to wait for each of two answers.
    #[serde(default = "timeout")]
    pub timeout: String,
    /// At the first attempt at least so many of a hundred must have been answered.
    #[serde(default)]
    pub at_once: Option<u64>,
    /// No answer took longer, second attempts included.
    #[serde(default)]
    pub slowest: Option<String>,
}

fn a() -> String {
    "A".to_owned()
}

fn rate() -> u32 {
    100
}

fn count() -> Count {
    Count::Same(100)
}

fn timeout() -> String {
    "2s".to_owned()
}

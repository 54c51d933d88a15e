//! The words of `churn`: sandboxes that come and go, many at once, while the agent is killed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Count, Pause};

/// ADD and DEL of made-up sandboxes by the node's own CNI plugin.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Churn {
    /// The node's number.
    pub node: usize,
    /// The IPPool that serves the node.
    pub pool: String,
    /// How many sandboxes must get addresses and give them back.
    pub adds: Count,
    /// How many are at it at one time.
    #[serde(default = "parallel")]
    pub parallel: u64,
    /// How long a sandbox lives.
    #[serde(default = "life")]
    pub life: Pause,
    /// How often the agent's working process is killed meanwhile.
    #[serde(default = "none")]
    pub kills: Count,
    /// Between the start of a working process and its end.
    #[serde(default = "between_kills")]
    pub between_kills: Pause,
    /// How often its whole container is killed.
    #[serde(default = "none")]
    pub container_kills: Count,
    /// How many sandboxes vanish without DEL. Their addresses must be back within twice the agent's
    /// `--sandbox-grace`.
    #[serde(default = "none")]
    pub leaks: Count,
    /// The pool runs dry: some ADD must fail and name it. Otherwise none may.
    #[serde(default)]
    pub dry: bool,
    /// How long a released address must rest, by the pool's `cooldown`.
    #[serde(default)]
    pub cooldown: Option<String>,
    /// How long all of it may take.
    #[serde(default = "limit")]
    pub within: String,
    /// What is slipped in for a control.
    #[serde(default)]
    pub inject: Option<ChurnFault>,
}

/// What a control slips in.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ChurnFault {
    /// A second holder of an address, in the account of who held what.
    SharedAddress,
    /// A sandbox that is never deleted, and is not told of.
    Leak,
}

fn parallel() -> u64 {
    20
}

fn none() -> Count {
    Count::Same(0)
}

fn life() -> Pause {
    Pause::Between {
        least: "0ms".to_owned(),
        most: "300ms".to_owned(),
    }
}

fn between_kills() -> Pause {
    Pause::Between {
        least: "0ms".to_owned(),
        most: "2s".to_owned(),
    }
}

fn limit() -> String {
    "15m".to_owned()
}

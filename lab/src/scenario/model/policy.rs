//! The words for who may reach whom.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Family;
use crate::probe::connect::Protocol;
use crate::probe::talk::Transport;

/// A truth table: who reaches whom. Each place of `from` asks each of `to` but itself.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reach {
    /// Who ask: pods, `node/1`, or `outside`.
    pub from: Vec<String>,
    /// Who are asked: the same, or `service/NAME`.
    pub to: Vec<String>,
    /// Pairs that must be answered, as `client > server`; all others must get no answer at all.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// Port; default 8080 for HTTP, else 7070.
    #[serde(default)]
    pub port: Option<u16>,
    /// How; default HTTP.
    #[serde(default)]
    pub protocol: Protocol,
    /// Families; default: all that the cluster has.
    #[serde(default)]
    pub families: Vec<Family>,
    /// How long it may take until the whole table is so.
    #[serde(default = "super::within")]
    pub within: String,
    /// How long nothing may come until a pair counts as denied.
    #[serde(default = "soon")]
    pub timeout: String,
}

fn soon() -> String {
    "500ms".to_owned()
}

/// Begins a connection that goes on.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Talk {
    /// Its name.
    pub name: String,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// The port there: of its own for each connection.
    pub port: u16,
    /// Over what.
    #[serde(default)]
    pub protocol: Transport,
    /// Which ends talk once it is there.
    #[serde(default)]
    pub talks: Ends,
    /// The family.
    pub family: Family,
}

/// Which ends of a connection.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Ends {
    /// Both.
    #[default]
    Both,
    /// Who called.
    Caller,
    /// Who was called.
    Called,
}

/// Connections go on, or nothing of them comes through any more.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hears {
    /// Their names.
    pub talks: Vec<String>,
    /// Each end that is talked to hears more; or no end hears anything.
    pub still: bool,
    /// How long it is watched.
    #[serde(default = "second")]
    pub watched: String,
    /// How long it may take until it is so.
    #[serde(default = "super::within")]
    pub within: String,
}

fn second() -> String {
    "500ms".to_owned()
}

/// A pod is sent to from before it exists, and counts what it gets.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FirstInstant {
    /// Who sends, to every address of the blocks of the pod's node.
    pub from: String,
    /// A pod of the scenario that is made later, with a node; it is made anew each time.
    pub pod: String,
    /// How often.
    pub times: super::Count,
    /// Whether datagrams arrive.
    pub arrives: super::Arrives,
}

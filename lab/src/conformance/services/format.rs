//! The words of `suite: services`, as types.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::expect::Outcome;

/// A file.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    #[expect(dead_code, reason = "names the format")]
    suite: String,
    /// Its own name.
    pub name: String,
    /// One sentence.
    #[serde(default)]
    pub about: String,
    /// Where its facts come from.
    #[serde(default)]
    pub source: String,
    /// The node under test.
    pub node: NodeUnderTest,
    /// What the node is configured with.
    #[serde(default)]
    pub config: Config,
    /// States, each on top of the one before.
    pub stages: Vec<Stage>,
}

/// The node under test.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeUnderTest {
    /// Its name.
    pub name: String,
    /// Its zone, unless a Node object says otherwise.
    #[serde(default)]
    pub zone: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Chart values `services.*`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// What counts as a source inside the cluster.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// Unallocated addresses in here are dropped.
    #[serde(rename = "serviceCIDRs")]
    pub service_cidrs: Vec<IpNet>,
    /// Where node ports answer.
    pub node_port_addresses: NodePortAddresses,
    /// Whether everything to a cluster IP is masqueraded.
    pub masquerade_all: bool,
}

/// `primary`, or networks.
#[derive(Deserialize, Clone, Debug)]
#[serde(untagged)]
pub enum NodePortAddresses {
    /// A word: `primary`.
    Word(Word),
    /// Networks.
    Within(Vec<IpNet>),
}

/// The only word for addresses.
#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The first address of each family.
    Primary,
}

impl Default for NodePortAddresses {
    fn default() -> Self {
        Self::Word(Word::Primary)
    }
}

/// A state and what is asked of it.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Created or replaced.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// `kind/namespace/name`; goes first.
    #[serde(default)]
    pub deleted: Vec<String>,
    /// First packets of connections.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// Choices of endpoints.
    #[serde(default)]
    pub endpoints: Option<Vec<Choice>>,
    /// Every health check node port.
    #[serde(default)]
    pub health: Option<Vec<Health>>,
}

/// The first packet of a connection.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flow {
    /// What it shows.
    pub name: String,
    /// Source address.
    pub from: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination address.
    pub to: IpAddr,
    /// Destination port.
    pub port: u16,
    /// What becomes of it.
    pub expect: Expect,
}

/// A transport protocol.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// RFC 9293
    Tcp,
    /// RFC 768
    Udp,
    /// RFC 9260
    Sctp,
}

impl From<Protocol> for weft_core::view::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

/// What becomes of a flow.
#[derive(Deserialize, Clone, Debug)]
#[serde(untagged)]
pub enum Expect {
    /// A word.
    Word(ExpectWord),
    /// It reaches one of these.
    #[serde(rename_all = "camelCase")]
    Endpoints {
        /// Every endpoint that a new connection may reach, `address:port`.
        endpoints: Vec<String>,
        /// Whether, or for which of them, the source is rewritten.
        masquerade: Masquerade,
        /// For how many seconds a client keeps its endpoint.
        #[serde(default)]
        affinity: Option<u64>,
    },
}

/// An end that is no endpoint.
#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "lowercase")]
pub enum ExpectWord {
    /// Refused with an answer.
    Reject,
    /// Dropped.
    Drop,
    /// No rule of the services matches.
    Untouched,
}

/// For whom the source is rewritten.
#[derive(Deserialize, Clone, Debug)]
#[serde(untagged)]
pub enum Masquerade {
    /// For all endpoints, or none.
    All(bool),
    /// For exactly these.
    For(Vec<String>),
}

/// The choice of endpoints of a service port.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Choice {
    /// `namespace/name`
    pub service: String,
    /// The port's name.
    pub port: String,
    /// Under traffic policy Cluster.
    #[serde(default)]
    pub cluster: Option<Vec<String>>,
    /// Under traffic policy Local.
    #[serde(default)]
    pub local: Option<Vec<String>>,
}

/// A health check node port.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// `namespace/name`
    pub service: String,
    /// The port.
    pub port: u16,
    /// Local ready endpoints.
    pub ready: usize,
}

impl File {
    /// Reads a file's content.
    ///
    /// # Errors
    /// When it is not of this format.
    pub fn deserialize(value: &Value) -> Result<Self> {
        Deserialize::deserialize(value).context("it does not read as suite services")
    }
}

impl Expect {
    /// The expectation as an outcome, to be compared with the one that came out.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Word(ExpectWord::Reject) => Outcome::Rejected,
            Self::Word(ExpectWord::Drop) => Outcome::Dropped,
            Self::Word(ExpectWord::Untouched) => Outcome::Untouched,
            Self::Endpoints {
                endpoints,
                masquerade,
                affinity,
            } => {
                let masqueraded = match masquerade {
                    Masquerade::All(true) => endpoints,
                    Masquerade::All(false) => &Vec::new(),
                    Masquerade::For(some) => some,
                };
                Outcome::Endpoints {
                    endpoints: endpoints.iter().cloned().collect(),
                    masqueraded: masqueraded.iter().cloned().collect(),
                    affinity: *affinity,
                }
            }
        }
    }
}

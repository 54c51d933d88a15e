//! Files of `suite: policy` (tests/conformance/README.md): steps that each hold a whole world and who may
//! reach whom in it.
//!
//! [`steps`] reads them; [`Node`] is a node of such worlds, compiled as an agent compiles it. The core's
//! own tests and the lab judge by the same two.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::view::Protocol;

mod node;

pub use node::{Fault, Judge, Node};

/// A state of a cluster, with the policies in force.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its namespaces.
    pub namespaces: Vec<Labelled>,
    /// Its nodes, as far as policies can ask about them.
    pub nodes: Vec<WorldNode>,
    /// NetworkPolicies and ClusterNetworkPolicies as their authors wrote them.
    #[serde(skip)]
    pub policies: Vec<Value>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// The node that it runs on; where a file says none, one of two.
    pub node: String,
    /// It has the node's network.
    pub host_network: bool,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Container {
    /// What it listens on.
    pub ports: Vec<Port>,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Its name.
    pub name: Option<String>,
    /// Its number.
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labelled {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldNode {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// Whether somebody may reach somebody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// `namespace/pod` or an address.
    pub from: String,
    /// `namespace/pod` or an address.
    pub to: String,
    /// The destination port after any translation.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub proto: String,
    /// 4 or 6; none: each that both ends have.
    pub family: Option<u8>,
    /// Both sides allow it.
    pub combined: Combined,
}

/// What both sides together come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combined {
    /// Both allow it.
    Allowed,
    /// One denies it.
    Blocked,
}

/// A state and what holds in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The case that it belongs to; steps of one case are in order.
    pub case: String,
    /// Case and number.
    pub name: String,
    /// The state.
    pub world: World,
    /// What holds.
    pub rows: Vec<Row>,
}

/// What a file has that the format does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct Malformed {
    at: String,
    what: String,
}

impl Combined {
    /// What a verdict comes to.
    #[must_use]
    pub fn of(allowed: bool) -> Self {
        if allowed {
            Self::Allowed
        } else {
            Self::Blocked
        }
    }
}

impl std::fmt::Display for Combined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Blocked => "blocked",
        })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            from,
            to,
            port,
            proto,
            family,
            combined: _,
        } = self;
        write!(f, "{from} to {to} at {proto} {port}")?;
        match family {
            Some(family) => write!(f, " over IPv{family}"),
            None => Ok(()),
        }
    }
}

impl Row {
    /// Its protocol; [`steps`] lets none through that is not known.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.proto.as_str() {
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Tcp,
        }
    }
}

impl Pod {
    /// `namespace/name`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl World {
    /// The pod of a `namespace/name`.
    #[must_use]
    pub fn pod(&self, name: &str) -> Option<&Pod> {
        let (namespace, name) = name.split_once('/')?;
        let mut pods = self.pods.iter();
        pods.find(|pod| pod.namespace == namespace && pod.name == name)
    }

    /// The address of an end of a row, in a family.
    #[must_use]
    pub fn address(&self, end: &str, family: u8) -> Option<IpAddr> {
        let of_family = |address: &IpAddr| address.is_ipv4() == (family == 4);
        match self.pod(end) {
            Some(pod) => pod.ips.iter().copied().find(of_family),
            None => end.parse().ok().filter(of_family),
        }
    }

    /// The families that a row is to be judged in.
    #[must_use]
    pub fn families(&self, row: &Row) -> Vec<u8> {
        let families = row.family.map_or(vec![4, 6], |family| vec![family]);
        let both = |family: &u8| {
            self.address(&row.from, *family).is_some() && self.address(&row.to, *family).is_some()
        };
        families.into_iter().filter(both).collect()
    }

    /// Nodes with pods that policies can be about.
    #[must_use]
    pub fn judging_nodes(&self) -> Vec<String> {
        let pods = self.pods.iter().filter(|pod| !pod.host_network);
        let mut nodes: Vec<String> = pods.map(|pod| pod.node.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

/// The steps of a file.
///
/// # Errors
/// When it is not of the suite's format.
pub fn steps(file: &Value) -> Result<Vec<Step>, Malformed> {
    let (cluster, steps) = match file {
        Value::Array(steps) => (None, steps.as_slice()),
        other => {
            let steps = other.get("steps").and_then(Value::as_array);
            let steps = steps.ok_or_else(|| malformed("the file", "it has no list of steps"))?;
            (other.get("cluster"), steps.as_slice())
        }
    };
    let base = match cluster {
        Some(cluster) => typed("cluster", cluster)?,
        None => nine_pods()?,
    };
    steps.iter().map(|step| read(&base, step)).collect()
}

fn read(base: &World, step: &Value) -> Result<Step, Malformed> {
    let case = step.get("case").and_then(Value::as_str);
    let case = case.ok_or_else(|| malformed("a step", "it has no case"))?;
    let name = match step.get("step") {
        Some(number) => format!("{case} {number}"),
        None => case.to_owned(),
    };
    let at = |key: &str| format!("{name}: {key}");
    let mut world = base.clone();
    if let Some(pods) = step.get("pods") {
        world.pods = typed(&at("pods"), pods)?;
    }
    if let Some(namespaces) = step.get("namespaces") {
        world.namespaces = typed(&at("namespaces"), namespaces)?;
    }
    if let Some(nodes) = step.get("nodes") {
        world.nodes = typed(&at("nodes"), nodes)?;
    }
    if let Some(policies) = step.get("policies") {
        world.policies = typed(&at("policies"), policies)?;
    }
    for pod in &mut world.pods {
        if pod.node.is_empty() {
            // The same one in every step, and both have some.
            let sum: u32 = pod.id().bytes().map(u32::from).sum();
            pod.node = format!("node-{}", 1 + sum % 2);
        }
    }
    let rows = step.get("rows").unwrap_or(&Value::Null);
    let rows: Vec<Row> = typed(&at("rows"), rows)?;
    for row in &rows {
        let known = matches!(row.proto.as_str(), "TCP" | "UDP" | "SCTP");
        if !known || world.families(row).is_empty() {
            let what = "an end or the protocol is not known, or the ends share no family";
            return Err(malformed(&format!("{name}: {row}"), what));
        }
    }
    Ok(Step {
        case: case.to_owned(),
        name,
        world,
        rows,
    })
}

/// The cluster of files that name none (tests/conformance/policy/README.md).
fn nine_pods() -> Result<World, Malformed> {
    let names = ["x", "y", "z"];
    let addresses = [
        ["192.168.0.17", "192.168.0.18", "192.168.2.3"],
        ["192.168.1.33", "192.168.1.66", "192.168.1.5"],
        ["192.168.1.200", "192.168.1.14", "192.168.1.9"],
    ];
    let container = |number: u16, protocol: &str| {
        let name = format!("serve-{number}-{}", protocol.to_lowercase());
        json!({"ports": [{"name": name, "containerPort": number, "protocol": protocol}]})
    };
    let containers: Vec<Value> = [80, 81]
        .into_iter()
        .flat_map(|number| ["TCP", "UDP", "SCTP"].map(|protocol| container(number, protocol)))
        .collect();
    let pods = names.iter().zip(addresses).flat_map(|(namespace, ips)| {
        let each = ["a", "b", "c"].into_iter().zip(ips);
        let containers = &containers;
        each.map(move |(name, ip)| {
            json!({
                "name": name, "namespace": namespace, "labels": {"pod": name}, "ips": [ip],
                "containers": containers,
            })
        })
    });
    let namespaces = names.map(
        |name| json!({"name": name, "labels": {"ns": name, "kubernetes.io/metadata.name": name}}),
    );
    let world = json!({"pods": pods.collect::<Vec<_>>(), "namespaces": namespaces});
    typed("the nine pods", &world)
}

fn typed<T: serde::de::DeserializeOwned>(at: &str, value: &Value) -> Result<T, Malformed> {
    T::deserialize(value).map_err(|error| malformed(at, &error.to_string()))
}

fn malformed(at: &str, what: &str) -> Malformed {
    Malformed {
        at: at.to_owned(),
        what: what.to_owned(),
    }
}

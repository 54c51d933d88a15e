//! Flows sent for real: the node under test in a network namespace of its own with the compiled table
//! in the kernel, clients on one side of it, everybody else on the other.
//!
//! ```text
//! clients --- node (addresses, table) --- world (every address answers, at every port in use)
//! ```
//!
//! The world says who was reached and which source it saw. What packets cannot tell is said.

pub mod ask;
pub mod wires;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result};
use weft_nft::{Batch, Change};

use super::expect::Outcome;
use super::format::{Expect, File, Flow};
use super::node::Node;
use crate::conformance::packets::namespace::Namespace;
use crate::conformance::packets::{self, serve};
use ask::Reached;

/// A node between clients and the world.
#[derive(Debug)]
pub struct Packets {
    clients: Namespace,
    node: Namespace,
    world: Namespace,
    servers: Vec<serve::Server>,
    /// Maps that remember clients, by name.
    memories: BTreeSet<String>,
}

/// What packets say about a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What became of it.
    Outcome(Outcome),
    /// Nothing, and why.
    Nothing(String),
}

impl Packets {
    /// Makes the namespaces for a file and starts the servers that its flows may reach.
    ///
    /// # Errors
    /// When the caller is not root, or the kernel lacks something.
    pub fn new(file: &File) -> Result<Self> {
        let [clients, node, world] = ["clients", "node", "world"].map(Namespace::new);
        let (clients, node, world) = (clients?, node?, world?);
        wires::connect(&clients, &node, &world, &file.node.addresses)?;
        let ports = ports(file);
        let servers = [&node, &world].map(|place| {
            let ports = ports.clone();
            place.run(move || serve::Server::start(&ports))?
        });
        let [first, second] = servers;
        Ok(Self {
            servers: vec![first?, second?],
            clients,
            node,
            world,
            memories: BTreeSet::new(),
        })
    }

    /// Commits what a stage changes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn commit(&mut self, batches: Vec<Batch>) -> Result<()> {
        for batch in &batches {
            for change in &batch.changes {
                if let Change::AddSet { name, set } = change
                    && set.flags.dynamic
                {
                    self.memories.insert(name.clone());
                }
            }
        }
        packets::commit(&self.node, batches)
    }

    /// Sends a flow as often as it takes to see every end that is expected of it.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn outcome(&self, node: &Node, flow: &Flow) -> Result<Told> {
        if let Some(why) = ask::inexpressible(flow) {
            return Ok(Told::Nothing(why));
        }
        let own = node.is_own(flow.from);
        let sender = if own { &self.node } else { &self.clients };
        if !own {
            wires::add_address(sender, &self.node, flow.from)?;
        }
        let outcome = self.tried(node, sender, flow);
        if !own {
            wires::remove_address(sender, &self.node, flow.from)?;
        }
        outcome.map(Told::Outcome)
    }

    fn tried(&self, node: &Node, sender: &Namespace, flow: &Flow) -> Result<Outcome> {
        let Expect::Endpoints {
            endpoints,
            affinity,
            ..
        } = &flow.expect
        else {
            return Ok(self.single(node, flow, &ask::once(sender, flow)?));
        };
        let wanted: BTreeSet<&String> = endpoints.iter().collect();
        let sticks = affinity.is_some_and(|seconds| seconds > 0);
        let (mut reached, mut masqueraded) = (BTreeSet::new(), BTreeSet::new());
        let (least, most) = (10 + 8 * wanted.len(), 100 * wanted.len().max(1));
        for number in 0..most {
            if sticks {
                self.forget()?;
            }
            let answer = ask::once(sender, flow)?;
            let Reached::Answered { at, seen } = answer else {
                return Ok(self.single(node, flow, &answer));
            };
            if sticks && !self.same_again(sender, flow, at)? {
                return Ok(Outcome::Other(format!("{at} and then another endpoint")));
            }
            reached.insert(at.to_string());
            if seen.ip() != flow.from {
                masqueraded.insert(at.to_string());
            }
            if number >= least && wanted.iter().all(|one| reached.contains(*one)) {
                break;
            }
        }
        if reached.len() == 1 && reached.contains(&SocketAddr::new(flow.to, flow.port).to_string())
        {
            return Ok(Outcome::Untouched);
        }
        Ok(Outcome::Endpoints {
            endpoints: reached,
            masqueraded,
            affinity: *affinity,
        })
    }

    fn single(&self, node: &Node, flow: &Flow, reached: &Reached) -> Outcome {
        match reached {
            Reached::Refused => Outcome::Rejected,
            Reached::Silent => Outcome::Dropped,
            Reached::Answered { at, .. } if *at == SocketAddr::new(flow.to, flow.port) => {
                Outcome::Untouched
            }
            Reached::Answered { at, seen } => Outcome::Endpoints {
                endpoints: [at.to_string()].into(),
                masqueraded: if seen.ip() != flow.from && !node.is_own(flow.from) {
                    [at.to_string()].into()
                } else {
                    BTreeSet::new()
                },
                affinity: None,
            },
            Reached::Failed(why) => Outcome::Other(why.clone()),
        }
    }

    /// Eight more connections of the same client.
    fn same_again(&self, sender: &Namespace, flow: &Flow, first: SocketAddr) -> Result<bool> {
        for _ in 0..8 {
            match ask::once(sender, flow)? {
                Reached::Answered { at, .. } if at == first => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Forgets all clients, as time would.
    fn forget(&self) -> Result<()> {
        let maps = self.memories.clone();
        self.node.run(move || -> Result<()> {
            for map in maps {
                let output = Command::new("nft")
                    .args(["flush", "map", "inet", "weftnet", &map])
                    .output()
                    .context("failed to start nft")?;
                crate::place::succeeded(&output, &format!("flushing {map}"))?;
            }
            Ok(())
        })?
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        for server in &self.servers {
            server.stop();
        }
        let Self {
            clients,
            node,
            world,
            ..
        } = self;
        for namespace in [clients, node, world] {
            namespace.end();
        }
    }
}

/// Whether packets cannot tell if the source of a flow was rewritten: the node's address for the
/// node's own packet is the same.
pub fn hides_masquerade(node: &Node, flow: &Flow) -> bool {
    let family = |address: &&IpAddr| address.is_ipv4() == flow.from.is_ipv4();
    node.is_own(flow.from) && node.addresses().iter().find(family) == Some(&flow.from)
}

/// Ports that flows go to, and those of the endpoints that they may reach.
fn ports(file: &File) -> serve::Ports {
    let mut ports = BTreeSet::new();
    for flow in file.stages.iter().flat_map(|stage| &stage.flows) {
        let protocol = flow.protocol.into();
        ports.insert((protocol, flow.port));
        if let Expect::Endpoints { endpoints, .. } = &flow.expect {
            let parsed = endpoints
                .iter()
                .filter_map(|text| text.parse::<SocketAddr>().ok());
            ports.extend(parsed.map(|endpoint| (protocol, endpoint.port())));
        }
    }
    serve::Ports::new(ports)
}

//! Rows sent for real: a network namespace for each node with its compiled table in the kernel, one for
//! each pod, and one for everybody else, which also carries packets from node to node.
//!
//! ```text
//! pod --- node (table) --- world (outside addresses, way to the other nodes) --- node (table) --- pod
//! ```
//!
//! All rows of a step are connections made at the same time; each that is allowed must be answered, and
//! the others must stay silent. Within one set of pods and nodes the kernels are told differences.

pub mod ask;
pub mod wires;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use weft_core::policy::conformance::{Node, Row, Step, World};
use weft_core::view::Protocol;
use weft_nft::Batch;

use crate::conformance::packets::namespace::Namespace;
use crate::conformance::packets::{self, has_sctp, serve};
use ask::Question;

/// So many connections are made at the same time.
const AT_ONCE: usize = 250;

/// What packets say about a row in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What became of it: `allowed`, `blocked` or something that should not be.
    Outcome(String),
    /// Nothing, and why.
    Nothing(String),
}

/// A cluster of namespaces, made anew when pods or nodes change.
#[derive(Debug, Default)]
pub struct Packets(Option<Cluster>);

/// What namespaces are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    /// Node, pod, addresses, link.
    pods: Vec<(String, String, Vec<IpAddr>, u32)>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
}

#[derive(Debug)]
struct Cluster {
    shape: Shape,
    world: Namespace,
    nodes: BTreeMap<String, Namespace>,
    pods: BTreeMap<String, Namespace>,
    servers: Vec<serve::Server>,
}

impl Packets {
    /// Goes over to a world: kernels are told `batches`, or everything where namespaces are made anew.
    /// Servers listen at the ports of all `steps`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn go_to(
        &mut self,
        world: &World,
        nodes: &BTreeMap<String, Node>,
        batches: BTreeMap<String, Vec<Batch>>,
        steps: &[Step],
    ) -> Result<()> {
        let shape = Shape::of(world, nodes);
        if let Some(cluster) = self.0.as_ref().filter(|cluster| cluster.shape == shape) {
            for (name, batches) in batches {
                cluster.commit(&name, batches)?;
            }
            return Ok(());
        }
        // The old ones end first: links have the same names.
        self.0 = None;
        let cluster = Cluster::new(shape, steps)?;
        for (name, node) in nodes {
            cluster.commit(name, vec![weft_nft::replace(node.table())])?;
        }
        self.0 = Some(cluster);
        Ok(())
    }

    /// Sends all rows of a step; answers by row and family.
    ///
    /// # Errors
    /// When they cannot be sent.
    pub fn tell(&self, step: &Step) -> Result<BTreeMap<usize, Vec<(u8, Told)>>> {
        let cluster = self.0.as_ref().context("there are no namespaces yet")?;
        let mut told: BTreeMap<usize, Vec<(u8, Told)>> = BTreeMap::new();
        let mut questions = Vec::new();
        let has_sctp = has_sctp();
        for (at, row) in step.rows.iter().enumerate() {
            for family in step.world.families(row) {
                match cluster.question(&step.world, row, family, has_sctp) {
                    Ok(question) => questions.push((at, family, question)),
                    Err(why) => told
                        .entry(at)
                        .or_default()
                        .push((family, Told::Nothing(why))),
                }
            }
        }
        for part in questions.chunks(AT_ONCE) {
            let asked: Vec<&Question<'_>> = part.iter().map(|(_, _, question)| question).collect();
            let outcomes = ask::all(&asked)?;
            for ((at, family, _), outcome) in part.iter().zip(outcomes) {
                let outcome = Told::Outcome(outcome);
                told.entry(*at).or_default().push((*family, outcome));
            }
        }
        Ok(told)
    }
}

impl Shape {
    fn of(world: &World, nodes: &BTreeMap<String, Node>) -> Self {
        let pods = nodes.iter().flat_map(|(name, node)| {
            let pods = node.pods();
            pods.map(move |(pod, link)| (name.clone(), pod.id(), pod.ips.clone(), link))
        });
        let mut addresses: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for name in nodes.keys() {
            addresses.entry(name.clone()).or_default();
        }
        for node in &world.nodes {
            addresses.insert(node.name.clone(), node.ips.clone());
        }
        Self {
            pods: pods.collect(),
            nodes: addresses,
        }
    }
}

impl Cluster {
    fn new(shape: Shape, steps: &[Step]) -> Result<Self> {
        let world = Namespace::new("world")?;
        let named = |name: &String| Ok((name.clone(), Namespace::new("node")?));
        let nodes: BTreeMap<String, Namespace> =
            shape.nodes.keys().map(named).collect::<Result<_>>()?;
        let named = |(_, pod, ..): &(_, String, _, _)| Ok((pod.clone(), Namespace::new("pod")?));
        let pods: BTreeMap<String, Namespace> =
            shape.pods.iter().map(named).collect::<Result<_>>()?;
        wires::prepare(&world)?;
        for (number, (name, addresses)) in shape.nodes.iter().enumerate() {
            if let Some(node) = nodes.get(name) {
                wires::connect_node(&world, number, node, addresses)?;
            }
        }
        let numbers: BTreeMap<&String, usize> = shape.nodes.keys().zip(0..).collect();
        for (name, pod, addresses, link) in &shape.pods {
            if let (Some(node), Some(pod)) = (nodes.get(name), pods.get(pod)) {
                let number = numbers.get(name).copied().unwrap_or_default();
                wires::connect_pod(&world, number, node, *link, pod, addresses)?;
            }
        }
        let ports = steps.iter().flat_map(|step| &step.rows);
        let ports = serve::Ports::new(ports.map(|row| (row.protocol(), row.port)));
        let mut servers = Vec::new();
        for place in nodes.values().chain(pods.values()).chain([&world]) {
            let ports = ports.clone();
            servers.push(place.run(move || serve::Server::start(&ports))??);
        }
        Ok(Self {
            shape,
            world,
            nodes,
            pods,
            servers,
        })
    }

    fn commit(&self, node: &str, batches: Vec<Batch>) -> Result<()> {
        let place = self.nodes.get(node).context("a node without a namespace")?;
        packets::commit(place, batches)
    }

    /// Who asks what; or why packets cannot tell.
    fn question(
        &self,
        world: &World,
        row: &Row,
        family: u8,
        has_sctp: bool,
    ) -> Result<Question<'_>, String> {
        if row.protocol() == Protocol::Sctp && !has_sctp {
            return Err("this kernel has no SCTP".to_owned());
        }
        let unknown = || "an end has no address".to_owned();
        let from = world.address(&row.from, family).ok_or_else(unknown)?;
        let to = world.address(&row.to, family).ok_or_else(unknown)?;
        let (place, target) = (self.place(from), self.place(to));
        if std::ptr::eq(place, target) {
            return Err("it never leaves the network that it comes from".to_owned());
        }
        Ok(Question {
            place,
            from,
            to,
            protocol: row.protocol(),
            port: row.port,
            is_expected: row.combined == weft_core::policy::conformance::Combined::Allowed,
        })
    }

    /// Where an address is.
    fn place(&self, address: IpAddr) -> &Namespace {
        let Shape { pods, nodes } = &self.shape;
        let of_pod = pods.iter().find(|(_, _, ips, _)| ips.contains(&address));
        let of_node = nodes.iter().find(|(_, ips)| ips.contains(&address));
        of_pod
            .and_then(|(_, pod, ..)| self.pods.get(pod))
            .or_else(|| of_node.and_then(|(node, _)| self.nodes.get(node)))
            .unwrap_or(&self.world)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &self.servers {
            server.stop();
        }
        let pods = self.pods.values_mut();
        for place in pods.chain(self.nodes.values_mut()).chain([&mut self.world]) {
            place.end();
        }
    }
}

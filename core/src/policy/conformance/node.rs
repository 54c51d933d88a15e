//! A node of worlds: what it is told, what it compiles, and what its table does to packets.
//!
//! It goes from world to world by differences, as an agent follows a watch, and its table changes by the
//! transactions alone. So what is judged is the way an agent comes to a state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Deserialize;
use serde_json::Value;
use weft_nft::trace::{Arrival, Fate, Host, Packet, Route, Tracer};
use weft_nft::{Batch, Table, l4proto};

use super::{Pod, World};
use crate::policy::object::Parsed;
use crate::policy::{
    Elements, Known, Labels, LocalPod, NodeObject, PodObject, PodPort, Policies, Policy,
    PolicyName, object,
};
use crate::view::{AttachmentKey, NodeView, Protocol};
use crate::{compile, names};

/// Index of a node's link to the others.
const UPLINK: u32 = 2;
/// Index of the first pod's link.
const FIRST_LINK: u32 = 100;

/// Why a node cannot go to a world, or judge a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A policy was not understood.
    #[error("{policy}: {what}")]
    Policy {
        /// Which.
        policy: String,
        /// What of it.
        what: String,
    },
    /// The transactions do not fit the table that is there.
    #[error("a transaction does not apply to the table: {0}")]
    Transaction(String),
    /// The tracer could not follow a packet to one end.
    #[error("a packet cannot be followed: {0}")]
    Trace(String),
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    policies: Policies,
    table: Table,
    world: World,
    links: BTreeMap<String, u32>,
    next_link: u32,
}

/// A node's table, prepared for many packets.
#[derive(Debug)]
pub struct Judge<'n> {
    node: &'n Node,
    tracer: Tracer<'n>,
    host: Host,
}

impl Node {
    /// A node in an empty world.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut policies = Policies::new();
        policies.set_synced(true);
        Self {
            name: name.to_owned(),
            policies,
            table: table(),
            world: World::default(),
            links: BTreeMap::new(),
            next_link: FIRST_LINK,
        }
    }

    /// A node that knows of nothing but this world.
    ///
    /// # Errors
    /// As [`Self::go_to`].
    pub fn in_world(name: &str, world: &World) -> Result<Self, Fault> {
        let mut node = Self::new(name);
        node.go_to(world)?;
        Ok(node)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state that it compiles from.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The table as the transactions made it.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Its own pods, with the index of each one's link.
    pub fn pods(&self) -> impl Iterator<Item = (&Pod, u32)> {
        let own = own(&self.world, &self.name);
        own.filter_map(|pod| Some((pod, *self.links.get(&pod.id())?)))
    }

    /// What the state knows its own pods by.
    pub fn keys(&self) -> impl Iterator<Item = AttachmentKey> {
        self.links.keys().map(|pod| key(pod))
    }

    /// Tells what is different in a world, and applies the transactions to the table; answers with them.
    ///
    /// # Errors
    /// When a policy is not understood, or a transaction does not fit.
    pub fn go_to(&mut self, world: &World) -> Result<Vec<Batch>, Fault> {
        let old = std::mem::replace(&mut self.world, world.clone());
        self.tell_namespaces(&old);
        self.tell_nodes(&old);
        self.tell_pods(&old);
        self.tell_policies(&old)?;
        let batches = self.policies.compile().batches;
        for batch in &batches {
            let applied = self.table.apply(batch);
            applied.map_err(|error| Fault::Transaction(error.to_string()))?;
        }
        Ok(batches)
    }

    /// Sets whose elements the transactions left otherwise than the state says.
    #[must_use]
    pub fn drifted(&self) -> Vec<String> {
        let mut wanted = table();
        fill(&mut wanted, self.policies.elements());
        let sets = wanted.sets.iter();
        let different = sets.filter(|(name, set)| self.table.sets.get(*name) != Some(*set));
        different.map(|(name, _)| name.clone()).collect()
    }

    /// Prepares the table for packets.
    #[must_use]
    pub fn judge(&self) -> Judge<'_> {
        Judge {
            tracer: Tracer::new(&self.table),
            host: self.host(),
            node: self,
        }
    }

    fn tell_namespaces(&mut self, old: &World) {
        let labels = |world: &World| -> BTreeMap<String, Labels> {
            let all = world.namespaces.iter();
            all.map(|it| (it.name.clone(), Labels::new(&it.labels)))
                .collect()
        };
        for (name, labels) in changes(labels(old), labels(&self.world)) {
            self.policies.set_namespace(&name, labels);
        }
    }

    fn tell_nodes(&mut self, old: &World) {
        let objects = |world: &World| -> BTreeMap<String, NodeObject> {
            let object = |node: &super::WorldNode| NodeObject {
                labels: Labels::new(&node.labels),
                addresses: node.ips.clone().into(),
            };
            let all = world.nodes.iter();
            all.map(|node| (node.name.clone(), object(node))).collect()
        };
        for (name, object) in changes(objects(old), objects(&self.world)) {
            self.policies.set_node(&name, object);
        }
    }

    fn tell_pods(&mut self, old: &World) {
        let objects = |world: &World| -> BTreeMap<String, PodObject> {
            let pods = world.pods.iter().filter(|pod| !pod.host_network);
            pods.map(|pod| (pod.id(), pod_object(pod))).collect()
        };
        for (uid, object) in changes(objects(old), objects(&self.world)) {
            self.policies.set_pod(&uid, object);
        }
        let present: BTreeSet<String> = own(&self.world, &self.name).map(Pod::id).collect();
        let links = std::mem::take(&mut self.links);
        let (links, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = links
            .into_iter()
            .partition(|(pod, _)| present.contains(pod));
        self.links = links;
        for pod in gone.keys() {
            self.policies.set_local(&key(pod), None);
        }
        for pod in own(&self.world, &self.name) {
            let next = &mut self.next_link;
            let link = self.links.entry(pod.id()).or_insert_with(|| {
                *next += 1;
                *next - 1
            });
            let local = local_pod(pod, *link);
            self.policies.set_local(&key(&pod.id()), Some(local));
        }
    }

    fn tell_policies(&mut self, old: &World) -> Result<(), Fault> {
        let (old, new) = (policies(old)?, policies(&self.world)?);
        for (name, policy) in changes(old, new) {
            self.policies.set_policy(&name, policy);
        }
        Ok(())
    }

    fn host(&self) -> Host {
        let addresses = self.world.nodes.iter().filter(|it| it.name == self.name);
        let addresses = addresses.flat_map(|node| node.ips.iter().map(|ip| (*ip).into()));
        let mut host = Host::new().with_link(UPLINK, "eth0", 0, addresses);
        for (pod, link) in self.pods() {
            let name = format!("weft{link}");
            host = host.with_link(link, &name, names::POD_LINK_GROUP, []);
            for ip in &pod.ips {
                host = host.with_route((*ip).into(), Route::Link(link));
            }
        }
        for net in ["0.0.0.0/0", "::/0"].iter().flat_map(|net| net.parse()) {
            host = host.with_route(net, Route::Link(UPLINK));
        }
        host
    }
}

impl Judge<'_> {
    /// Whether the first packet of a connection gets through this node.
    ///
    /// # Errors
    /// When the tracer cannot follow it to one end.
    pub fn passes(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> Result<bool, Fault> {
        let from = SocketAddr::new(source, 40_000);
        let to = SocketAddr::new(destination, port);
        let packet = Packet::new(number(protocol), from, to);
        let mut pods = self.node.pods();
        let by = pods.find(|(pod, _)| pod.ips.contains(&source));
        let arrival = if let Some((_, link)) = by {
            Arrival::by(link, packet)
        } else if self.host.is_local(source) {
            Arrival::of_node(packet)
        } else {
            Arrival::by(UPLINK, packet)
        };
        let traces = self.tracer.trace(&self.host, &arrival);
        let [trace] = traces.as_slice() else {
            return Err(Fault::Trace(format!("{} ends", traces.len())));
        };
        match &trace.outcome.fate {
            Fate::Delivered | Fate::Sent { .. } => Ok(true),
            Fate::Dropped => Ok(false),
            other => Err(Fault::Trace(format!("{other:?}"))),
        }
    }
}

/// The table without any pod or policy.
fn table() -> Table {
    let view = NodeView {
        policies: true,
        ..NodeView::default()
    };
    let mut table = compile::all(&view).0.table;
    // The check of what pods send is another one's matter.
    table.chains.remove("from-pods");
    table
}

fn fill(table: &mut Table, elements: Elements) {
    for (bulk, elements) in elements {
        if let Some(set) = table.sets.get_mut(&bulk.name()) {
            set.elements.extend(elements);
        }
    }
}

/// What is new or gone on the way from one to the other.
fn changes<K: Ord + Clone, V: PartialEq>(
    old: BTreeMap<K, V>,
    mut new: BTreeMap<K, V>,
) -> Vec<(K, Option<V>)> {
    let mut changes = Vec::new();
    for (key, value) in old {
        match new.remove(&key) {
            None => changes.push((key, None)),
            Some(now) if now != value => changes.push((key, Some(now))),
            Some(_) => {}
        }
    }
    changes.extend(new.into_iter().map(|(key, value)| (key, Some(value))));
    changes
}

fn own<'w>(world: &'w World, node: &str) -> impl Iterator<Item = &'w Pod> {
    let pods = world.pods.iter();
    pods.filter(move |pod| !pod.host_network && pod.node == node)
}

fn policies(world: &World) -> Result<BTreeMap<PolicyName, Policy>, Fault> {
    let mut policies = BTreeMap::new();
    for written in &world.policies {
        let (name, Parsed { policy, rejections }) = parse(written)?;
        if let Some(rejection) = rejections.first() {
            return Err(fault(&name, &rejection.to_string()));
        }
        policies.extend(policy.map(|policy| (name, policy)));
    }
    Ok(policies)
}

fn parse(written: &Value) -> Result<(PolicyName, Parsed), Fault> {
    let text = |pointer: &str| written.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or_default();
    if text("/kind") == Some("NetworkPolicy") {
        let name = PolicyName::network(text("/metadata/namespace").unwrap_or("default"), name);
        let object = NetworkPolicy::deserialize(written);
        let object = object.map_err(|error| fault(&name, &error.to_string()))?;
        Ok((name, object::network_policy(&object)))
    } else {
        let name = PolicyName::cluster(name);
        let object = object::ClusterNetworkPolicy::deserialize(written);
        let object = object.map_err(|error| fault(&name, &error.to_string()))?;
        Ok((name, object::cluster_network_policy(&object)))
    }
}

fn fault(policy: &PolicyName, what: &str) -> Fault {
    Fault::Policy {
        policy: policy.to_string(),
        what: what.to_owned(),
    }
}

fn key(pod: &str) -> AttachmentKey {
    AttachmentKey {
        container_id: pod.to_owned(),
        ifname: "eth0".to_owned(),
    }
}

fn pod_object(pod: &Pod) -> PodObject {
    PodObject {
        namespace: pod.namespace.as_str().into(),
        labels: Labels::new(&pod.labels),
        ports: ports(pod),
        addresses: pod.ips.clone().into(),
        created: 0,
    }
}

fn local_pod(pod: &Pod, link: u32) -> LocalPod {
    LocalPod {
        link,
        namespace: pod.namespace.as_str().into(),
        name: pod.name.as_str().into(),
        addresses: pod.ips.clone().into(),
        known: Some(Known {
            labels: Labels::new(&pod.labels),
            ports: ports(pod),
        }),
    }
}

fn ports(pod: &Pod) -> Box<[PodPort]> {
    let ports = pod.containers.iter().flat_map(|container| &container.ports);
    let named = ports.filter_map(|port| {
        Some(PodPort {
            name: port.name.as_deref()?.into(),
            protocol: protocol(&port.protocol)?,
            port: port.container_port,
        })
    });
    named.collect()
}

/// A protocol as rows name it.
fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => l4proto::TCP,
        Protocol::Udp => l4proto::UDP,
        Protocol::Sctp => l4proto::SCTP,
    }
}

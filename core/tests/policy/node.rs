//! A node of a world: what it compiles, and what its table does to packets.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use weft_core::policy::{
    Elements, Known, Labels, LocalPod, NodeObject, PodObject, PodPort, Policies, PolicyName, object,
};
use weft_core::view::{AttachmentKey, NodeView, Protocol};
use weft_core::{compile, names};
use weft_nft::trace::{Arrival, Fate, Host, Packet, Route, Tracer};
use weft_nft::{Table, l4proto};

use super::suite::{Pod, World};

/// Index of a node's link to the others.
const UPLINK: u32 = 2;
/// Index of the first pod's link.
const FIRST: u32 = 100;

/// The UID of a pod.
pub fn uid(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

pub fn protocol(text: &str) -> Protocol {
    match text {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        other => panic!("{other}"),
    }
}

pub fn ports(pod: &Pod) -> Box<[PodPort]> {
    let ports = pod.containers.iter().flat_map(|container| &container.ports);
    let named = ports.filter_map(|port| {
        Some(PodPort {
            name: port.name.as_deref()?.into(),
            protocol: protocol(&port.protocol),
            port: port.container_port,
        })
    });
    named.collect()
}

pub fn object(pod: &Pod) -> PodObject {
    PodObject {
        namespace: pod.namespace.as_str().into(),
        labels: Labels::new(&pod.labels),
        ports: ports(pod),
        addresses: pod.ips.clone().into(),
        created: 0,
    }
}

pub fn key(pod: &Pod) -> AttachmentKey {
    AttachmentKey {
        container_id: uid(pod),
        ifname: "eth0".to_owned(),
    }
}

pub fn local(pod: &Pod, link: u32) -> LocalPod {
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

/// Tells a policy as it was written.
pub fn set_policy(policies: &mut Policies, written: &serde_json::Value) {
    let name = written["metadata"]["name"].as_str().unwrap();
    let (name, parsed) = if written["kind"] == "NetworkPolicy" {
        let policy: NetworkPolicy = serde_json::from_value(written.clone()).unwrap();
        let namespace = written["metadata"]["namespace"].as_str().unwrap();
        (
            PolicyName::network(namespace, name),
            object::network_policy(&policy),
        )
    } else {
        let policy = serde_json::from_value(written.clone()).unwrap();
        (
            PolicyName::cluster(name),
            object::cluster_network_policy(&policy),
        )
    };
    assert_eq!(parsed.rejections, [], "{written}");
    policies.set_policy(&name, parsed.policy);
}

/// What a node is told of a world, and its links.
pub fn tell(policies: &mut Policies, world: &World, node: &str) {
    policies.set_synced(true);
    for namespace in &world.namespaces {
        policies.set_namespace(&namespace.name, Some(Labels::new(&namespace.labels)));
    }
    for node in &world.nodes {
        let object = NodeObject {
            labels: Labels::new(&node.labels),
            addresses: node.ips.clone().into(),
        };
        policies.set_node(&node.name, Some(object));
    }
    for (at, pod) in pods(world) {
        policies.set_pod(&uid(pod), Some(object(pod)));
        if pod.node == node {
            policies.set_local(&key(pod), Some(local(pod, link(at))));
        }
    }
    for policy in &world.policies {
        set_policy(policies, policy);
    }
}

fn pods(world: &World) -> impl Iterator<Item = (usize, &Pod)> {
    let pods = world.pods.iter().enumerate();
    pods.filter(|(_, pod)| !pod.host_network)
}

fn link(at: usize) -> u32 {
    FIRST + u32::try_from(at).unwrap()
}

/// The table without any pod or policy.
pub fn empty_table() -> Table {
    let view = NodeView {
        policies: true,
        ..NodeView::default()
    };
    let (plan, _) = compile::all(&view);
    let mut table = plan.table;
    // The check of what pods send is another one's matter.
    table.chains.remove("from-pods");
    table
}

pub fn fill(table: &mut Table, elements: Elements) {
    for (bulk, elements) in elements {
        table
            .sets
            .get_mut(&bulk.name())
            .unwrap()
            .elements
            .extend(elements);
    }
}

/// A node as the tracer sees it.
pub struct Node {
    pub host: Host,
    pub table: Table,
    name: String,
}

impl Node {
    /// The node's table and surroundings.
    pub fn new(world: &World, name: &str) -> Self {
        let mut policies = Policies::new();
        tell(&mut policies, world, name);
        policies.compile();
        let mut table = empty_table();
        fill(&mut table, policies.elements());
        Self {
            host: host(world, name),
            table,
            name: name.to_owned(),
        }
    }

    /// Whether a packet from one address to another gets through.
    pub fn passes(
        &self,
        tracer: &Tracer<'_>,
        world: &World,
        question: (IpAddr, IpAddr, &str, u16),
    ) -> bool {
        let (source, destination, proto, port) = question;
        let number = match proto {
            "TCP" => l4proto::TCP,
            "UDP" => l4proto::UDP,
            _ => l4proto::SCTP,
        };
        let from = SocketAddr::new(source, 40_000);
        let packet = Packet::new(number, from, SocketAddr::new(destination, port));
        let by = pods(world).find(|(_, pod)| pod.node == self.name && pod.ips.contains(&source));
        let arrival = if let Some((at, _)) = by {
            Arrival::by(link(at), packet)
        } else if self.host.is_local(source) {
            Arrival::of_node(packet)
        } else {
            Arrival::by(UPLINK, packet)
        };
        let traces = tracer.trace(&self.host, &arrival);
        let [trace] = traces.as_slice() else {
            panic!("{} ends", traces.len());
        };
        match &trace.outcome.fate {
            Fate::Delivered | Fate::Sent { .. } => true,
            Fate::Dropped => false,
            other => panic!("{other:?}"),
        }
    }
}

fn host(world: &World, name: &str) -> Host {
    let own = world.nodes.iter().find(|node| node.name == name);
    let own = own
        .into_iter()
        .flat_map(|node| node.ips.iter().map(|ip| (*ip).into()));
    let mut host = Host::new().with_link(UPLINK, "eth0", 0, own);
    for (at, pod) in pods(world).filter(|(_, pod)| pod.node == name) {
        host = host.with_link(link(at), &format!("weft{at}"), names::POD_LINK_GROUP, []);
        for ip in &pod.ips {
            host = host.with_route((*ip).into(), Route::Link(link(at)));
        }
    }
    for net in ["0.0.0.0/0", "::/0"] {
        host = host.with_route(net.parse().unwrap(), Route::Link(UPLINK));
    }
    host
}

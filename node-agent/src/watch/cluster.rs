//! Nodes, NodeNetworks and IPBlocks: three watches become one [`ClusterInput`] for the engine.
//!
//! The first goes once all three have synced and this Node object is known; later ones whenever what
//! the engine reads has changed: the first of a series at once, the rest together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use weft_crds::{IPBlock, NodeNetwork};

use super::objects::{self, Network, Node, NodeObject};
use super::{Update, follow};
use crate::engine::{BlockObject, ClusterInput, Input, PolicyInput};
use crate::metrics::Metrics;

/// Changes within this time of the last input go together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Which stores have synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// All Nodes.
    pub nodes: bool,
    /// All NodeNetworks.
    pub networks: bool,
    /// All IPBlocks.
    pub blocks: bool,
    /// This Node object is there.
    pub own_node: bool,
}

impl Synced {
    /// What is missing, in words.
    pub fn missing(self) -> Vec<&'static str> {
        let Self {
            nodes,
            networks,
            blocks,
            own_node,
        } = self;
        let all = [
            (nodes, "Nodes"),
            (networks, "NodeNetworks"),
            (blocks, "IPBlocks"),
            (own_node, "this Node object"),
        ];
        all.into_iter()
            .filter(|(there, _)| !there)
            .map(|(_, name)| name)
            .collect()
    }
}

/// UIDs of this node's own objects, once known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Of the Node.
    pub node: Option<String>,
    /// Of the NodeNetwork, while there is one.
    pub network: Option<String>,
    /// The Node object is there, and the node is to stay.
    pub stays: bool,
}

/// Watches for ever. Ends only when the engine is gone. Through `policies` the engine is told of nodes as
/// peers of network policies.
pub async fn run(
    client: Client,
    node: String,
    inputs: Sender<Input>,
    policies: Option<Sender<Input>>,
    synced: watch::Sender<Synced>,
    identity: watch::Sender<Identity>,
    metrics: Arc<Metrics>,
) {
    let nodes = follow(
        Api::<NodeObject>::all(client.clone()),
        "Node",
        Config::default(),
        objects::node,
        metrics.clone(),
    );
    let own = node.clone();
    let trim = move |object| objects::network(object, &own);
    let networks = follow(
        Api::<NodeNetwork>::all(client.clone()),
        "NodeNetwork",
        Config::default(),
        trim,
        metrics.clone(),
    );
    let blocks = follow(
        Api::<IPBlock>::all(client),
        "IPBlock",
        Config::default(),
        objects::block,
        metrics,
    );
    let (mut nodes, mut networks, mut blocks) =
        (Box::pin(nodes), Box::pin(networks), Box::pin(blocks));

    let mut cluster = Cluster {
        node,
        ..Cluster::default()
    };
    let mut due = None;
    let mut last = Instant::now() - TOGETHER;
    loop {
        let changed = tokio::select! {
            Some(update) = nodes.next() => {
                if let Some(policies) = &policies {
                    let peers = update.clone().map(|node: Node| node.peer);
                    let _ = policies.send(Input::Policy(Box::new(PolicyInput::Node(peers))));
                }
                cluster.nodes(update)
            }
            Some(update) = networks.next() => cluster.networks(update),
            Some(update) = blocks.next() => cluster.blocks(update),
            () = sleep_until(due.unwrap_or(last)), if due.is_some() => {
                due = None;
                last = Instant::now();
                if let Some(input) = cluster.input()
                    && inputs.send(Input::Cluster(Arc::new(input))).is_err()
                {
                    return;
                }
                false
            }
        };
        synced.send_if_modified(|known| std::mem::replace(known, cluster.synced) != cluster.synced);
        identity.send_if_modified(|known| {
            let now = cluster.identity();
            std::mem::replace(known, now) != *known
        });
        if changed && due.is_none() {
            due = Some(Instant::now().max(last + TOGETHER));
        }
    }
}

/// What the three stores hold.
#[derive(Debug, Default)]
struct Cluster {
    node: String,
    synced: Synced,
    nodes: BTreeMap<String, Node>,
    networks: BTreeMap<String, Network>,
    blocks: BTreeMap<String, BlockObject>,
    /// This Node object as last seen: the node does not change because its object was deleted.
    own: Option<Node>,
}

impl Cluster {
    fn nodes(&mut self, update: Update<Node>) -> bool {
        let first =
            matches!(update, Update::Reset(_)) && !std::mem::replace(&mut self.synced.nodes, true);
        let changed = update.store(&mut self.nodes);
        if let Some(own) = self.nodes.get(&self.node) {
            self.own = Some(own.clone());
            self.synced.own_node = true;
        }
        changed || first
    }

    fn networks(&mut self, update: Update<Network>) -> bool {
        let first = matches!(update, Update::Reset(_))
            && !std::mem::replace(&mut self.synced.networks, true);
        update.store(&mut self.networks) || first
    }

    fn blocks(&mut self, update: Update<BlockObject>) -> bool {
        let first =
            matches!(update, Update::Reset(_)) && !std::mem::replace(&mut self.synced.blocks, true);
        update.store(&mut self.blocks) || first
    }

    fn identity(&self) -> Identity {
        let network = self
            .networks
            .get(&self.node)
            .map(|network| network.uid.clone());
        Identity {
            node: self.own.as_ref().map(|own| own.uid.clone()),
            network,
            stays: self.nodes.get(&self.node).is_some_and(|own| own.stays),
        }
    }

    /// `None` until everything has synced.
    fn input(&self) -> Option<ClusterInput> {
        if !self.synced.missing().is_empty() {
            return None;
        }
        let own = self.own.as_ref()?;
        let mut peers = BTreeMap::new();
        for (name, network) in self.networks.iter().filter(|(name, _)| **name != self.node) {
            if let Some(status) = &network.status {
                peers.insert(name.clone(), status.clone());
            }
        }
        let others = self
            .nodes
            .iter()
            .filter(|(name, _)| **name != self.node && !peers.contains_key(*name));
        Some(ClusterInput {
            node_uid: own.uid.clone(),
            internal_ips: own.internal_ips.clone(),
            zone: own.zone.clone(),
            network: self
                .networks
                .get(&self.node)
                .and_then(|network| network.own.clone()),
            other_addresses: others
                .map(|(name, node)| (name.clone(), node.internal_ips.clone()))
                .collect(),
            peers,
            blocks: self.blocks.values().cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use weft_crds::{NodeNetworkSpec, NodeNetworkStatus};

    use super::*;

    fn a_node(uid: &str, ip: &str) -> Node {
        Node {
            uid: uid.to_owned(),
            internal_ips: vec![ip.parse().unwrap()],
            zone: None,
            stays: true,
            peer: weft_core::policy::NodeObject::default(),
        }
    }

    fn cluster() -> Cluster {
        Cluster {
            node: "a".to_owned(),
            ..Cluster::default()
        }
    }

    fn names<T>(items: impl IntoIterator<Item = (&'static str, T)>) -> BTreeMap<String, T> {
        items
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    #[test]
    fn nothing_goes_to_the_engine_before_all_stores_have_synced() {
        let mut cluster = cluster();
        assert!(cluster.blocks(Update::Reset(BTreeMap::new())));
        assert!(cluster.networks(Update::Reset(BTreeMap::new())));
        assert_eq!(cluster.synced.missing(), ["Nodes", "this Node object"]);
        assert!(cluster.input().is_none());
        assert!(cluster.nodes(Update::Reset(names([("b", a_node("ub", "192.0.2.2"))]))));
        assert!(cluster.input().is_none());
        assert!(cluster.nodes(Update::Apply("a".to_owned(), a_node("ua", "192.0.2.1"))));
        let input = cluster.input().unwrap();
        assert_eq!((input.node_uid.as_str(), input.network), ("ua", None));
        assert_eq!(input.other_addresses.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_peer_with_a_status_is_no_longer_known_by_its_node_alone() {
        let mut cluster = cluster();
        cluster.blocks(Update::Reset(BTreeMap::new()));
        cluster.nodes(Update::Reset(names([
            ("a", a_node("ua", "192.0.2.1")),
            ("b", a_node("ub", "192.0.2.2")),
        ])));
        let own = Network {
            own: Some((NodeNetworkSpec::default(), 3)),
            ..Network::default()
        };
        cluster.networks(Update::Reset(names([
            ("a", own),
            ("b", Network::default()),
        ])));
        let input = cluster.input().unwrap();
        assert_eq!(input.network.map(|(_, generation)| generation), Some(3));
        assert_eq!((input.peers.len(), input.other_addresses.len()), (0, 1));
        let status = Network {
            status: Some(NodeNetworkStatus::default()),
            ..Network::default()
        };
        assert!(cluster.networks(Update::Apply("b".to_owned(), status.clone())));
        assert!(!cluster.networks(Update::Apply("b".to_owned(), status)));
        let input = cluster.input().unwrap();
        assert_eq!((input.peers.len(), input.other_addresses.len()), (1, 0));
    }

    #[test]
    fn a_deleted_node_object_does_not_take_away_who_we_are() {
        let mut cluster = cluster();
        cluster.blocks(Update::Reset(BTreeMap::new()));
        cluster.networks(Update::Reset(BTreeMap::new()));
        cluster.nodes(Update::Reset(names([("a", a_node("ua", "192.0.2.1"))])));
        cluster.nodes(Update::Delete("a".to_owned()));
        assert_eq!(cluster.input().unwrap().node_uid, "ua");
    }
}

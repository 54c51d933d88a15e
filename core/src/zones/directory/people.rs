//! Who has which address: pods by what their nodes' agents write, nodes by their own addresses.
//!
//! A node's address is the node's, whatever a pod says. Of pods that say the same address the youngest has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::zones::audience::{Identity, Labels};

/// What is known of a pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its node.
    pub node: Box<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// When it got them, in seconds since 1970.
    pub created: i64,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodeIdentity {
    /// Its labels.
    pub labels: Labels,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Everybody.
#[derive(Default)]
pub struct People {
    pods: HashMap<Box<str>, PodIdentity>,
    namespaces: BTreeMap<Box<str>, Labels>,
    nodes: BTreeMap<Box<str>, NodeIdentity>,
    /// Pods that say an address, the youngest last.
    by_pod: HashMap<IpAddr, BTreeSet<(i64, Box<str>)>>,
    by_node: HashMap<IpAddr, BTreeSet<Box<str>>>,
}

impl People {
    /// Takes a pod; the addresses of which something else is known now.
    pub fn set_pod(&mut self, key: &str, pod: Option<PodIdentity>) -> Vec<IpAddr> {
        let mut touched = Vec::new();
        if let Some(before) = self.pods.remove(key) {
            for address in before.addresses {
                if let Some(holders) = self.by_pod.get_mut(&address) {
                    holders.remove(&(before.created, key.into()));
                    if holders.is_empty() {
                        self.by_pod.remove(&address);
                    }
                }
                touched.push(address);
            }
        }
        if let Some(pod) = pod {
            for address in &pod.addresses {
                let holders = self.by_pod.entry(*address).or_default();
                holders.insert((pod.created, key.into()));
                touched.push(*address);
            }
            self.pods.insert(key.into(), pod);
        }
        touched
    }

    /// Takes a namespace.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> Vec<IpAddr> {
        let before = match labels.clone() {
            Some(labels) => self.namespaces.insert(name.into(), labels),
            None => self.namespaces.remove(name),
        };
        if before == labels {
            return Vec::new();
        }
        let pods = self.pods.values();
        let own = pods.filter(|pod| &*pod.namespace == name);
        own.flat_map(|pod| pod.addresses.iter().copied()).collect()
    }

    /// Takes a node.
    pub fn set_node(&mut self, name: &str, node: Option<NodeIdentity>) -> Vec<IpAddr> {
        if self.nodes.get(name) == node.as_ref() {
            return Vec::new();
        }
        let before = self.nodes.remove(name);
        let mut touched: Vec<IpAddr> = Vec::new();
        for address in before.into_iter().flat_map(|node| node.addresses) {
            if let Some(holders) = self.by_node.get_mut(&address) {
                holders.remove(name);
                if holders.is_empty() {
                    self.by_node.remove(&address);
                }
            }
            touched.push(address);
        }
        if let Some(node) = node {
            for address in &node.addresses {
                self.by_node
                    .entry(*address)
                    .or_default()
                    .insert(name.into());
                touched.push(*address);
            }
            self.nodes.insert(name.into(), node);
        }
        let pods = self.pods.values();
        let own = pods.filter(|pod| &*pod.node == name);
        touched.extend(own.flat_map(|pod| pod.addresses.iter().copied()));
        touched
    }

    /// Who has an address.
    pub fn identity(&self, address: IpAddr) -> Identity<'_> {
        static NONE: Labels = Labels::new();
        let node = self.by_node.get(&address).and_then(BTreeSet::first);
        if let Some(node) = node.and_then(|name| self.nodes.get(name)) {
            return Identity::Node(&node.labels);
        }
        let pod = self.by_pod.get(&address).and_then(BTreeSet::last);
        let Some(pod) = pod.and_then(|(_, key)| self.pods.get(key)) else {
            return Identity::Unknown;
        };
        Identity::Pod {
            namespace: self.namespaces.get(&pod.namespace).unwrap_or(&NONE),
            pod: &pod.labels,
            node: self.nodes.get(&pod.node).map_or(&NONE, |node| &node.labels),
        }
    }

    /// All addresses of which anything is known.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.by_pod.keys().chain(self.by_node.keys()).copied()
    }
}

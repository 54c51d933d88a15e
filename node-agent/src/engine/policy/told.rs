//! What was told of policies, as far as it has to be kept: names, so that a list says what is gone, and
//! pods, because what is believed of them depends on blocks that may come later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_core::policy::{Labels, PodObject, Policies, PolicyName};
use weft_core::view::NodeView;

use super::{OwnPod, PeerPod, PolicyInput};
use crate::watch::Update;

/// Names of all objects of a kind; none until they have been told once.
type Names = Option<BTreeSet<String>>;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    network_policies: Names,
    cluster_policies: Names,
    namespaces: Names,
    nodes: Names,
    own_names: Names,
    own: HashMap<String, OwnPod>,
    pod_names: Names,
    pods: HashMap<String, PeerPod>,
    /// Blocks by their first address, each with its node.
    blocks: BTreeMap<IpAddr, (IpNet, String)>,
    networks: Vec<IpNet>,
    /// Addresses of the cluster's DNS Service that a server on this node answers at.
    dns: BTreeSet<IpAddr>,
}

/// Where the servers behind the DNS Service are, and the label that policies know them by.
const DNS_PODS: (&str, &str, &str) = ("kube-system", "k8s-app", "kube-dns");

impl Told {
    /// All but the pods of other nodes was told once.
    pub(super) fn is_complete(&self) -> bool {
        let kinds = [
            &self.network_policies,
            &self.cluster_policies,
            &self.namespaces,
            &self.nodes,
            &self.own_names,
        ];
        kinds.iter().all(|names| names.is_some())
    }

    /// The pods of other nodes were told.
    pub(super) fn has_pods(&self) -> bool {
        self.pod_names.is_some()
    }

    /// The Pod of an attachment: by UID, which a static pod's mirror has as an annotation; by name where
    /// the runtime gave no UID.
    pub(super) fn own(&self, uid: &str, namespace: &str, name: &str) -> Option<&OwnPod> {
        self.own.get(uid).or_else(|| {
            self.own.values().find(|own| {
                let is_static = own.static_uid.as_deref() == Some(uid);
                *own.namespace == *namespace && *own.name == *name && (uid.is_empty() || is_static)
            })
        })
    }

    pub(super) fn hear(&mut self, input: PolicyInput, policies: &mut Policies) {
        match input {
            PolicyInput::NetworkPolicy(update) => {
                take(&mut self.network_policies, update, |key, policy| {
                    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
                    policies.set_policy(&PolicyName::network(namespace, name), policy.flatten());
                });
            }
            PolicyInput::ClusterNetworkPolicy(update) => {
                take(&mut self.cluster_policies, update, |name, policy| {
                    policies.set_policy(&PolicyName::cluster(name), policy.flatten());
                });
            }
            PolicyInput::Namespace(update) => take(&mut self.namespaces, update, |name, labels| {
                policies.set_namespace(name, labels);
            }),
            PolicyInput::Node(update) => take(&mut self.nodes, update, |name, node| {
                policies.set_node(name, node);
            }),
            PolicyInput::Own(update) => {
                let own = &mut self.own;
                take(&mut self.own_names, update, |uid, pod| match pod {
                    Some(pod) => drop(own.insert(uid.to_owned(), pod)),
                    None => drop(own.remove(uid)),
                });
            }
            PolicyInput::Pod(update) => {
                let (pods, blocks) = (&mut self.pods, &self.blocks);
                take(&mut self.pod_names, update, |key, pod| {
                    let believed = pod.as_ref().map(|pod| believed(pod, blocks));
                    policies.set_pod(key, believed);
                    match pod {
                        Some(pod) => drop(pods.insert(key.to_owned(), pod)),
                        None => drop(pods.remove(key)),
                    }
                });
            }
            PolicyInput::PodsUnwatched => {
                self.pods
                    .drain()
                    .for_each(|(key, _)| policies.set_pod(&key, None));
                self.pod_names = None;
            }
        }
    }

    /// Takes note of blocks and pools.
    pub(super) fn look_at(&mut self, view: &NodeView, policies: &mut Policies) {
        let same = view.blocks.len() == self.blocks.len()
            && view.blocks.values().all(|block| {
                let known = self.blocks.get(&block.cidr.network());
                known.is_some_and(|(net, node)| *net == block.cidr && *node == block.node)
            });
        if !same {
            let blocks = view.blocks.values();
            self.blocks = blocks
                .map(|block| {
                    let at = block.cidr.network();
                    (at, (block.cidr, block.node.clone()))
                })
                .collect();
            for (key, pod) in &self.pods {
                policies.set_pod(key, Some(believed(pod, &self.blocks)));
            }
        }
        let dns = view.dns.as_ref().map(|dns| &dns.addresses);
        if dns.map_or(!self.dns.is_empty(), |dns| *dns != self.dns) {
            self.dns = dns.cloned().unwrap_or_default();
            policies.set_pod("dns", self.dns_pod());
        }
        let networks = || view.pools.values().flat_map(|pool| &pool.cidrs);
        if !networks().eq(&self.networks) {
            self.networks = networks().copied().collect();
            policies.set_pod_networks(self.networks.clone());
        }
    }
}

impl Told {
    /// Who answers at the DNS addresses on this node counts as a pod behind the Service: what a pod may ask does not
    /// depend on who answers.
    fn dns_pod(&self) -> Option<PodObject> {
        let (namespace, key, value) = DNS_PODS;
        let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        (!self.dns.is_empty()).then(|| PodObject {
            namespace: namespace.into(),
            labels: Labels::new(&labels),
            ports: Box::default(),
            addresses: self.dns.iter().copied().collect(),
            created: 0,
        })
    }
}

/// A pod with those of its addresses that are in blocks of its node.
fn believed(pod: &PeerPod, blocks: &BTreeMap<IpAddr, (IpNet, String)>) -> PodObject {
    let PeerPod { node, pod } = pod;
    let is_of_node = |address: &&IpAddr| {
        let before = blocks.range(..=**address).next_back();
        before.is_some_and(|(_, (net, of))| net.contains(*address) && **of == **node)
    };
    PodObject {
        addresses: pod.addresses.iter().filter(is_of_node).copied().collect(),
        ..pod.clone()
    }
}

/// Brings names up to date and passes on what each object is now; none: it is gone.
fn take<T>(names: &mut Names, update: Update<T>, mut set: impl FnMut(&str, Option<T>)) {
    match update {
        Update::Apply(name, value) => {
            set(&name, Some(value));
            if let Some(names) = names {
                names.insert(name);
            }
        }
        Update::Delete(name) => {
            set(&name, None);
            if let Some(names) = names {
                names.remove(&name);
            }
        }
        Update::Reset(all) => {
            let known = names.take().unwrap_or_default();
            known
                .iter()
                .filter(|name| !all.contains_key(*name))
                .for_each(|name| set(name, None));
            *names = Some(all.keys().cloned().collect());
            for (name, value) in all {
                set(&name, Some(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, addresses: &[&str]) -> PeerPod {
        PeerPod {
            node: node.into(),
            pod: PodObject {
                namespace: "n".into(),
                labels: weft_core::policy::Labels::default(),
                ports: Box::default(),
                addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
                created: 0,
            },
        }
    }

    #[test]
    fn an_address_is_believed_within_a_block_of_the_same_node() {
        let block = |net: &str, node: &str| {
            let net: IpNet = net.parse().unwrap();
            (net.network(), (net, node.to_owned()))
        };
        let blocks = [block("10.0.0.0/26", "a"), block("10.0.0.64/26", "b")].into();
        let of = |node: &str, ip: &str| !believed(&pod(node, &[ip]), &blocks).addresses.is_empty();
        assert!(of("a", "10.0.0.1") && of("b", "10.0.0.127"));
        assert!(!of("a", "10.0.0.64"), "another node's block");
        assert!(!of("b", "10.0.0.128"), "nobody's block");
    }

    #[test]
    fn a_list_says_what_is_gone() {
        let mut names = None;
        let mut gone = Vec::new();
        let mut tell = |update, gone: &mut Vec<String>| {
            take(&mut names, update, |name, value: Option<u8>| {
                if value.is_none() {
                    gone.push(name.to_owned());
                }
            });
        };
        let all = |list: &[&str]| {
            Update::Reset(list.iter().map(|name| ((*name).to_owned(), 0)).collect())
        };
        tell(all(&["a", "b"]), &mut gone);
        tell(Update::Apply("c".to_owned(), 0), &mut gone);
        tell(all(&["b"]), &mut gone);
        assert_eq!(gone, ["a", "c"]);
    }
}

//! Policies as they are judged: one form for NetworkPolicy and ClusterNetworkPolicy.
//!
//! Parsed once at the edge. What cannot be understood never opens anything: an allowance that is not
//! understood matches nothing, a denial that is not understood denies everything of its subject, and
//! isolation stands; each is a rejection as well.

use std::fmt;

use ipnet::IpNet;

use super::selector::{Labels, Selector};
use crate::finding::Rejection;
use crate::view::Protocol;

mod cluster;
mod network;
mod text;

pub use cluster::{ClusterNetworkPolicy, cluster_network_policy};
pub use network::network_policy;

/// The name of a policy. In the order of names NetworkPolicies come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace; empty for a kind without namespaces.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// The kind of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1` NetworkPolicy
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy
    ClusterNetworkPolicy,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When it is asked.
    pub tier: Tier,
    /// The pods that it is about.
    pub subject: Pods,
    /// Rules for what comes in; none: it says nothing about that.
    pub ingress: Option<Box<[Rule]>>,
    /// Rules for what goes out; none: it says nothing about that.
    pub egress: Option<Box<[Rule]>>,
}

/// When a policy is asked: the lower first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Before NetworkPolicies, in the order of this priority, 0 to 1000.
    Admin(u16),
    /// NetworkPolicies: together, and final for the pods and directions that they isolate.
    NetworkPolicy,
    /// After them, in the order of this priority, 0 to 1000.
    Baseline(u16),
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What happens to what matches.
    pub action: Action,
    /// The other side is one of these; none: whoever it is.
    pub peers: Option<Box<[Peer]>>,
    /// The destination port is one of these; none: everything, protocols without ports too.
    pub ports: Option<Box<[PortMatch]>>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It is allowed.
    Accept,
    /// It is denied.
    Deny,
    /// The rest of the tier is not asked.
    Pass,
}

/// Who the other side may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Pods that have a network of their own.
    Pods(Pods),
    /// Nodes with such labels, by all their addresses.
    Nodes(Selector),
    /// Addresses, whoever has them.
    Network(Network),
}

/// Pods by namespace and labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pods {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// With which labels.
    pub pods: Selector,
}

/// Namespaces by name or labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// This one.
    Named(Box<str>),
    /// Those with such labels.
    Matching(Selector),
}

/// Addresses of a network less some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The network.
    pub cidr: IpNet,
    /// Networks that do not count.
    pub except: Box<[IpNet]>,
}

/// Destination ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMatch {
    /// Of this protocol; none: of any, which only named ports have.
    pub protocol: Option<Protocol>,
    /// Which.
    pub ports: PortsOf,
}

/// Ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortsOf {
    /// All.
    All,
    /// From the first to the last, both included.
    Range(u16, u16),
    /// What the destination pod calls so.
    Named(Box<str>),
}

/// A named port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodPort {
    /// Its name.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// A policy, and what of it was not understood. Without a policy none of it is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The policy.
    pub policy: Option<Policy>,
    /// What cannot be used.
    pub rejections: Vec<Rejection>,
}

impl PolicyName {
    /// The name of a NetworkPolicy.
    #[must_use]
    pub fn network(namespace: &str, name: &str) -> Self {
        Self {
            kind: PolicyKind::NetworkPolicy,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The name of a ClusterNetworkPolicy.
    #[must_use]
    pub fn cluster(name: &str) -> Self {
        Self {
            kind: PolicyKind::ClusterNetworkPolicy,
            namespace: "".into(),
            name: name.into(),
        }
    }
}

impl PolicyKind {
    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        match &*self.namespace {
            "" => write!(f, " {}", self.name),
            namespace => write!(f, " {namespace}/{}", self.name),
        }
    }
}

impl Pods {
    /// Whether a pod is among them; none as its namespace's labels while these are not known.
    #[must_use]
    pub fn matches(
        &self,
        namespace: &str,
        namespace_labels: Option<&Labels>,
        pod: &Labels,
    ) -> bool {
        let Self { namespaces, pods } = self;
        let there = match namespaces {
            Namespaces::Named(name) => **name == *namespace,
            Namespaces::Matching(selector) => {
                namespace_labels.is_some_and(|labels| selector.matches(labels))
            }
        };
        there && pods.matches(pod)
    }
}

impl Network {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        let Self { cidr, except } = self;
        cidr.contains(&address) && !except.iter().any(|net| net.contains(&address))
    }
}

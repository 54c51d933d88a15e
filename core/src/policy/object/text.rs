//! Parts of policies as sentences, for people who ask what is in force.

use std::fmt;

use super::{Action, Namespaces, Network, Peer, Pods, PortMatch, PortsOf, Tier};
use crate::view::Protocol;

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(priority) => write!(f, "tier Admin, priority {priority}"),
            Self::NetworkPolicy => f.write_str("NetworkPolicy"),
            Self::Baseline(priority) => write!(f, "tier Baseline, priority {priority}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "Accept",
            Self::Deny => "Deny",
            Self::Pass => "Pass",
        })
    }
}

impl fmt::Display for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespaces, pods } = self;
        if pods.is_everything() {
            f.write_str("all pods in ")?;
        } else {
            write!(f, "pods {pods} in ")?;
        }
        match namespaces {
            Namespaces::Named(name) => write!(f, "namespace {name}"),
            Namespaces::Matching(selector) if selector.is_everything() => {
                f.write_str("all namespaces")
            }
            Namespaces::Matching(selector) => write!(f, "namespaces {selector}"),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cidr, except } = self;
        write!(f, "{cidr}")?;
        for (at, net) in except.iter().enumerate() {
            write!(f, "{} {net}", if at == 0 { " except" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(pods) => pods.fmt(f),
            Self::Nodes(selector) if selector.is_everything() => f.write_str("all nodes"),
            Self::Nodes(selector) => write!(f, "nodes {selector}"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, ports } = self;
        let protocol = match protocol {
            Some(Protocol::Tcp) => "TCP",
            Some(Protocol::Udp) => "UDP",
            Some(Protocol::Sctp) => "SCTP",
            None => "any protocol",
        };
        match ports {
            PortsOf::All => f.write_str(protocol),
            PortsOf::Range(first, last) if first == last => write!(f, "{protocol} {first}"),
            PortsOf::Range(first, last) => write!(f, "{protocol} {first}-{last}"),
            PortsOf::Named(name) => write!(f, "{protocol} {name:?}"),
        }
    }
}

//! Which nodes take part in an overlay, and by which family their packets travel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use weft_crds::UnderlayFamily;

use super::validate::{Overlays, ValidOverlay};
use crate::selector;
use crate::snapshot::Snapshot;

/// An overlay, resolved for the cluster as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Nodes that its selector matches.
    pub nodes: BTreeSet<String>,
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// Nodes without an InternalIP of that family, where no underlay network is asked for.
    pub without_address: BTreeSet<String>,
}

/// Resolves every overlay that could be read.
#[must_use]
pub fn resolve(snapshot: &Snapshot, overlays: &Overlays) -> BTreeMap<String, Resolved> {
    overlays
        .valid
        .iter()
        .map(|(name, overlay)| (name.clone(), resolve_one(snapshot, name, overlay)))
        .collect()
}

/// Addresses of a node of a type such as `InternalIP`.
pub fn addresses<'a>(node: &'a Node, type_: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    node.status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten())
        .filter(move |address| address.type_ == type_)
        .filter_map(|address| address.address.parse().ok())
}

fn resolve_one(snapshot: &Snapshot, name: &str, overlay: &ValidOverlay) -> Resolved {
    let nodes: BTreeMap<&String, &Node> = snapshot
        .nodes
        .iter()
        .filter(|(_, node)| selector::matches(&overlay.nodes, node.metadata.labels.as_ref()))
        .map(|(name, node)| (name, node.as_ref()))
        .collect();
    let all_have_v4 = nodes
        .values()
        .all(|node| addresses(node, "InternalIP").any(|address| address.is_ipv4()));
    let family = match overlay.family {
        UnderlayFamily::IPv4 => "IPv4",
        UnderlayFamily::IPv6 => "IPv6",
        // What nodes were told stays: a node that joins later must not turn the others round.
        UnderlayFamily::Auto => {
            told(snapshot, name).unwrap_or(if all_have_v4 { "IPv4" } else { "IPv6" })
        }
    };
    let without_address = nodes
        .iter()
        .filter(|_| overlay.underlay_cidrs.is_empty())
        .filter(|(_, node)| {
            !addresses(node, "InternalIP").any(|address| address.is_ipv6() == (family == "IPv6"))
        })
        .map(|(name, _)| (*name).clone())
        .collect();
    Resolved {
        nodes: nodes.into_keys().cloned().collect(),
        family,
        without_address,
    }
}

fn told(snapshot: &Snapshot, overlay: &str) -> Option<&'static str> {
    let families: BTreeSet<&str> = snapshot
        .node_networks
        .iter()
        .filter(|(node, _)| snapshot.nodes.contains_key(*node))
        .flat_map(|(_, network)| &network.spec.overlays)
        .filter(|told| told.name == overlay)
        .map(|told| told.underlay_family.as_str())
        .collect();
    match families.first() {
        Some(&"IPv6") => Some("IPv6"),
        Some(_) => Some("IPv4"),
        None => None,
    }
}

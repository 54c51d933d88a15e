//! Facts: single entries of a plan, each with the item that it is the value of.
//!
//! Items order a plan's entries so that what others stand in comes first: a set before its elements.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_nft::{Chain, Element, Key, Set};

use crate::plan::{LinkAddress, LinkName, Mac, NodePlan, PodLink, Route, VxlanLink};

/// What a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A VXLAN device.
    Vxlan(LinkName),
    /// The host end of a pod's veth pair.
    PodLink(LinkName),
    /// An address on a link.
    Address(LinkName, IpNet),
    /// A neighbour entry.
    Neighbour(LinkName, IpAddr),
    /// A VXLAN forwarding entry.
    Forwarding(LinkName, Mac),
    /// A route.
    Route(IpNet),
    /// A chain.
    Chain(String),
    /// A set or map, without its elements.
    Set(String),
    /// An element of a set or map.
    Element(String, Key),
    /// A value below `/proc/sys/net`.
    Sysctl(String),
}

/// An entry of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A VXLAN device.
    Vxlan(LinkName, VxlanLink),
    /// The host end of a pod's veth pair.
    PodLink(LinkName, PodLink),
    /// An address on a link.
    Address(LinkAddress),
    /// A neighbour entry.
    Neighbour(LinkName, IpAddr, Mac),
    /// A VXLAN forwarding entry.
    Forwarding(LinkName, Mac, IpAddr),
    /// A route.
    Route(IpNet, Route),
    /// A chain.
    Chain(String, Chain),
    /// A set or map without elements.
    Set(String, Set),
    /// An element of a set or map.
    Element(String, Key, Element),
    /// A value below `/proc/sys/net`.
    Sysctl(String, String),
}

impl Fact {
    /// What it is about.
    #[must_use]
    pub fn item(&self) -> Item {
        match self {
            Self::Vxlan(link, _) => Item::Vxlan(link.clone()),
            Self::PodLink(link, _) => Item::PodLink(link.clone()),
            Self::Address(LinkAddress { link, address, .. }) => {
                Item::Address(link.clone(), *address)
            }
            Self::Neighbour(link, address, _) => Item::Neighbour(link.clone(), *address),
            Self::Forwarding(link, mac, _) => Item::Forwarding(link.clone(), *mac),
            Self::Route(destination, _) => Item::Route(*destination),
            Self::Chain(name, _) => Item::Chain(name.clone()),
            Self::Set(name, _) => Item::Set(name.clone()),
            Self::Element(set, key, _) => Item::Element(set.clone(), key.clone()),
            Self::Sysctl(path, _) => Item::Sysctl(path.clone()),
        }
    }
}

/// Puts a fact into a plan; `item` is the fact's own.
pub(super) fn put(plan: &mut NodePlan, item: Item, fact: Fact) {
    remove_unless_set(plan, &item);
    match fact {
        Fact::Vxlan(link, vxlan) => drop(plan.net.vxlans.insert(link, vxlan)),
        Fact::PodLink(link, pod) => drop(plan.net.pod_links.insert(link, pod)),
        Fact::Address(address) => drop(plan.net.addresses.insert(address)),
        Fact::Neighbour(link, ip, mac) => drop(plan.net.neighbours.insert((link, ip), mac)),
        Fact::Forwarding(link, mac, ip) => drop(plan.net.forwarding.insert((link, mac), ip)),
        Fact::Route(destination, route) => drop(plan.net.routes.insert(destination, route)),
        Fact::Chain(name, chain) => drop(plan.table.chains.insert(name, chain)),
        Fact::Set(name, set) => {
            let elements = plan.table.sets.remove(&name).map(|set| set.elements);
            let elements = elements.unwrap_or_default();
            plan.table.sets.insert(name, Set { elements, ..set });
        }
        Fact::Element(set, key, element) => {
            let set = plan.table.sets.entry(set).or_default();
            set.elements.insert(key, element);
        }
        Fact::Sysctl(path, value) => drop(plan.sysctls.insert(path, value)),
    }
}

/// Takes an item out of a plan.
pub(super) fn take(plan: &mut NodePlan, item: &Item) {
    match item {
        Item::Vxlan(link) => drop(plan.net.vxlans.remove(link)),
        Item::PodLink(link) => drop(plan.net.pod_links.remove(link)),
        Item::Address(link, address) => {
            for link_scope in [false, true] {
                plan.net.addresses.remove(&LinkAddress {
                    link: link.clone(),
                    address: *address,
                    link_scope,
                });
            }
        }
        Item::Neighbour(link, ip) => drop(plan.net.neighbours.remove(&(link.clone(), *ip))),
        Item::Forwarding(link, mac) => drop(plan.net.forwarding.remove(&(link.clone(), *mac))),
        Item::Route(destination) => drop(plan.net.routes.remove(destination)),
        Item::Chain(name) => drop(plan.table.chains.remove(name)),
        Item::Set(name) => drop(plan.table.sets.remove(name)),
        Item::Element(set, key) => {
            if let Some(set) = plan.table.sets.get_mut(set) {
                set.elements.remove(key);
            }
        }
        Item::Sysctl(path) => drop(plan.sysctls.remove(path)),
    }
}

/// A set keeps its elements when only its declaration changes.
fn remove_unless_set(plan: &mut NodePlan, item: &Item) {
    if !matches!(item, Item::Set(_)) {
        take(plan, item);
    }
}

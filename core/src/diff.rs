//! The difference of two [`NetState`]s as an ordered list of changes.
//!
//! Order: what others need is made first; routes are replaced in place, so that no packet finds
//! none; what is not wanted any more goes last. Pods' links are never made or deleted here: they
//! come with ADD and go with the pod's namespace, and a plan only sets their properties.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::plan::{LinkAddress, LinkName, Mac, NetState, PodLink, Route, VxlanLink};

/// One change of the kernel's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Deletes a VXLAN device, and with it everything that is on it.
    DeleteVxlan(LinkName),
    /// Makes a VXLAN device, and sets it up.
    CreateVxlan(LinkName, VxlanLink),
    /// Sets hardware address and MTU of a VXLAN device that is there.
    SetVxlan(LinkName, VxlanLink),
    /// Sets hardware address and MTU of a pod's host link.
    SetPodLink(LinkName, PodLink),
    /// Adds an address.
    AddAddress(LinkAddress),
    /// Adds or replaces a permanent neighbour entry.
    ReplaceNeighbour(LinkName, IpAddr, Mac),
    /// Adds or replaces a VXLAN forwarding entry.
    ReplaceForwarding(LinkName, Mac, IpAddr),
    /// Adds a route or takes the place of the one to the same destination.
    ReplaceRoute(IpNet, Route),
    /// Removes this route.
    RemoveRoute(IpNet, Route),
    /// Removes a VXLAN forwarding entry.
    RemoveForwarding(LinkName, Mac),
    /// Removes a neighbour entry.
    RemoveNeighbour(LinkName, IpAddr),
    /// Removes an address.
    RemoveAddress(LinkAddress),
}

/// Changes in the order in which they are to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<Change>);

/// What turns one state into the other.
#[must_use]
pub fn diff(have: &NetState, want: &NetState) -> Changes {
    let mut changes = Changes::default();
    let mut have = have.clone();
    // A device whose VNI, port or source address changes has to be made again.
    for (link, vxlan) in &want.vxlans {
        if have
            .vxlans
            .get(link)
            .is_some_and(|old| !same_device(old, vxlan))
        {
            changes.push(&mut have, Change::DeleteVxlan(link.clone()));
        }
    }
    changes.additions(&have, want);
    changes.removals(&have, want);
    changes
}

impl Changes {
    /// Nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the changes on a model of the kernel.
    pub fn apply(&self, state: &mut NetState) {
        for change in &self.0 {
            change.apply(state);
        }
    }

    fn push(&mut self, state: &mut NetState, change: Change) {
        change.apply(state);
        self.0.push(change);
    }

    fn additions(&mut self, have: &NetState, want: &NetState) {
        let NetState {
            vxlans,
            pod_links,
            addresses,
            neighbours,
            forwarding,
            routes,
        } = want;
        for (link, vxlan) in vxlans {
            match have.vxlans.get(link) {
                None => self
                    .0
                    .push(Change::CreateVxlan(link.clone(), vxlan.clone())),
                Some(old) if old != vxlan => {
                    self.0.push(Change::SetVxlan(link.clone(), vxlan.clone()));
                }
                Some(_) => {}
            }
        }
        for (link, pod) in pod_links {
            if have.pod_links.get(link) != Some(pod) {
                self.0.push(Change::SetPodLink(link.clone(), pod.clone()));
            }
        }
        for address in addresses.difference(&have.addresses) {
            // The kernel knows one entry of an address on a link, whatever its scope.
            let other = LinkAddress {
                link_scope: !address.link_scope,
                ..address.clone()
            };
            if have.addresses.contains(&other) {
                self.0.push(Change::RemoveAddress(other));
            }
            self.0.push(Change::AddAddress(address.clone()));
        }
        for ((link, ip), mac) in neighbours {
            if have.neighbours.get(&(link.clone(), *ip)) != Some(mac) {
                self.0
                    .push(Change::ReplaceNeighbour(link.clone(), *ip, *mac));
            }
        }
        for ((link, mac), ip) in forwarding {
            if have.forwarding.get(&(link.clone(), *mac)) != Some(ip) {
                self.0
                    .push(Change::ReplaceForwarding(link.clone(), *mac, *ip));
            }
        }
        // Nothing leads to what is local before the rules say so, and then it must be there.
        let locals = routes.iter();
        let (locals, routes): (Vec<_>, Vec<_>) =
            locals.partition(|(_, route)| matches!(route, Route::Local { .. }));
        for (destination, route) in locals {
            match have.routes.get(destination) {
                Some(old) if old == route => continue,
                // The two are in different tables.
                Some(old) if !matches!(old, Route::Local { .. }) => {
                    self.0.push(Change::RemoveRoute(*destination, old.clone()));
                }
                _ => {}
            }
            self.0
                .push(Change::ReplaceRoute(*destination, route.clone()));
        }
        for (destination, route) in routes {
            let old = have.routes.get(destination);
            if old == Some(route) {
                continue;
            }
            if let Some(old @ Route::Local { .. }) = old {
                self.0.push(Change::RemoveRoute(*destination, old.clone()));
            }
            self.0
                .push(Change::ReplaceRoute(*destination, route.clone()));
        }
    }

    fn removals(&mut self, have: &NetState, want: &NetState) {
        let NetState {
            vxlans,
            pod_links: _,
            addresses,
            neighbours,
            forwarding,
            routes,
        } = have;
        // What is on a device that goes need not be removed one by one, but routes may be wanted
        // elsewhere, and the audit counts what it asked for.
        for (destination, route) in routes {
            if !want.routes.contains_key(destination) {
                self.0
                    .push(Change::RemoveRoute(*destination, route.clone()));
            }
        }
        for key @ (link, mac) in forwarding.keys() {
            if !want.forwarding.contains_key(key) {
                self.0.push(Change::RemoveForwarding(link.clone(), *mac));
            }
        }
        for key @ (link, ip) in neighbours.keys() {
            if !want.neighbours.contains_key(key) {
                self.0.push(Change::RemoveNeighbour(link.clone(), *ip));
            }
        }
        for address in addresses.difference(&want.addresses) {
            let other = LinkAddress {
                link_scope: !address.link_scope,
                ..address.clone()
            };
            if !want.addresses.contains(&other) {
                self.0.push(Change::RemoveAddress(address.clone()));
            }
        }
        for link in vxlans.keys() {
            if !want.vxlans.contains_key(link) {
                self.0.push(Change::DeleteVxlan(link.clone()));
            }
        }
    }
}

impl Change {
    /// Makes the change on a model of the kernel.
    pub fn apply(&self, state: &mut NetState) {
        match self.clone() {
            Self::DeleteVxlan(link) => delete_link(state, &link),
            Self::CreateVxlan(link, vxlan) | Self::SetVxlan(link, vxlan) => {
                state.vxlans.insert(link, vxlan);
            }
            Self::SetPodLink(link, pod) => drop(state.pod_links.insert(link, pod)),
            Self::AddAddress(address) => drop(state.addresses.insert(address)),
            Self::ReplaceNeighbour(link, ip, mac) => {
                state.neighbours.insert((link, ip), mac);
            }
            Self::ReplaceForwarding(link, mac, ip) => {
                state.forwarding.insert((link, mac), ip);
            }
            Self::ReplaceRoute(destination, route) => {
                state.routes.insert(destination, route);
            }
            Self::RemoveRoute(destination, _) => drop(state.routes.remove(&destination)),
            Self::RemoveForwarding(link, mac) => drop(state.forwarding.remove(&(link, mac))),
            Self::RemoveNeighbour(link, ip) => drop(state.neighbours.remove(&(link, ip))),
            Self::RemoveAddress(address) => drop(state.addresses.remove(&address)),
        }
    }
}

/// The kernel takes everything along that is on a deleted link.
fn delete_link(state: &mut NetState, link: &str) {
    state.vxlans.remove(link);
    state.addresses.retain(|address| address.link != link);
    state.neighbours.retain(|(on, _), _| on != link);
    state.forwarding.retain(|(on, _), _| on != link);
    state.routes.retain(|_, route| match route {
        Route::Unicast { link: by, .. } => by != link,
        Route::Unreachable | Route::Local { .. } => true,
    });
}

/// The kernel cannot change what these fields say without making the device again.
fn same_device(a: &VxlanLink, b: &VxlanLink) -> bool {
    let VxlanLink {
        vni,
        port,
        local,
        mac: _,
        mtu: _,
    } = a;
    (*vni, *port, *local) == (b.vni, b.port, b.local)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteVxlan(link) => write!(f, "- link {link}"),
            Self::CreateVxlan(link, vxlan) => write!(f, "+ link {link} {vxlan}"),
            Self::SetVxlan(link, vxlan) => write!(f, "~ link {link} {vxlan}"),
            Self::SetPodLink(link, pod) => write!(f, "~ link {link} {pod}"),
            Self::AddAddress(address) => write!(f, "+ address {address}"),
            Self::ReplaceNeighbour(link, ip, mac) => {
                write!(f, "~ neighbour {ip} lladdr {mac} dev {link}")
            }
            Self::ReplaceForwarding(link, mac, ip) => write!(f, "~ fdb {mac} dst {ip} dev {link}"),
            Self::ReplaceRoute(destination, route) => write!(f, "~ route {destination} {route}"),
            Self::RemoveRoute(destination, _) => write!(f, "- route {destination}"),
            Self::RemoveForwarding(link, mac) => write!(f, "- fdb {mac} dev {link}"),
            Self::RemoveNeighbour(link, ip) => write!(f, "- neighbour {ip} dev {link}"),
            Self::RemoveAddress(address) => write!(f, "- address {address}"),
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

#[cfg(test)]
mod tests;

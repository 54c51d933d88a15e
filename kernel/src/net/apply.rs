//! Changes of a plan, executed in their order.
//!
//! Links come first by the order of changes themselves; before the first change that is about
//! something *on* links, their indices are looked up once, so nothing here depends on memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use weft_core::plan::{LinkAddress, LinkName, Mac, PodLink, ROUTE_PROTOCOL, Route, VxlanLink};

use super::step::{Error, Failure, Step, execute};
use super::{address, link, neighbour, route};
use crate::netlink::{self, Refusal, Socket};

/// One difference between what is and what should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make a VXLAN device; one of the same name is replaced.
    CreateVxlan(LinkName, VxlanLink),
    /// Set hardware address and MTU of a VXLAN device, and bring it up.
    SetVxlan(LinkName, VxlanLink),
    /// Delete a VXLAN device.
    DeleteVxlan(LinkName),
    /// Set hardware address and MTU of the host end of a pod's veth pair, and bring it up.
    SetPodLink(LinkName, PodLink),
    /// Add an address to a link.
    AddAddress(LinkAddress),
    /// Delete an address from a link.
    DeleteAddress(LinkAddress),
    /// Set a permanent neighbour.
    SetNeighbour(LinkName, IpAddr, Mac),
    /// Delete a neighbour.
    DeleteNeighbour(LinkName, IpAddr),
    /// Set a forwarding entry of a VXLAN device.
    SetForwarding(LinkName, Mac, IpAddr),
    /// Delete a forwarding entry of a VXLAN device.
    DeleteForwarding(LinkName, Mac),
    /// Add a route where we had none. Somebody else's to the same destination stays, and is an error.
    AddRoute(IpNet, Route),
    /// Replace our route.
    SetRoute(IpNet, Route),
    /// Delete our route.
    DeleteRoute(IpNet),
}

/// Executes changes in order. A change that fails does not keep the ones behind it from being tried.
///
/// What should go and is not there is success, as is what should come and is there already.
///
/// # Errors
/// [`Error::Refused`] with all changes that failed, each named with the kernel's reason.
pub fn apply(socket: &mut Socket, changes: &[Change]) -> Result<(), Error> {
    let mut failures = Vec::new();
    for run in changes.chunk_by(|a, b| a.is_about_link() == b.is_about_link()) {
        if run[0].is_about_link() {
            failures.extend(apply_to_links(socket, run)?);
        } else {
            failures.extend(apply_on_links(socket, run)?);
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::Refused(failures)) }
}

impl Change {
    fn is_about_link(&self) -> bool {
        matches!(
            self,
            Self::CreateVxlan(..) | Self::SetVxlan(..) | Self::DeleteVxlan(..) | Self::SetPodLink(..)
        )
    }

    /// The link that must be there, if this change is about something on a link.
    fn link(&self) -> Option<&LinkName> {
        match self {
            Self::CreateVxlan(link, _)
            | Self::SetVxlan(link, _)
            | Self::DeleteVxlan(link)
            | Self::SetPodLink(link, _)
            | Self::SetNeighbour(link, ..)
            | Self::DeleteNeighbour(link, _)
            | Self::SetForwarding(link, ..)
            | Self::DeleteForwarding(link, _) => Some(link),
            Self::AddAddress(address) | Self::DeleteAddress(address) => Some(&address.link),
            Self::AddRoute(_, Route::Unicast { link, .. }) | Self::SetRoute(_, Route::Unicast { link, .. }) => {
                Some(link)
            }
            Self::AddRoute(_, Route::Unreachable)
            | Self::SetRoute(_, Route::Unreachable)
            | Self::DeleteRoute(_) => None,
        }
    }

    fn deletes(&self) -> bool {
        matches!(
            self,
            Self::DeleteVxlan(_)
                | Self::DeleteAddress(_)
                | Self::DeleteNeighbour(..)
                | Self::DeleteForwarding(..)
                | Self::DeleteRoute(_)
        )
    }

    /// The step that makes this change; `index` is that of [`Self::link`].
    fn step(&self, index: u32) -> Option<Step> {
        Some(match self {
            Self::AddAddress(new) => address::add(&new.link, index, new.address, new.link_scope),
            Self::DeleteAddress(old) => address::delete(&old.link, index, old.address),
            Self::SetNeighbour(link, address, mac) => neighbour::replace(link, index, *address, *mac),
            Self::DeleteNeighbour(link, address) => neighbour::delete(link, index, *address),
            Self::SetForwarding(link, mac, node) => neighbour::replace_forwarding(link, index, *mac, *node),
            Self::DeleteForwarding(link, mac) => neighbour::delete_forwarding(link, index, *mac),
            Self::AddRoute(to, new) => route::add(*to, new, index),
            Self::SetRoute(to, new) => route::replace(*to, new, index),
            Self::DeleteRoute(to) => route::delete(*to),
            Self::CreateVxlan(..) | Self::SetVxlan(..) | Self::DeleteVxlan(_) | Self::SetPodLink(..) => return None,
        })
    }
}

fn apply_to_links(socket: &mut Socket, changes: &[Change]) -> Result<Vec<Failure>, netlink::Error> {
    let mut steps = Vec::new();
    for change in changes {
        match change {
            Change::CreateVxlan(name, new) => steps.extend(link::create_vxlan(name, new)),
            Change::SetVxlan(name, new) => steps.extend(link::set_vxlan(name, new)),
            Change::SetPodLink(name, new) => steps.extend(link::set_pod_link(name, new)),
            Change::DeleteVxlan(name) => steps.push(link::delete(name)),
            _ => {}
        }
    }
    let failed = execute(socket, &steps)?;
    let mut failures = Vec::new();
    for (_, failure) in failed {
        // A device of the name, but not the wanted one: made by somebody else, or left by an old version.
        let taken = changes.iter().find_map(|change| match change {
            Change::CreateVxlan(name, new)
                if failure.refusal.errno == Errno::EEXIST && failure.what.contains(name.as_str()) =>
            {
                Some((name, new))
            }
            _ => None,
        });
        match taken {
            Some((name, new)) => {
                let mut again = vec![link::delete(name)];
                again.extend(link::create_vxlan(name, new));
                failures.extend(execute(socket, &again)?.into_iter().map(|(_, failure)| failure));
            }
            None => failures.push(failure),
        }
    }
    Ok(failures)
}

fn apply_on_links(socket: &mut Socket, changes: &[Change]) -> Result<Vec<Failure>, netlink::Error> {
    let links: BTreeSet<&LinkName> = changes.iter().filter_map(Change::link).collect();
    let indices = link::indices(socket, links.into_iter().cloned())?;
    let mut failures = Vec::new();
    let (mut steps, mut origins) = (Vec::new(), Vec::new());
    for change in changes {
        let index = match change.link() {
            None => 0,
            Some(link) => match indices.get(link) {
                Some(index) => *index,
                None if change.deletes() => continue,
                None => {
                    failures.extend(change.step(0).map(no_such_link));
                    continue;
                }
            },
        };
        if let Some(step) = change.step(index) {
            steps.push(step);
            origins.push(change);
        }
    }
    let mut taken = BTreeMap::new();
    for (place, failure) in execute(socket, &steps)? {
        match origins.get(place) {
            Some(Change::AddRoute(to, route)) if failure.refusal.errno == Errno::EEXIST => {
                let index = change_index(&indices, route);
                taken.insert(*to, (route::replace(*to, route, index), failure));
            }
            _ => failures.push(failure),
        }
    }
    if !taken.is_empty() {
        failures.extend(replace_ours(socket, taken)?);
    }
    Ok(failures)
}

/// A destination that has a route already: ours is replaced, somebody else's is left alone.
fn replace_ours(
    socket: &mut Socket,
    taken: BTreeMap<IpNet, (Step, Failure)>,
) -> Result<Vec<Failure>, netlink::Error> {
    let mut ours = BTreeSet::new();
    for family in super::observe::FAMILIES {
        for message in socket.dump(&route::list(family, Some(ROUTE_PROTOCOL)), route::is_ours)? {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                ours.extend(route::destination(&message));
            }
        }
    }
    let (replaced, foreign): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(to, _)| ours.contains(to));
    let steps: Vec<Step> = replaced.into_iter().map(|(_, (step, _))| step).collect();
    let mut failures: Vec<Failure> = execute(socket, &steps)?.into_iter().map(|(_, failure)| failure).collect();
    failures.extend(foreign.into_iter().map(|(to, (_, mut failure))| {
        let remedy = format!("somebody else has a route to {to}: delete it, or take {to} out of the pools");
        failure.refusal.explanation = Some(remedy);
        failure
    }));
    Ok(failures)
}

fn change_index(indices: &BTreeMap<LinkName, u32>, route: &Route) -> u32 {
    match route {
        Route::Unicast { link, .. } => indices.get(link).copied().unwrap_or_default(),
        Route::Unreachable => 0,
    }
}

fn no_such_link(step: Step) -> Failure {

    Failure {
        what: step.what,
        refusal: Refusal {
            errno: Errno::ENODEV,
            explanation: None,
        },
    }
}

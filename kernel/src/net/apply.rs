//! Changes of a plan, executed in their order.
//!
//! Before changes that are about something *on* links, the links' indices are looked up, so nothing
//! here depends on memory. A route is added as a new one first: the kernel would otherwise put it into
//! the place of somebody else's. Only where there is one already is it found out whose it is.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use weft_core::diff::{Change, Changes};
use weft_core::plan::{LinkName, Mac, PodLink, Route, VxlanLink};

use super::step::{Error, Failure, Step, execute};
use super::{address, link, neighbour, route};
use crate::netlink::{self, Refusal, Socket};

/// Executes changes in order. A change that fails does not keep the ones behind it from being tried.
///
/// What should go and is not there is success, as is what should come and is there already.
///
/// # Errors
/// [`Error::Refused`] with all changes that failed, each named with the kernel's reason.
pub fn apply(socket: &mut Socket, changes: &Changes) -> Result<(), Error> {
    let Changes(changes) = changes;
    let mut failures = Vec::new();
    for run in changes.chunk_by(|a, b| is_about_link(a) == is_about_link(b)) {
        if run.iter().any(is_about_link) {
            failures.extend(apply_to_links(socket, run)?);
        } else {
            failures.extend(apply_on_links(socket, run)?);
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Refused(failures))
    }
}

fn is_about_link(change: &Change) -> bool {
    matches!(
        change,
        Change::CreateVxlan(..)
            | Change::SetVxlan(..)
            | Change::DeleteVxlan(..)
            | Change::SetPodLink(..)
    )
}

fn removes(change: &Change) -> bool {
    matches!(
        change,
        Change::DeleteVxlan(_)
            | Change::RemoveAddress(_)
            | Change::RemoveNeighbour(..)
            | Change::RemoveForwarding(..)
            | Change::RemoveRoute(..)
    )
}

/// The link that must be there for a change.
fn link_of(change: &Change) -> Option<&LinkName> {
    match change {
        Change::CreateVxlan(link, _)
        | Change::SetVxlan(link, _)
        | Change::DeleteVxlan(link)
        | Change::SetPodLink(link, _)
        | Change::ReplaceNeighbour(link, ..)
        | Change::RemoveNeighbour(link, _)
        | Change::ReplaceForwarding(link, ..)
        | Change::RemoveForwarding(link, _) => Some(link),
        Change::AddAddress(address) | Change::RemoveAddress(address) => Some(&address.link),
        Change::ReplaceRoute(_, Route::Unicast { link, .. }) => Some(link),
        Change::ReplaceRoute(_, Route::Unreachable | Route::Local { .. })
        | Change::RemoveRoute(..) => None,
    }
}

/// The steps that make a change; `index` is that of its link, where the change is about something on one.
fn steps(change: &Change, index: u32) -> Vec<Step> {
    vec![match change {
        Change::CreateVxlan(name, new) => return link::create_vxlan(name, new),
        Change::SetVxlan(name, new) => return link::set(name, new.mtu),
        Change::SetPodLink(name, new) => return link::set(name, new.mtu),
        Change::DeleteVxlan(name) => link::delete(name),
        Change::AddAddress(new) => address::add(&new.link, index, new.address, new.link_scope),
        Change::RemoveAddress(old) => address::delete(&old.link, index, old.address),
        Change::ReplaceNeighbour(link, address, mac) => {
            neighbour::replace(link, index, *address, *mac)
        }
        Change::RemoveNeighbour(link, address) => neighbour::delete(link, index, *address),
        Change::ReplaceForwarding(link, mac, node) => {
            neighbour::replace_forwarding(link, index, *mac, *node)
        }
        Change::RemoveForwarding(link, mac) => neighbour::delete_forwarding(link, index, *mac),
        Change::ReplaceRoute(to, new) => route::add(*to, new, index),
        Change::RemoveRoute(to, old) => route::delete(*to, old),
    }]
}

fn apply_to_links(socket: &mut Socket, changes: &[Change]) -> Result<Vec<Failure>, netlink::Error> {
    let mut todo = Vec::new();
    for change in changes {
        match change {
            Change::SetVxlan(name, VxlanLink { mac, .. })
            | Change::SetPodLink(name, PodLink { mac, .. }) => {
                todo.extend(mac_steps(socket, name, *mac)?);
            }
            _ => {}
        }
        todo.extend(steps(change, 0));
    }
    let failed = execute(socket, &todo)?;
    let mut failures = Vec::new();
    for (_, failure) in failed {
        // A device of the name, but not the wanted one: made by somebody else, or left by an old version.
        let taken = changes.iter().find_map(|change| match change {
            Change::CreateVxlan(name, new)
                if failure.refusal.errno == Errno::EEXIST
                    && failure.what.contains(name.as_str()) =>
            {
                Some((name, new))
            }
            _ => None,
        });
        match taken {
            Some((name, new)) => {
                let mut again = vec![link::delete(name)];
                again.extend(link::create_vxlan(name, new));
                failures.extend(
                    execute(socket, &again)?
                        .into_iter()
                        .map(|(_, failure)| failure),
                );
            }
            None => failures.push(failure),
        }
    }
    Ok(failures)
}

/// Sets a hardware address where it differs, and gives the link its permanent neighbours back.
fn mac_steps(socket: &mut Socket, name: &str, mac: Mac) -> Result<Vec<Step>, netlink::Error> {
    let Some(found) = link::find(socket, name)?.filter(|found| found.mac != Some(mac)) else {
        return Ok(Vec::new());
    };
    let mut steps = vec![link::set_mac(name, mac)];
    for family in super::observe::FAMILIES {
        let keep = |payload: &[u8]| {
            neighbour::is_permanent(payload) && neighbour::link_of(payload) == Some(found.index)
        };
        for message in socket.dump(&neighbour::list(family), keep)? {
            let RouteNetlinkMessage::NewNeighbour(message) = message else {
                continue;
            };
            let entry = neighbour::read(&message);
            steps.extend(
                entry.map(|(address, mac)| neighbour::replace(name, found.index, address, mac)),
            );
        }
    }
    Ok(steps)
}

fn apply_on_links(socket: &mut Socket, changes: &[Change]) -> Result<Vec<Failure>, netlink::Error> {
    let links: BTreeSet<&LinkName> = changes.iter().filter_map(link_of).collect();
    let indices = link::indices(socket, links.into_iter().cloned())?;
    let mut failures = Vec::new();
    let (mut todo, mut origins) = (Vec::new(), Vec::new());
    for change in changes {
        let index = match link_of(change) {
            None => 0,
            Some(link) => match indices.get(link) {
                Some(index) => *index,
                None if removes(change) => continue,
                None => {
                    failures.extend(steps(change, 0).into_iter().map(no_such_link));
                    continue;
                }
            },
        };
        for step in steps(change, index) {
            todo.push(step);
            origins.push(change);
        }
    }
    let mut taken = BTreeMap::new();
    for (place, failure) in execute(socket, &todo)? {
        match origins.get(place) {
            Some(Change::ReplaceRoute(to, route)) if failure.refusal.errno == Errno::EEXIST => {
                let index = index_of(&indices, route);
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
        for list in route::list_ours(family) {
            for message in socket.dump(&list, route::is_ours)? {
                if let RouteNetlinkMessage::NewRoute(message) = message {
                    ours.extend(route::destination(&message));
                }
            }
        }
    }
    let (replaced, foreign): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|(to, _)| ours.contains(to));
    let steps: Vec<Step> = replaced.into_iter().map(|(_, (step, _))| step).collect();
    let mut failures: Vec<Failure> = execute(socket, &steps)?
        .into_iter()
        .map(|(_, failure)| failure)
        .collect();
    failures.extend(foreign.into_iter().map(|(to, (_, mut failure))| {
        let remedy =
            format!("somebody else has a route to {to}: delete it, or take {to} out of the pools");
        failure.refusal.explanation = Some(remedy);
        failure
    }));
    Ok(failures)
}

fn index_of(indices: &BTreeMap<LinkName, u32>, route: &Route) -> u32 {
    match route {
        Route::Unicast { link, .. } => indices.get(link).copied().unwrap_or_default(),
        Route::Unreachable | Route::Local { .. } => 0,
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

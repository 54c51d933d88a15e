//! A pod's interface compared with what it should be, each difference as a sentence.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::AddressFamily;
use weft_core::plan::ROUTE_PROTOCOL;

use super::state::{self, PodAddress};
use super::*;

/// Compares both ends with what was asked for; says what differs. Nothing is changed.
///
/// What others added to the pod is no difference, as long as it leaves ours in force.
///
/// # Errors
/// When a socket fails or the kernel refuses to list.
pub fn verify(host: &mut Socket, pod: &mut Socket, wiring: &Wiring) -> Result<Vec<String>, Error> {
    let mut differences = Vec::new();
    let host_end = link::find(host, &wiring.host_link).map_err(Error::Host)?;
    let pod_end = link::find(pod, &wiring.ifname).map_err(Error::Pod)?;
    let here = format!("on the node, interface {}", wiring.host_link);
    let there = format!("in the pod, interface {}", wiring.ifname);
    compare_link(
        &here,
        host_end.as_ref(),
        wiring.host_mac,
        wiring.mtu,
        &mut differences,
    );
    compare_link(
        &there,
        pod_end.as_ref(),
        wiring.pod_mac,
        wiring.mtu,
        &mut differences,
    );
    let (Some(host_end), Some(pod_end)) = (host_end, pod_end) else {
        return Ok(differences);
    };
    if host_end.peer != Some(pod_end.index) || pod_end.peer != Some(host_end.index) {
        differences.push(format!(
            "{here} is not the other end of the pod's {}",
            wiring.ifname
        ));
    }
    if host_end.group != POD_LINK_GROUP {
        differences.push(format!(
            "{here} is in link group {} instead of {POD_LINK_GROUP}",
            host_end.group
        ));
    }
    for family in families(wiring) {
        addresses(pod, wiring, pod_end.index, family, &mut differences).map_err(Error::Pod)?;
        neighbours(pod, wiring, pod_end.index, family, &mut differences).map_err(Error::Pod)?;
        routes(pod, wiring, pod_end.index, family, &mut differences).map_err(Error::Pod)?;
    }
    Ok(differences)
}

fn families(wiring: &Wiring) -> Vec<AddressFamily> {
    state::gateways(wiring)
        .into_iter()
        .map(address::family)
        .collect()
}

fn compare_link(
    place: &str,
    end: Option<&link::Observed>,
    mac: Mac,
    mtu: u32,
    differences: &mut Vec<String>,
) {
    let Some(end) = end else {
        differences.push(format!("{place} does not exist"));
        return;
    };
    if end.kind != Some(InfoKind::Veth) {
        differences.push(format!("{place} is not a veth device"));
    }
    if !end.up {
        differences.push(format!("{place} is down"));
    }
    if end.mac != Some(mac) {
        let found = end
            .mac
            .map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        differences.push(format!(
            "{place} has hardware address {found} instead of {mac}"
        ));
    }
    if end.mtu != mtu {
        differences.push(format!("{place} has MTU {} instead of {mtu}", end.mtu));
    }
}

fn addresses(
    pod: &mut Socket,
    wiring: &Wiring,
    index: u32,
    family: AddressFamily,
    differences: &mut Vec<String>,
) -> Result<(), netlink::Error> {
    let keep = |payload: &[u8]| address::link_of(payload) == Some(index);
    let found: BTreeSet<IpNet> = pod
        .dump(&address::list(family), keep)?
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => address::any(message),
            _ => None,
        })
        .collect();
    for PodAddress {
        address: wanted, ..
    } in state::addresses(wiring)
    {
        if address::family(wanted.addr()) == family && !found.contains(&wanted) {
            differences.push(format!(
                "in the pod, address {wanted} is missing on {}",
                wiring.ifname
            ));
        }
    }
    Ok(())
}

fn neighbours(
    pod: &mut Socket,
    wiring: &Wiring,
    index: u32,
    family: AddressFamily,
    differences: &mut Vec<String>,
) -> Result<(), netlink::Error> {
    let keep = |payload: &[u8]| {
        neighbour::link_of(payload) == Some(index) && neighbour::is_permanent(payload)
    };
    let found: BTreeMap<IpAddr, Mac> = pod
        .dump(&neighbour::list(family), keep)?
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) => neighbour::read(message),
            _ => None,
        })
        .collect();
    for gateway in state::gateways(wiring) {
        if address::family(gateway) != family {
            continue;
        }
        match found.get(&gateway) {
            Some(mac) if *mac == wiring.host_mac => {}
            Some(mac) => differences.push(format!(
                "in the pod, next hop {gateway} has hardware address {mac} instead of {}",
                wiring.host_mac
            )),
            None => differences.push(format!(
                "in the pod, the permanent neighbour {gateway} is missing"
            )),
        }
    }
    Ok(())
}

fn routes(
    pod: &mut Socket,
    wiring: &Wiring,
    index: u32,
    family: AddressFamily,
    differences: &mut Vec<String>,
) -> Result<(), netlink::Error> {
    let name = |found: u32| (found == index).then(|| wiring.ifname.clone());
    let found: BTreeMap<IpNet, Route> = pod
        .dump(&route::list(family, Some(ROUTE_PROTOCOL)), route::is_ours)?
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => route::read(message, name),
            _ => None,
        })
        .collect();
    for (to, wanted) in state::routes(wiring) {
        if address::family(to.addr()) != family {
            continue;
        }
        match found.get(&to) {
            Some(route) if *route == wanted => {}
            Some(_) => differences.push(format!("in the pod, the route to {to} leads elsewhere")),
            None => differences.push(format!("in the pod, the route to {to} is missing")),
        }
    }
    Ok(())
}

//! The kernel's state, as far as it is ours, as a [`NetState`].

use std::collections::BTreeMap;

use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use weft_core::names::{OurLink, recognise};
use weft_core::plan::{LinkAddress, NetState};

use super::{address, link, neighbour, route};
use crate::netlink::{Error, Socket};

pub(super) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Reads back everything that is ours.
///
/// A link that is down appears with MTU 0. Nine dumps and one more per VXLAN device.
///
/// # Errors
/// When the socket fails, or the kernel refuses to list.
pub fn observe(socket: &mut Socket) -> Result<NetState, Error> {
    let mut state = NetState::default();
    let names = links(socket, &mut state)?;
    for family in FAMILIES {
        addresses(socket, family, &names, &mut state)?;
        neighbours(socket, family, &names, &mut state)?;
        routes(socket, family, &names, &mut state)?;
    }
    for (index, name) in &names {
        if state.vxlans.contains_key(name) {
            forwarding(socket, *index, name, &mut state)?;
        }
    }
    Ok(state)
}

type Names = BTreeMap<u32, String>;

/// Our links by index. Routes of ours may leave by any link, so the others' names are kept as well.
fn links(socket: &mut Socket, state: &mut NetState) -> Result<Names, Error> {
    let mut names = Names::new();
    for message in socket.dump(&link::list(), |_| true)? {
        let RouteNetlinkMessage::NewLink(message) = message else {
            continue;
        };
        let link = link::read(&message);
        match recognise(&link.name) {
            Some(OurLink::Pod) => {
                state
                    .pod_links
                    .extend(link.pod_link().map(|found| (link.name.clone(), found)));
            }
            Some(OurLink::Vxlan) => {
                state
                    .vxlans
                    .extend(link.vxlan().map(|found| (link.name.clone(), found)));
            }
            None => {}
        }
        names.insert(link.index, link.name);
    }
    Ok(names)
}

fn ours<'a>(names: &'a Names, state: &NetState, index: Option<u32>) -> Option<&'a String> {
    let name = names.get(&index?)?;
    (state.pod_links.contains_key(name) || state.vxlans.contains_key(name)).then_some(name)
}

fn addresses(
    socket: &mut Socket,
    family: AddressFamily,
    names: &Names,
    state: &mut NetState,
) -> Result<(), Error> {
    let keep = |payload: &[u8]| ours(names, state, address::link_of(payload)).is_some();
    for message in socket.dump(&address::list(family), keep)? {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            continue;
        };
        let link = names.get(&message.header.index);
        if let (Some(link), Some((address, link_scope))) = (link, address::read(&message)) {
            let link = link.clone();
            state.addresses.insert(LinkAddress {
                link,
                address,
                link_scope,
            });
        }
    }
    Ok(())
}

fn neighbours(
    socket: &mut Socket,
    family: AddressFamily,
    names: &Names,
    state: &mut NetState,
) -> Result<(), Error> {
    let keep = |payload: &[u8]| {
        neighbour::is_permanent(payload)
            && ours(names, state, neighbour::link_of(payload)).is_some()
    };
    for message in socket.dump(&neighbour::list(family), keep)? {
        let RouteNetlinkMessage::NewNeighbour(message) = message else {
            continue;
        };
        let link = names.get(&message.header.ifindex);
        if let (Some(link), Some((address, mac))) = (link, neighbour::read(&message)) {
            state.neighbours.insert((link.clone(), address), mac);
        }
    }
    Ok(())
}

fn routes(
    socket: &mut Socket,
    family: AddressFamily,
    names: &Names,
    state: &mut NetState,
) -> Result<(), Error> {
    for list in route::list_ours(family) {
        for message in socket.dump(&list, route::is_ours)? {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                let name = |index| names.get(&index).cloned();
                state.routes.extend(route::read(&message, name));
            }
        }
    }
    Ok(())
}

fn forwarding(
    socket: &mut Socket,
    index: u32,
    link: &str,
    state: &mut NetState,
) -> Result<(), Error> {
    let keep = |payload: &[u8]| neighbour::link_of(payload) == Some(index);
    for message in socket.dump(&neighbour::list_forwarding(index), keep)? {
        let RouteNetlinkMessage::NewNeighbour(message) = message else {
            continue;
        };
        if let Some((mac, node)) = neighbour::read_forwarding(&message) {
            state.forwarding.insert((link.to_owned(), mac), node);
        }
    }
    Ok(())
}

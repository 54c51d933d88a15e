//! An rtnetlink notification as what it means for an object of ours.

use std::collections::BTreeMap;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use weft_core::names::{OurLink, recognise};
use weft_core::plan::{LinkAddress, LinkName};

use super::What;
use crate::net::{address, link, neighbour, route};
use crate::netlink::{Message, decode};

// Message types of linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

type Names = BTreeMap<u32, LinkName>;

/// What a notification says about an object of ours; `None` if it is about something else. Notes whether
/// it is about a link of somebody else, or an address on one.
pub(super) fn read(
    message: &Message<'_>,
    names: &mut Names,
    host_changed: &mut bool,
) -> Option<What> {
    let payload = message.payload;
    // Most notifications on a busy host are about other things: not even decoded.
    let ours = match message.header.message_type {
        RTM_NEWROUTE | RTM_DELROUTE => route::is_ours(payload),
        RTM_NEWADDR | RTM_DELADDR => our_link(names, address::link_of(payload)).is_some(),
        RTM_NEWNEIGH | RTM_DELNEIGH => our_link(names, neighbour::link_of(payload)).is_some(),
        _ => true,
    };
    if !ours {
        *host_changed |= matches!(message.header.message_type, RTM_NEWADDR | RTM_DELADDR);
        return None;
    }
    let what = changed(message, names);
    let of_links = matches!(message.header.message_type, RTM_NEWLINK | RTM_DELLINK);
    *host_changed |= of_links && what.is_none();
    what
}

fn changed(message: &Message<'_>, names: &mut Names) -> Option<What> {
    let payload = message.payload;
    match decode(message.clone()).ok()? {
        RouteNetlinkMessage::NewLink(message) => link_changed(&message, names, false),
        RouteNetlinkMessage::DelLink(message) => link_changed(&message, names, true),
        RouteNetlinkMessage::NewAddress(message) => address_changed(&message, names, false),
        RouteNetlinkMessage::DelAddress(message) => address_changed(&message, names, true),
        RouteNetlinkMessage::NewNeighbour(message) => {
            neighbour_changed(&message, payload, names, false)
        }
        RouteNetlinkMessage::DelNeighbour(message) => {
            neighbour_changed(&message, payload, names, true)
        }
        RouteNetlinkMessage::NewRoute(message) => route_changed(&message, names, false),
        RouteNetlinkMessage::DelRoute(message) => route_changed(&message, names, true),
        _ => None,
    }
}

fn our_link(names: &Names, index: Option<u32>) -> Option<(&LinkName, OurLink)> {
    let name = names.get(&index?)?;
    Some((name, recognise(name)?))
}

fn link_changed(message: &LinkMessage, names: &mut Names, gone: bool) -> Option<What> {
    // A bridge tells about its ports in the same group, under its own family.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let found = link::read(message);
    let former = if gone {
        names.remove(&found.index)
    } else {
        names.insert(found.index, found.name.clone())
    };
    let (name, now) = match former {
        // Renamed: what was ours by its name is gone.
        Some(former) if former != found.name && recognise(&former).is_some() => (former, None),
        _ => (found.name.clone(), (!gone).then_some(&found)),
    };
    Some(match recognise(&name)? {
        OurLink::Pod => What::PodLink {
            link: name,
            now: now.and_then(link::Observed::pod_link),
        },
        OurLink::Vxlan => What::Vxlan {
            link: name,
            now: now.and_then(link::Observed::vxlan),
        },
    })
}

fn address_changed(message: &AddressMessage, names: &Names, gone: bool) -> Option<What> {
    let (link, _) = our_link(names, Some(message.header.index))?;
    let (address, link_scope) = address::read(message)?;
    let link = link.clone();
    Some(What::Address {
        address: LinkAddress {
            link,
            address,
            link_scope,
        },
        gone,
    })
}

fn neighbour_changed(
    message: &NeighbourMessage,
    payload: &[u8],
    names: &Names,
    gone: bool,
) -> Option<What> {
    let (link, kind) = our_link(names, Some(message.header.ifindex))?;
    let link = link.clone();
    if message.header.family == AddressFamily::Bridge {
        let (mac, node) = neighbour::read_forwarding(message).filter(|_| kind == OurLink::Vxlan)?;
        return Some(What::Forwarding {
            link,
            mac,
            now: (!gone).then_some(node),
        });
    }
    let address = neighbour::destination(message)?;
    let permanent = !gone && neighbour::is_permanent(payload);
    let now = neighbour::mac(message).filter(|_| permanent);
    Some(What::Neighbour { link, address, now })
}

fn route_changed(message: &RouteMessage, names: &Names, gone: bool) -> Option<What> {
    let to = route::destination(message)?;
    let now = route::read(message, |index| names.get(&index).cloned()).map(|(_, route)| route);
    Some(What::Route {
        to,
        now: now.filter(|_| !gone),
    })
}

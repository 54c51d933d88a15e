//! Addresses on links: made usable at once, recognised by their link.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::step::{ABSENT, Step};
use crate::netlink::Request;

/// Gives a link an address, without duplicate address detection.
pub(crate) fn add(link: &str, index: u32, address: IpNet, link_scope: bool) -> Step {
    let mut message = message(index, address, link_scope);
    if address.addr().is_ipv6() {
        let flags = AddressFlags::Nodad | AddressFlags::Permanent;
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    let request = Request::new(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    );
    Step::new(format!("add address {address} to link {link}"), request)
}

/// Takes an address from a link.
pub(crate) fn delete(link: &str, index: u32, address: IpNet) -> Step {
    let request = Request::new(
        RouteNetlinkMessage::DelAddress(message(index, address, false)),
        0,
    );
    Step::new(format!("delete address {address} of link {link}"), request).forgiving(ABSENT)
}

/// The request that lists the addresses of a family.
pub(crate) fn list(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family;
    RouteNetlinkMessage::GetAddress(message)
}

/// Index of the link that a raw message is about (`ifaddrmsg`).
pub(crate) fn link_of(payload: &[u8]) -> Option<u32> {
    payload
        .get(4..8)?
        .first_chunk::<4>()
        .map(|index| u32::from_ne_bytes(*index))
}

/// Address, prefix length and whether it is valid on its link only. Addresses that the kernel made by
/// itself are left out.
pub(crate) fn read(message: &AddressMessage) -> Option<(IpNet, bool)> {
    let by_kernel = message.attributes.iter().any(|attribute| {
        matches!(attribute, AddressAttribute::Protocol(protocol) if u8::from(*protocol) != 0)
    });
    let address = any(message).filter(|_| !by_kernel)?;
    Some((address, message.header.scope == AddressScope::Link))
}

/// The address, whoever made it.
pub(crate) fn any(message: &AddressMessage) -> Option<IpNet> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    let address = local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    });
    IpNet::new(address?, message.header.prefix_len).ok()
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn message(index: u32, address: IpNet, link_scope: bool) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    if link_scope {
        message.header.scope = AddressScope::Link;
    }
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    message
}

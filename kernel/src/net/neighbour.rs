//! Permanent neighbour entries, and the forwarding entries of VXLAN devices.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use weft_core::plan::Mac;

use super::address::family;
use super::step::{ABSENT, Step};
use crate::netlink::Request;

/// `NUD_PERMANENT` of linux/neighbour.h.
const NUD_PERMANENT: u16 = 0x80;

/// Says for good which hardware address a neighbour has.
pub(crate) fn replace(link: &str, index: u32, address: IpAddr, mac: Mac) -> Step {
    let mut message = message(index, address);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    let what = format!("set neighbour {address} to {mac} on link {link}");
    Step::new(what, new(message))
}

/// Forgets a neighbour.
pub(crate) fn delete(link: &str, index: u32, address: IpAddr) -> Step {
    let request = Request::new(
        RouteNetlinkMessage::DelNeighbour(message(index, address)),
        0,
    );
    Step::new(
        format!("delete neighbour {address} of link {link}"),
        request,
    )
    .forgiving(ABSENT)
}

/// Says behind which node a hardware address is.
pub(crate) fn replace_forwarding(link: &str, index: u32, mac: Mac, node: IpAddr) -> Step {
    let mut message = forwarding(index, mac);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::Destination(wire(node)));
    let what = format!("set forwarding entry {mac} to {node} on link {link}");
    Step::new(what, new(message))
}

/// Forgets behind which node a hardware address is.
pub(crate) fn delete_forwarding(link: &str, index: u32, mac: Mac) -> Step {
    let request = Request::new(RouteNetlinkMessage::DelNeighbour(forwarding(index, mac)), 0);
    Step::new(
        format!("delete forwarding entry {mac} of link {link}"),
        request,
    )
    .forgiving(ABSENT)
}

/// The request that lists neighbours of a family.
pub(crate) fn list(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    RouteNetlinkMessage::GetNeighbour(message)
}

/// The request that lists the forwarding entries of one device.
pub(crate) fn list_forwarding(index: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    RouteNetlinkMessage::GetNeighbour(message)
}

/// Index of the link that a raw message is about (`ndmsg`).
pub(crate) fn link_of(payload: &[u8]) -> Option<u32> {
    payload
        .get(4..8)?
        .first_chunk::<4>()
        .map(|index| u32::from_ne_bytes(*index))
}

/// Whether a raw message is about a permanent entry (`ndmsg`).
pub(crate) fn is_permanent(payload: &[u8]) -> bool {
    let state = payload
        .get(8..10)
        .and_then(|state| state.first_chunk::<2>());
    state.is_some_and(|state| u16::from_ne_bytes(*state) & NUD_PERMANENT != 0)
}

/// Protocol address and hardware address of an entry.
pub(crate) fn read(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    Some((destination(message)?, mac(message)?))
}

/// Hardware address of a forwarding entry, and the node behind which it is.
pub(crate) fn read_forwarding(message: &NeighbourMessage) -> Option<(Mac, IpAddr)> {
    let node = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => ip(bytes),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some((*address).into())
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some((*address).into())
            }
            _ => None,
        })?;
    Some((mac(message)?, node))
}

pub(crate) fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some((*address).into())
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some((*address).into())
            }
            _ => None,
        })
}

pub(crate) fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                bytes.as_slice().try_into().ok().map(Mac)
            }
            _ => None,
        })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn wire(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

fn new(message: NeighbourMessage) -> Request {
    Request::new(
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

fn message(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(wire(address))];
    message
}

fn forwarding(index: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    message
}

//! Routes of ours: protocol number 82 in the main table, and in the table `local` for addresses that the node
//! answers at.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use weft_core::plan::{ROUTE_PROTOCOL, Route};

use super::address::family;
use super::step::{ABSENT, Step};
use crate::netlink::Request;

/// The table of the node's own addresses (`RT_TABLE_LOCAL` of linux/rtnetlink.h).
const LOCAL_TABLE: u8 = 255;
/// Index of the loopback interface of every network namespace (`LOOPBACK_IFINDEX` of the kernel).
const LOOPBACK: u32 = 1;

/// Adds a route that was not there. Refused with EEXIST where anybody has one to the destination.
pub(crate) fn add(to: IpNet, route: &Route, link: u32) -> Step {
    step("add", to, route, link, NLM_F_CREATE | NLM_F_EXCL)
}

/// Puts a route into the place of ours to the same destination.
pub(crate) fn replace(to: IpNet, route: &Route, link: u32) -> Step {
    step("set", to, route, link, NLM_F_CREATE | NLM_F_REPLACE)
}

/// Deletes our route to a destination, from the table that it is in.
pub(crate) fn delete(to: IpNet, route: &Route) -> Step {
    let mut message = message(to);
    message.header.scope = RouteScope::NoWhere;
    message.header.table = table(route);
    let request = Request::new(RouteNetlinkMessage::DelRoute(message), 0);
    Step::new(format!("delete route {to}"), request).forgiving(ABSENT)
}

/// The requests that list routes of ours.
pub(crate) fn list_ours(family: AddressFamily) -> [RouteNetlinkMessage; 2] {
    [RouteHeader::RT_TABLE_MAIN, LOCAL_TABLE]
        .map(|table| listing(family, table, Some(ROUTE_PROTOCOL)))
}

/// The request that lists routes of the main table; of any protocol where none is named.
pub(crate) fn list(family: AddressFamily, protocol: Option<u8>) -> RouteNetlinkMessage {
    listing(family, RouteHeader::RT_TABLE_MAIN, protocol)
}

fn listing(family: AddressFamily, table: u8, protocol: Option<u8>) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = table;
    message.header.protocol = protocol.unwrap_or_default().into();
    RouteNetlinkMessage::GetRoute(message)
}

/// Whether a raw message (`rtmsg`) is about a route of ours: one of our tables, our protocol, not a cached exception.
pub(crate) fn is_ours(payload: &[u8]) -> bool {
    let flags = payload
        .get(8..12)
        .and_then(|flags| flags.first_chunk::<4>());
    let cloned =
        flags.is_none_or(|flags| u32::from_ne_bytes(*flags) & RouteFlags::Cloned.bits() != 0);
    matches!(
        payload,
        [
            _,
            _,
            _,
            _,
            RouteHeader::RT_TABLE_MAIN | LOCAL_TABLE,
            ROUTE_PROTOCOL,
            ..
        ]
    ) && !cloned
}

/// Destination and content of a route of ours. `link_name` names an interface index.
pub(crate) fn read(
    message: &RouteMessage,
    link_name: impl Fn(u32) -> Option<String>,
) -> Option<(IpNet, Route)> {
    let to = destination(message)?;
    match message.header.kind {
        RouteType::Unreachable => Some((to, Route::Unreachable)),
        RouteType::Local => {
            let mut route = Fields::default();
            for attribute in &message.attributes {
                route.take(attribute);
            }
            let Fields { source, .. } = route;
            Some((to, Route::Local { source }))
        }
        RouteType::Unicast => {
            let mut route = Fields::default();
            for attribute in &message.attributes {
                route.take(attribute);
            }
            let route = Route::Unicast {
                link: link_name(route.link?)?,
                via: route.via,
                onlink: message.header.flags.contains(RouteFlags::Onlink),
                source: route.source,
                mtu: route.mtu,
            };
            Some((to, route))
        }
        _ => None,
    }
}

/// Destination of a route.
pub(crate) fn destination(message: &RouteMessage) -> Option<IpNet> {
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => ip(address),
            _ => None,
        });
    IpNet::new(
        address.unwrap_or(any),
        message.header.destination_prefix_length,
    )
    .ok()
}

#[derive(Default)]
struct Fields {
    link: Option<u32>,
    via: Option<IpAddr>,
    source: Option<IpAddr>,
    mtu: Option<u32>,
}

impl Fields {
    fn take(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Oif(index) => self.link = Some(*index),
            RouteAttribute::Gateway(address) => self.via = ip(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => self.via = Some((*address).into()),
            RouteAttribute::PrefSource(address) => self.source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                self.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
}

fn step(verb: &str, to: IpNet, route: &Route, link: u32, flags: u16) -> Step {
    let mut message = message(to);
    message.header.table = table(route);
    let words = match route {
        Route::Unreachable => {
            message.header.kind = RouteType::Unreachable;
            "as unreachable".to_owned()
        }
        Route::Local { source } => {
            message.header.kind = RouteType::Local;
            message.header.scope = if to.addr().is_ipv4() {
                RouteScope::Host
            } else {
                RouteScope::Universe
            };
            message.attributes.push(RouteAttribute::Oif(LOOPBACK));
            message
                .attributes
                .extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
            "as local".to_owned()
        }
        Route::Unicast {
            link: name,
            via,
            onlink,
            source,
            mtu,
        } => {
            message.header.kind = RouteType::Unicast;
            if via.is_none() && to.addr().is_ipv4() {
                message.header.scope = RouteScope::Link;
            }
            if *onlink {
                message.header.flags = RouteFlags::Onlink;
            }
            message.attributes.push(RouteAttribute::Oif(link));
            message.attributes.extend(via.map(|via| gateway(to, via)));
            message
                .attributes
                .extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
            let mtu = mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
            message.attributes.extend(mtu);
            via.map_or_else(
                || format!("by {name}"),
                |via| format!("via {via} by {name}"),
            )
        }
    };
    let request = Request::new(RouteNetlinkMessage::NewRoute(message), flags);
    Step::new(format!("{verb} route {to} {words}"), request)
}

fn table(route: &Route) -> u8 {
    match route {
        Route::Local { .. } => LOCAL_TABLE,
        Route::Unicast { .. } | Route::Unreachable => RouteHeader::RT_TABLE_MAIN,
    }
}

fn gateway(to: IpNet, via: IpAddr) -> RouteAttribute {
    match (to, via) {
        (IpNet::V4(_), IpAddr::V6(via)) => RouteAttribute::Via(RouteVia::Inet6(via)),
        _ => RouteAttribute::Gateway(via.into()),
    }
}

fn message(to: IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(to.addr());
    message.header.destination_prefix_length = to.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    if to.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(to.network().into()));
    }
    message
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

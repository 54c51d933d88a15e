//! What the node itself is like, read only: interfaces that are not ours, and what the kernel can do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use weft_core::names::recognise;
use weft_core::view::{HostInterface, HostView};

use crate::net::{address, link, route};
use crate::netlink::{Error, Request, Socket};

/// Describes the node, all but `internal_ips`, which only the Node object knows.
///
/// `sysctls` is `/proc/sys/net` of the host's network namespace. Loopback is among the interfaces only if
/// it has addresses of its own.
///
/// # Errors
/// When the socket fails or the kernel refuses to list.
pub fn observe(socket: &mut Socket, sysctls: &Path) -> Result<HostView, Error> {
    let mut interfaces = interfaces(socket)?;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        addresses(socket, family, &mut interfaces)?;
        default_routes(socket, family, &mut interfaces)?;
    }
    let interfaces = interfaces
        .into_values()
        .filter(|interface| !interface.loopback || !interface.view.addresses.is_empty())
        .map(|interface| (interface.name, interface.view))
        .collect();
    Ok(HostView {
        internal_ips: Vec::new(),
        interfaces,
        ipv6: has_ipv6(sysctls),
        force_forwarding: sysctls.join("ipv6/conf/all/force_forwarding").exists(),
        vxlan: can_make_vxlan(socket)?,
    })
}

/// Whether the kernel has IPv6 and gives it to new interfaces.
#[must_use]
pub fn has_ipv6(sysctls: &Path) -> bool {
    let disabled = std::fs::read_to_string(sysctls.join("ipv6/conf/default/disable_ipv6"));
    disabled.is_ok_and(|disabled| disabled.trim() == "0")
}

/// Whether the kernel can make VXLAN devices, loading a module where it must and may.
///
/// Asks for one without a network identifier: a kernel that knows the kind refuses that with EINVAL, one
/// that does not with EOPNOTSUPP. Nothing is made in either case.
///
/// # Errors
/// When the socket fails.
pub fn can_make_vxlan(socket: &mut Socket) -> Result<bool, Error> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::Vxlan,
        )]));
    let request = Request::new(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
    );
    let outcomes = socket.request(&[request])?;
    Ok(matches!(outcomes.as_slice(), [Err(refusal)] if refusal.errno == Errno::EINVAL))
}

struct Interface {
    name: String,
    loopback: bool,
    accepts_advertisements: bool,
    view: HostInterface,
}

type Interfaces = BTreeMap<u32, Interface>;

fn interfaces(socket: &mut Socket) -> Result<Interfaces, Error> {
    let mut found = Interfaces::new();
    for message in socket.dump(&link::list(), |_| true)? {
        let RouteNetlinkMessage::NewLink(message) = message else {
            continue;
        };
        let link = link::read(&message);
        if recognise(&link.name).is_some() {
            continue;
        }
        let interface = Interface {
            name: link.name,
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            accepts_advertisements: accepts_advertisements(&message),
            view: HostInterface {
                index: link.index,
                mtu: link.mtu,
                ..HostInterface::default()
            },
        };
        found.insert(link.index, interface);
    }
    Ok(found)
}

fn accepts_advertisements(message: &LinkMessage) -> bool {
    let families = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::AfSpecUnspec(families) => Some(families),
            _ => None,
        });
    families.flatten().any(|family| match family {
        AfSpecUnspec::Inet6(settings) => settings
            .iter()
            .any(|setting| matches!(setting, AfSpecInet6::DevConf(conf) if conf.accept_ra != 0)),
        _ => false,
    })
}

fn addresses(
    socket: &mut Socket,
    family: AddressFamily,
    interfaces: &mut Interfaces,
) -> Result<(), Error> {
    for message in socket.dump(&address::list(family), |_| true)? {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            continue;
        };
        let interface = interfaces.get_mut(&message.header.index);
        let address = address::any(&message).filter(|address| is_global(*address));
        if let (Some(interface), Some(address)) = (interface, address) {
            interface.view.addresses.insert(address);
        }
    }
    Ok(())
}

fn is_global(address: IpNet) -> bool {
    match address.addr() {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

fn default_routes(
    socket: &mut Socket,
    family: AddressFamily,
    interfaces: &mut Interfaces,
) -> Result<(), Error> {
    // Second byte of `rtmsg`: the length of the destination's prefix.
    let is_default = |payload: &[u8]| payload.get(1) == Some(&0);
    for message in socket.dump(&route::list(family, None), is_default)? {
        let RouteNetlinkMessage::NewRoute(message) = message else {
            continue;
        };
        if message.header.kind != RouteType::Unicast {
            continue;
        }
        let advertised = message.header.protocol == RouteProtocol::Ra;
        for index in leaves_by(&message) {
            if let Some(interface) = interfaces.get_mut(&index) {
                interface.view.default_route = true;
                interface.view.router_advertisements |=
                    advertised && interface.accepts_advertisements;
            }
        }
    }
    Ok(())
}

fn leaves_by(message: &RouteMessage) -> Vec<u32> {
    message
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => vec![*index],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => Vec::new(),
        })
        .collect()
}

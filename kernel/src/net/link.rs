//! Links: VXLAN devices that we make, host ends of pods' veth pairs whose properties we set.
//!
//! No link of ours makes a link-local address by itself: each address on them is one that we gave.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;
use weft_core::plan::{LinkName, Mac, PodLink, VxlanLink};

use super::step::{ABSENT, Step};
use crate::netlink::{self, Request, Socket};

/// `IFLA_INET_CONF` of linux/if_link.h.
const IFLA_INET_CONF: u16 = 1;

/// IPv4 settings of one interface that rtnetlink can set, by their numbers (linux/ip.h, `IPV4_DEVCONF_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Ipv4Setting {
    /// `forwarding`
    Forwarding = 1,
    /// `proxy_arp`
    ProxyArp = 3,
    /// `accept_redirects`
    AcceptRedirects = 4,
    /// `send_redirects`
    SendRedirects = 6,
    /// `rp_filter`
    RpFilter = 8,
    /// `accept_source_route`
    AcceptSourceRoute = 9,
    /// `log_martians`
    LogMartians = 11,
    /// `arp_announce`
    ArpAnnounce = 18,
    /// `arp_ignore`
    ArpIgnore = 19,
    /// `accept_local`
    AcceptLocal = 23,
    /// `route_localnet`
    RouteLocalnet = 26,
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Option<InfoKind>,
    pub(crate) up: bool,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    /// Index of the other end, for a veth.
    pub(crate) peer: Option<u32>,
    pub(crate) group: u32,
    pub(crate) vxlan: Vec<InfoVxlan>,
}

/// Makes a VXLAN device, up, without learning and without an address of its own.
pub(crate) fn create_vxlan(name: &str, link: &VxlanLink) -> Vec<Step> {
    let local = match link.local {
        IpAddr::V4(address) => InfoVxlan::Local(address),
        IpAddr::V6(address) => InfoVxlan::Local6(address),
    };
    let data = vec![
        InfoVxlan::Id(link.vni),
        local,
        InfoVxlan::Port(link.port),
        InfoVxlan::Learning(false),
    ];
    let mut message = named(name);
    message.attributes.extend([
        LinkAttribute::Address(link.mac.0.to_vec()),
        LinkAttribute::Mtu(link.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]),
    ]);
    let request = Request::new(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
    );
    let what = format!(
        "create VXLAN device {name} (VNI {}, port {})",
        link.vni, link.port
    );
    vec![Step::new(what, request), no_link_local(name), up(name)]
}

/// Sets a link's MTU and brings it up.
pub(crate) fn set(name: &str, mtu: u32) -> Vec<Step> {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Mtu(mtu));
    let request = Request::new(RouteNetlinkMessage::SetLink(message), 0);
    vec![
        Step::new(format!("set MTU {mtu} of link {name}"), request),
        up(name),
    ]
}

/// Sets a link's hardware address. The kernel then forgets the neighbours on it, permanent ones too, even
/// if the address is the same.
pub(crate) fn set_mac(name: &str, mac: Mac) -> Step {
    let mut message = named(name);
    message
        .attributes
        .push(LinkAttribute::Address(mac.0.to_vec()));
    let request = Request::new(RouteNetlinkMessage::SetLink(message), 0);
    Step::new(
        format!("set hardware address {mac} of link {name}"),
        request,
    )
}

/// Deletes a link.
pub(crate) fn delete(name: &str) -> Step {
    let request = Request::new(RouteNetlinkMessage::DelLink(named(name)), 0);
    Step::new(format!("delete link {name}"), request).forgiving(ABSENT)
}

/// Takes a link down.
pub(crate) fn down(name: &str) -> Step {
    let mut message = named(name);
    message.header.change_mask = LinkFlags::Up;
    let request = Request::new(RouteNetlinkMessage::SetLink(message), 0);
    Step::new(format!("take link {name} down"), request).forgiving(ABSENT)
}

/// Puts a link into a group.
pub(crate) fn set_group(name: &str, group: u32) -> Step {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Group(group));
    let request = Request::new(RouteNetlinkMessage::SetLink(message), 0);
    Step::new(format!("put link {name} into group {group}"), request).forgiving(ABSENT)
}

/// Deletes all links of a group.
pub(crate) fn delete_group(group: u32) -> Step {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    let request = Request::new(RouteNetlinkMessage::DelLink(message), 0);
    Step::new(format!("delete the links of group {group}"), request).forgiving(ABSENT)
}

/// Brings a link up.
pub(crate) fn up(name: &str) -> Step {
    let mut message = named(name);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Step::new(
        format!("bring link {name} up"),
        Request::new(RouteNetlinkMessage::SetLink(message), 0),
    )
}

/// Keeps the kernel from making a link-local address; a kernel without IPv6 makes none anyway.
pub(crate) fn no_link_local(name: &str) -> Step {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let mut message = named(name);
    message
        .attributes
        .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![mode],
        )]));
    let request = Request::new(RouteNetlinkMessage::SetLink(message), 0);
    Step::new(
        format!("switch off automatic addresses on link {name}"),
        request,
    )
    .forgiving(&[Errno::EAFNOSUPPORT, Errno::EINVAL])
}

/// Sets IPv4 settings of an interface without writing files.
pub(crate) fn set_ipv4(name: &str, settings: &BTreeMap<Ipv4Setting, u32>) -> Step {
    let nested: Vec<u8> = settings
        .iter()
        .flat_map(|(setting, value)| {
            let header = (u32::from(*setting as u16) << 16 | 8).to_le_bytes();
            [header, value.to_ne_bytes()]
        })
        .flatten()
        .collect();
    let settings = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, nested));
    let mut message = named(name);
    message
        .attributes
        .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![
            settings,
        ])]));
    Step::new(
        format!("set IPv4 settings of link {name}"),
        Request::new(RouteNetlinkMessage::SetLink(message), 0),
    )
}

/// A message about the link of a name.
pub(crate) fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// The request for one link by name, without its counters.
pub(crate) fn query(name: &str) -> RouteNetlinkMessage {
    let mut message = named(name);
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// The request that lists all links, without their counters.
pub(crate) fn list() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// Reads a link's description.
pub(crate) fn read(message: &LinkMessage) -> Observed {
    let mut link = Observed {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Observed::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => link.peer = Some(*index),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = Some(kind.clone()),
                        LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan.clone_from(data),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

impl Observed {
    /// This link as a VXLAN device of a plan. One that is down has MTU 0, which no plan has, so that a
    /// difference sets it up.
    pub(crate) fn vxlan(&self) -> Option<VxlanLink> {
        let mut link = VxlanLink {
            vni: 0,
            port: 0,
            local: IpAddr::from([0; 4]),
            mac: self.mac?,
            mtu: if self.up { self.mtu } else { 0 },
        };
        for info in &self.vxlan {
            match info {
                InfoVxlan::Id(vni) => link.vni = *vni,
                InfoVxlan::Port(port) => link.port = *port,
                InfoVxlan::Local(address) => link.local = (*address).into(),
                InfoVxlan::Local6(address) => link.local = (*address).into(),
                _ => {}
            }
        }
        (self.kind == Some(InfoKind::Vxlan)).then_some(link)
    }

    /// This link as the host end of a pod's veth pair; MTU 0 while it is down.
    pub(crate) fn pod_link(&self) -> Option<PodLink> {
        let link = PodLink {
            mac: self.mac?,
            mtu: if self.up { self.mtu } else { 0 },
        };
        (self.kind == Some(InfoKind::Veth)).then_some(link)
    }
}

/// One link by name; `None` if there is none.
pub(crate) fn find(socket: &mut Socket, name: &str) -> Result<Option<Observed>, netlink::Error> {
    match socket.get(query(name))? {
        Ok(RouteNetlinkMessage::NewLink(message)) => Ok(Some(read(&message))),
        Ok(other) => Err(netlink::Error::Unreadable(format!(
            "expected a link, got {other:?}"
        ))),
        Err(refusal) if netlink::is_absence(refusal.errno) => Ok(None),
        Err(refusal) => Err(netlink::Error::Refused(refusal)),
    }
}

/// Whether there is a link of this name.
///
/// # Errors
/// When the socket fails or the kernel refuses.
pub fn exists(socket: &mut Socket, name: &str) -> Result<bool, netlink::Error> {
    find(socket, name).map(|link| link.is_some())
}

/// Interface indices of links by name; those that do not exist are left out.
///
/// # Errors
/// When the socket fails or the kernel refuses.
pub fn indices(
    socket: &mut Socket,
    names: impl IntoIterator<Item = LinkName>,
) -> Result<BTreeMap<LinkName, u32>, netlink::Error> {
    let names: Vec<LinkName> = names.into_iter().collect();
    let mut found = BTreeMap::new();
    // Answers are a kilobyte or two each: fewer at a time than requests without an answer.
    for names in names.chunks(32) {
        let requests: Vec<Request> = names
            .iter()
            .map(|name| Request::new(query(name), 0))
            .collect();
        let (outcomes, replies) = socket.query(&requests)?;
        for outcome in outcomes {
            match outcome {
                Err(refusal) if !netlink::is_absence(refusal.errno) => {
                    return Err(netlink::Error::Refused(refusal));
                }
                _ => {}
            }
        }
        for (place, reply) in replies {
            if let (Some(name), RouteNetlinkMessage::NewLink(link)) = (names.get(place), reply) {
                found.insert(name.clone(), link.header.index);
            }
        }
    }
    Ok(found)
}

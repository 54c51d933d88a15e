//! `NodePlan`: everything that a node's kernel should hold for us, as a value.
//!
//! Ordered collections throughout, so that two plans that mean the same are equal and print alike.
//! What the kernel really holds is read back into the same [`NetState`], so one `diff` serves a
//! fresh start, an update and the audit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

mod text;

/// Name of a network interface: at most 15 bytes (IFNAMSIZ - 1).
pub type LinkName = String;

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Everything that a node's kernel should hold for us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePlan {
    /// Links, addresses, neighbours, forwarding entries and routes.
    pub net: NetState,
    /// Our one nft table.
    pub table: weft_nft::Table,
    /// Values below `/proc/sys/net`, by path relative to it, such as `ipv4/ip_forward`.
    pub sysctls: BTreeMap<String, String>,
}

/// The part of a plan that rtnetlink knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetState {
    /// VXLAN devices that we make.
    pub vxlans: BTreeMap<LinkName, VxlanLink>,
    /// Host ends of pods' veth pairs. They are made at ADD and go with the pod's namespace: a plan
    /// sets their properties and never creates or deletes them.
    pub pod_links: BTreeMap<LinkName, PodLink>,
    /// Addresses on links of ours.
    pub addresses: BTreeSet<LinkAddress>,
    /// Permanent neighbour entries on links of ours.
    pub neighbours: BTreeMap<(LinkName, IpAddr), Mac>,
    /// VXLAN forwarding entries: behind which address a VTEP's hardware address is.
    pub forwarding: BTreeMap<(LinkName, Mac), IpAddr>,
    /// Routes of our protocol, by destination: of the table `local` where they say so, of the main one otherwise.
    pub routes: BTreeMap<IpNet, Route>,
}

/// A VXLAN device (RFC 7348) without learning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanLink {
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Source address of encapsulated packets.
    pub local: IpAddr,
    /// Hardware address, derived from node and overlay so that a recreated device has the same.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
}

/// Properties of the host end of a pod's veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// Hardware address that the pod's permanent neighbour entries name.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
}

/// An address on a link of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress {
    /// The link.
    pub link: LinkName,
    /// Address and prefix length.
    pub address: IpNet,
    /// Valid on this link only (scope link).
    pub link_scope: bool,
}

/// A route of ours. All carry protocol number [`ROUTE_PROTOCOL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a link, perhaps by way of a next hop.
    Unicast {
        /// The link.
        link: LinkName,
        /// The next hop; none for a destination that is on the link itself.
        via: Option<IpAddr>,
        /// The next hop is on the link although no address says so.
        onlink: bool,
        /// Preferred source address of packets that the node itself sends.
        source: Option<IpAddr>,
        /// MTU of packets by this route, where it is less than the device's.
        mtu: Option<u32>,
    },
    /// Nobody has this address: answered with an ICMP error at once.
    Unreachable,
    /// The node itself has this address, although no interface does: in the table `local`, where the kernel looks
    /// for what may be a packet's own source.
    Local {
        /// Preferred source address of what the node itself sends there; the address itself otherwise.
        source: Option<IpAddr>,
    },
}

/// Protocol number of every route of ours (`rtm_protocol`).
pub const ROUTE_PROTOCOL: u8 = 82;
/// Next hop of a pod's IPv4 default route.
pub const POD_GATEWAY_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 1, 1);
/// Next hop of a pod's IPv6 default route.
pub const POD_GATEWAY_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is not six hexadecimal bytes separated by colons.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware address: write six hexadecimal bytes separated by colons")]
pub struct NotAMac(String);

impl std::str::FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| NotAMac(text.to_owned()))?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(NotAMac(text.to_owned())),
        }
    }
}

//! `NodeView`: what a node knows, validated: the input of compilation.
//!
//! Raw objects become these types once (`view::parse`); what cannot is a rejection, which ends up
//! in a condition. Holding a `NodeView` proves that every store has synced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::plan::{LinkName, Mac};
use crate::services::Frame;

mod parse;

pub use parse::{BlockObject, Parsed, Raw, parse};

/// Everything that one node's plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// This node's name.
    pub node: String,
    /// Overlays in force here, by name.
    pub overlays: BTreeMap<String, OverlayView>,
    /// Accepted pools of the cluster, by name.
    pub pools: BTreeMap<String, PoolView>,
    /// The other nodes, by name.
    pub peers: BTreeMap<String, PeerView>,
    /// Blocks of all nodes, by name. Overlapped younger blocks are not in here.
    pub blocks: BTreeMap<String, BlockView>,
    /// Pods that this node has wired or is about to, by attachment.
    pub pods: BTreeMap<AttachmentKey, PodView>,
    /// What the chains of services depend on; none if this node does not serve them.
    pub services: Option<Frame>,
    /// Whether this node enforces network policies.
    pub policies: bool,
    /// The DNS server of this node; none if it has none.
    pub dns: Option<DnsView>,
    /// What the node itself is like.
    pub host: HostView,
}

/// The DNS server of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsView {
    /// Addresses of the cluster's DNS Service that it answers at.
    pub addresses: BTreeSet<IpAddr>,
    /// It does at present. Otherwise they are addresses of a Service like any other.
    pub serving: bool,
}

/// An overlay as this node takes part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayView {
    /// How packets travel.
    pub mode: weft_crds::OverlayMode,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub port: u16,
    /// Fixed MTU of pods' packets; `None` is Auto.
    pub mtu: Option<u32>,
    /// The family of encapsulated packets.
    pub underlay_v6: bool,
    /// Networks that the node's own address must be in; empty: the Node's InternalIP.
    pub underlay_cidrs: Vec<IpNet>,
}

/// A pool as this node uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// The overlay that its addresses travel by.
    pub overlay: String,
    /// Whether pods here may get addresses from it.
    pub assignable: bool,
    /// Higher is preferred; a tie is decided by name.
    pub priority: i32,
    /// Its networks.
    pub cidrs: Vec<IpNet>,
    /// Networks from which no pod gets an address.
    pub reserved: Vec<IpNet>,
    /// Free addresses to hold ready, per family.
    pub prealloc: u32,
    /// Rest of a released address, in seconds.
    pub cooldown_seconds: u64,
    /// Whether packets to outside get the node's address.
    pub masquerade: bool,
    /// Destinations that see the pod's own address, besides all pools and nodes.
    pub masquerade_except: Vec<IpNet>,
}

/// Another node, as its agent describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerView {
    /// Its ends of the overlays, by overlay.
    pub underlays: BTreeMap<String, PeerUnderlay>,
    /// Every address of it: never masqueraded towards.
    pub addresses: BTreeSet<IpAddr>,
}

/// A peer's end of one overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerUnderlay {
    /// Its IPv4 address, with the prefix length of its segment.
    pub v4: Option<IpNet>,
    /// Its IPv6 address, with the prefix length of its segment.
    pub v6: Option<IpNet>,
    /// Hardware address of its VXLAN device.
    pub vtep_mac: Option<Mac>,
    /// MTU of the device that its addresses are on.
    pub device_mtu: Option<u32>,
}

/// A block of some node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockView {
    /// UID of the IPBlock.
    pub uid: String,
    /// The pool that it was cut from.
    pub pool: String,
    /// Its network.
    pub cidr: IpNet,
    /// The node that it belongs to.
    pub node: String,
    /// No further addresses are to be assigned from it.
    pub draining: bool,
}

/// One interface of one pod sandbox: the key of the node's record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentKey {
    /// The sandbox's id (`CNI_CONTAINERID`).
    pub container_id: String,
    /// The interface inside the sandbox (`CNI_IFNAME`).
    pub ifname: String,
}

/// A pod that this node has wired or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// `namespace/name`, for comments in listings.
    pub pod: String,
    /// Host end of its veth pair.
    pub host_link: LinkName,
    /// Interface index of the host end; `None` while the link is not there.
    pub host_index: Option<u32>,
    /// Hardware address of the host end.
    pub host_mac: Mac,
    /// Hardware address inside the pod.
    pub pod_mac: Mac,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Host ports that are forwarded to it.
    pub host_ports: Vec<HostPort>,
}

/// A port of the node that is forwarded to a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The port on the node.
    pub host_port: u16,
    /// Only at this address of the node; `None` is every address.
    pub host_ip: Option<IpAddr>,
    /// The port in the pod.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// A transport protocol that Kubernetes knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// What the node itself is like: read from its kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// The Node object's InternalIPs.
    pub internal_ips: Vec<IpAddr>,
    /// Interfaces that are not ours, by name.
    pub interfaces: BTreeMap<LinkName, HostInterface>,
    /// IPv6 has not been switched off in this kernel.
    pub ipv6: bool,
    /// The kernel knows `force_forwarding` per interface.
    pub force_forwarding: bool,
    /// The kernel can make VXLAN devices.
    pub vxlan: bool,
}

impl HostView {
    /// The node's own addresses, each once: its InternalIPs, then what else its interfaces have.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = self.internal_ips.clone();
        let links = self.interfaces.values();
        for address in links.flat_map(|link| link.addresses.iter().map(IpNet::addr)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

/// An interface of the node that is not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInterface {
    /// Interface index.
    pub index: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its addresses with prefix length, link-local ones left out.
    pub addresses: BTreeSet<IpNet>,
    /// A default route (of either family) leaves by it.
    pub default_route: bool,
    /// It takes its IPv6 router from advertisements (`accept_ra` is not 0 and a route came so).
    pub router_advertisements: bool,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The family of a network.
    #[must_use]
    pub fn of_net(net: &IpNet) -> Self {
        Self::of(net.addr())
    }

    /// The spelling in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl PeerUnderlay {
    /// The address of a family, with the prefix length of its segment.
    #[must_use]
    pub fn address(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

impl OverlayView {
    /// The family of encapsulated packets.
    #[must_use]
    pub fn underlay_family(&self) -> Family {
        if self.underlay_v6 {
            Family::V6
        } else {
            Family::V4
        }
    }
}

impl PoolView {
    /// Whether it has networks of a family.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.cidrs.iter().any(|cidr| Family::of_net(cidr) == family)
    }
}

impl NodeView {
    /// Families of which the cluster has pools.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        families(self.pools.values())
    }

    /// Families of the pools whose addresses travel by an overlay.
    #[must_use]
    pub fn overlay_families(&self, overlay: &str) -> BTreeSet<Family> {
        families(self.pools.values().filter(|pool| pool.overlay == overlay))
    }
}

fn families<'a>(pools: impl Iterator<Item = &'a PoolView>) -> BTreeSet<Family> {
    pools
        .flat_map(|pool| pool.cidrs.iter().map(Family::of_net))
        .collect()
}

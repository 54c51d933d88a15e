//! What is not as wished, as values: rejections of raw objects, and findings of the compilation.
//!
//! Each has a stable code, which has a page in `docs/codes/`, one word for programs (`reason`), the
//! object that it is about, and a sentence with the next step. Agents put them into conditions.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::policy::PolicyName;
use crate::view::{Family, HostPort};

/// The object that a rejection or finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its kind, such as `IPPool`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

impl Object {
    /// An object of a kind.
    #[must_use]
    pub fn new(kind: &'static str, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A raw object, or a part of one, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Rejection {
    /// A field has a value that means nothing.
    #[error("{object}: {field} is {value:?}: {remedy}")]
    InvalidField {
        /// The object.
        object: Object,
        /// Path of the field.
        field: String,
        /// Its value.
        value: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// Two entries have one name.
    #[error("{object} is listed twice: the second entry is not used; give each its own name")]
    DuplicateName {
        /// The object.
        object: Object,
    },
    /// Two pools share addresses.
    #[error(
        "IPPool {pool}: its network {cidr} overlaps {other_cidr} of IPPool {other} and is not used: change one of the two"
    )]
    PoolOverlap {
        /// The pool whose network is not used.
        pool: String,
        /// That network.
        cidr: IpNet,
        /// The other pool.
        other: String,
        /// Its network.
        other_cidr: IpNet,
    },
    /// A pool's addresses travel by an overlay that this node takes no part in.
    #[error(
        "IPPool {pool}: its overlay {overlay:?} is not in force on this node, so no pod here gets an address from it: let the nodeSelector of Overlay {overlay} select the node, or exclude the node by the pool's nodeSelector"
    )]
    OverlayMissing {
        /// The pool.
        pool: String,
        /// The overlay that it names.
        overlay: String,
    },
    /// An older block has the same addresses.
    #[error(
        "IPBlock {block} ({cidr}, node {node}) overlaps the older IPBlock {other} ({other_cidr}, node {other_node}) and is not used: delete IPBlock {block} once no pod has an address of it"
    )]
    BlockOverlap {
        /// The younger block.
        block: String,
        /// Its network.
        cidr: IpNet,
        /// Its node.
        node: String,
        /// The older block.
        other: String,
        /// Its network.
        other_cidr: IpNet,
        /// Its node.
        other_node: String,
    },
    /// A peer says that an address of this node is its own.
    #[error(
        "NodeNetwork {peer}: its address {address} in overlay {overlay} belongs to this node too: give each node its own address"
    )]
    AddressTaken {
        /// The peer.
        peer: String,
        /// The overlay.
        overlay: String,
        /// The address.
        address: IpAddr,
    },
}

impl Rejection {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "WEFT-1301",
            Self::DuplicateName { .. } => "WEFT-1302",
            Self::PoolOverlap { .. } => "WEFT-1303",
            Self::OverlayMissing { .. } => "WEFT-1304",
            Self::BlockOverlap { .. } => "WEFT-1305",
            Self::AddressTaken { .. } => "WEFT-1306",
        }
    }

    /// One CamelCase word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "InvalidField",
            Self::DuplicateName { .. } => "DuplicateName",
            Self::PoolOverlap { .. } => "PoolOverlap",
            Self::OverlayMissing { .. } => "OverlayMissing",
            Self::BlockOverlap { .. } => "BlockOverlap",
            Self::AddressTaken { .. } => "AddressTaken",
        }
    }

    /// The object that has to change.
    #[must_use]
    pub fn object(&self) -> Object {
        match self {
            Self::InvalidField { object, .. } | Self::DuplicateName { object } => object.clone(),
            Self::PoolOverlap { pool, .. } | Self::OverlayMissing { pool, .. } => {
                Object::new("IPPool", pool)
            }
            Self::BlockOverlap { block, .. } => Object::new("IPBlock", block),
            Self::AddressTaken { peer, .. } => Object::new("NodeNetwork", peer),
        }
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Everything works; somebody may want to know.
    Info,
    /// Something that was asked for does not work.
    Warning,
}

/// Something that the compilation found about a valid view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Finding {
    /// This node has no address of the family that an overlay needs.
    #[error(
        "Overlay {overlay}: this node has no {family} address for it, so pods here do not reach other nodes by VXLAN: give one of the node's interfaces an {family} address that is its InternalIP or within spec.underlay.cidrs, or set spec.underlay.family"
    )]
    NoUnderlayAddress {
        /// The overlay.
        overlay: String,
        /// The family.
        family: Family,
    },
    /// The kernel cannot make VXLAN devices.
    #[error(
        "Overlay {overlay}: this node's kernel cannot make VXLAN devices: load the module vxlan, or use an Overlay of mode Direct"
    )]
    VxlanUnsupported {
        /// The overlay.
        overlay: String,
    },
    /// A peer has no address of the family that an overlay needs.
    #[error(
        "Overlay {overlay}: node {peer} has no {family} address for it, so its pods are not reached from here: see the conditions of NodeNetwork {peer}"
    )]
    PeerWithoutAddress {
        /// The overlay.
        overlay: String,
        /// The peer.
        peer: String,
        /// The family.
        family: Family,
    },
    /// A peer has no VXLAN device.
    #[error(
        "Overlay {overlay}: node {peer} has no VXLAN device, so its pods are not reached from here: see the conditions of NodeNetwork {peer}"
    )]
    PeerWithoutVxlan {
        /// The overlay.
        overlay: String,
        /// The peer.
        peer: String,
    },
    /// An overlay's MTU is less than IPv6 allows.
    #[error(
        "Overlay {overlay}: packets to node {peer} may have {mtu} bytes, and IPv6 needs 1280 (RFC 8200): raise the MTU of the devices between the nodes, or spec.mtu of the Overlay"
    )]
    MtuBelowIpv6 {
        /// The overlay.
        overlay: String,
        /// The peer.
        peer: String,
        /// What fits, in bytes.
        mtu: u32,
    },
    /// A fixed MTU does not fit the device.
    #[error(
        "Overlay {overlay}: spec.mtu is {mtu}, and device {device} leaves {fits} bytes for pods' packets; {fits} is used: lower spec.mtu, or raise the MTU of {device}"
    )]
    MtuAboveDevice {
        /// The overlay.
        overlay: String,
        /// The number in the spec.
        mtu: u32,
        /// The device.
        device: String,
        /// What fits, in bytes.
        fits: u32,
    },
    /// Pools have IPv6 networks and the kernel has no IPv6.
    #[error(
        "IPPool {pool}: it has IPv6 networks, and IPv6 is switched off in this node's kernel: start the node without ipv6.disable=1, or keep the node out by the pool's nodeSelector"
    )]
    Ipv6Disabled {
        /// The pool.
        pool: String,
    },
    /// IPv6 forwarding had to be switched on for all interfaces.
    #[error(
        "this node's kernel forwards IPv6 for all interfaces or none (force_forwarding came with 6.17), so ipv6.conf.all.forwarding is 1; interfaces that take their router from advertisements have accept_ra=2: {interfaces}"
    )]
    GlobalIpv6Forwarding {
        /// Names of those interfaces, or `none`.
        interfaces: String,
    },
    /// Two pods ask for one host port.
    #[error("pod {pod} asks for host port {} ({}), which pod {other} has: give one of the two another hostPort", port.host_port, port.protocol)]
    HostPortTaken {
        /// The pod that does not get it.
        pod: String,
        /// The pod that has it.
        other: String,
        /// What is asked for.
        port: HostPort,
    },
    /// Two Services claim one address and port.
    #[error(
        "Service {service}: {frontend} belongs to Service {other}, which leads there alone: give one of the two another address or port"
    )]
    FrontendTaken {
        /// The Service that does not get it.
        service: String,
        /// The Service that has it.
        other: String,
        /// What is claimed.
        frontend: SocketAddr,
    },
    /// A Service has more endpoints than a map may hold.
    #[error(
        "Service {service}: with it {endpoints} endpoints would have to be held, and the limit is {limit}; its last good state stays in force: give it fewer endpoints"
    )]
    ServiceTooLarge {
        /// The Service.
        service: String,
        /// How many there would be.
        endpoints: usize,
        /// How many may be.
        limit: usize,
    },
    /// A selector of a policy matches nothing.
    #[error(
        "{policy}: {field} ({selector}) matches nothing now: compare it with the labels that are there"
    )]
    SelectsNothing {
        /// The policy.
        policy: PolicyName,
        /// Path of the field.
        field: String,
        /// What it asks for.
        selector: String,
    },
    /// A named port that none of the pods concerned has.
    #[error(
        "{policy}: {field} names port {port:?}, which no pod that it is about has, so it allows nothing: name the containers' port so, or write a number"
    )]
    NoSuchPort {
        /// The policy.
        policy: PolicyName,
        /// Path of the field.
        field: String,
        /// The name.
        port: String,
    },
    /// An exception that takes nothing away.
    #[error(
        "{policy}: {field} leaves out {except}, which is not within {cidr}, so it changes nothing: write a network within {cidr}"
    )]
    ExceptOutside {
        /// The policy.
        policy: PolicyName,
        /// Path of the field.
        field: String,
        /// The exception.
        except: IpNet,
        /// The network.
        cidr: IpNet,
    },
    /// A pod may reach some things, but no DNS server.
    #[error(
        "Pod {pod}: {policies} let it reach some things, and nobody at port 53, so it resolves no name: allow port 53 over UDP and TCP to the cluster's DNS server"
    )]
    EgressWithoutDns {
        /// `namespace/name`
        pod: String,
        /// The policies that isolate it for egress.
        policies: String,
    },
}

impl Finding {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoUnderlayAddress { .. } => "WEFT-1401",
            Self::VxlanUnsupported { .. } => "WEFT-1402",
            Self::PeerWithoutAddress { .. } => "WEFT-1403",
            Self::PeerWithoutVxlan { .. } => "WEFT-1404",
            Self::MtuBelowIpv6 { .. } => "WEFT-1405",
            Self::MtuAboveDevice { .. } => "WEFT-1406",
            Self::Ipv6Disabled { .. } => "WEFT-1407",
            Self::GlobalIpv6Forwarding { .. } => "WEFT-1408",
            Self::HostPortTaken { .. } => "WEFT-1409",
            Self::FrontendTaken { .. } => "WEFT-1410",
            Self::ServiceTooLarge { .. } => "WEFT-1411",
            Self::SelectsNothing { .. } => "WEFT-1421",
            Self::NoSuchPort { .. } => "WEFT-1422",
            Self::ExceptOutside { .. } => "WEFT-1423",
            Self::EgressWithoutDns { .. } => "WEFT-1424",
        }
    }

    /// One CamelCase word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoUnderlayAddress { .. } => weft_crds::reason::NO_UNDERLAY_ADDRESS,
            Self::VxlanUnsupported { .. } => "VXLANUnsupported",
            Self::PeerWithoutAddress { .. } => "PeerWithoutAddress",
            Self::PeerWithoutVxlan { .. } => "PeerWithoutVXLAN",
            Self::MtuBelowIpv6 { .. } => "MTUBelowIPv6",
            Self::MtuAboveDevice { .. } => "MTUAboveDevice",
            Self::Ipv6Disabled { .. } => "IPv6Disabled",
            Self::GlobalIpv6Forwarding { .. } => "GlobalIPv6Forwarding",
            Self::HostPortTaken { .. } => "HostPortTaken",
            Self::FrontendTaken { .. } => "FrontendTaken",
            Self::ServiceTooLarge { .. } => "ServiceTooLarge",
            Self::SelectsNothing { .. } => "SelectsNothing",
            Self::NoSuchPort { .. } => "NoSuchPort",
            Self::ExceptOutside { .. } => "ExceptOutside",
            Self::EgressWithoutDns { .. } => "EgressWithoutDNS",
        }
    }

    /// Whether an overlay is not in force on this node because of it.
    #[must_use]
    pub fn keeps_overlay_out(&self) -> bool {
        matches!(
            self,
            Self::NoUnderlayAddress { .. } | Self::VxlanUnsupported { .. }
        )
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::GlobalIpv6Forwarding { .. } => Severity::Info,
            Self::NoUnderlayAddress { .. }
            | Self::VxlanUnsupported { .. }
            | Self::PeerWithoutAddress { .. }
            | Self::PeerWithoutVxlan { .. }
            | Self::MtuBelowIpv6 { .. }
            | Self::MtuAboveDevice { .. }
            | Self::Ipv6Disabled { .. }
            | Self::HostPortTaken { .. }
            | Self::FrontendTaken { .. }
            | Self::ServiceTooLarge { .. }
            | Self::SelectsNothing { .. }
            | Self::NoSuchPort { .. }
            | Self::ExceptOutside { .. }
            | Self::EgressWithoutDns { .. } => Severity::Warning,
        }
    }
}

//! Overlays: a node's own end of one, its VXLAN device, and the way to each peer.
//!
//! The device does not learn: every peer has a permanent forwarding entry (hardware address to
//! underlay address), and a permanent neighbour entry for the next hop that routes use. The next
//! hop of IPv4 is the peer's underlay address, declared on-link; the next hop of IPv6, and of IPv4
//! where packets are encapsulated in IPv6, is the link-local address that follows from the peer's
//! hardware address. Whether the peer's device really has that address does not matter: nobody asks
//! for it. The device keeps the kernel's own link-local address (`addr_gen_mode` 0): IPv6 forwards
//! on a device without one too, but a device that was left as the kernel makes it is one less thing
//! to explain.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_crds::{NodeUnderlay, OverlayMode};

use super::{Fact, UnitPlan, mtu, pods, spoof, sysctls};
use crate::finding::Finding;
use crate::names;
use crate::plan::{LinkName, POD_GATEWAY_V4, VxlanLink};
use crate::view::{Family, HostView, NodeView, OverlayView, PeerUnderlay};

/// An address of this node, and the interface that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The interface.
    pub link: LinkName,
    /// The address, with the prefix length of its segment.
    pub net: IpNet,
    /// The interface's MTU in bytes.
    pub mtu: u32,
}

/// How packets to a peer's pods of one family travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Plain, to a next hop in the same segment.
    Direct {
        /// Where they leave.
        own: OwnAddress,
        /// The peer's address.
        via: IpAddr,
    },
    /// Plain, by the node's own routes: the network between the nodes knows the pods.
    Routed,
    /// Encapsulated.
    Vxlan {
        /// The VXLAN device.
        link: LinkName,
        /// The next hop on it.
        via: IpAddr,
        /// The peer's hardware address on it.
        mac: crate::plan::Mac,
        /// Where encapsulated packets go.
        remote: IpAddr,
    },
}

/// Why there is no path to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPath {
    /// This node takes no part in the overlay: its pods' packets follow the node's own routes.
    NotOurs,
    /// The peer has not said anything about the overlay yet.
    NotYet,
    /// This node cannot; its own unit says why.
    Here,
    /// The peer cannot.
    There(Finding),
}

/// This node's own address of a family in an overlay.
#[must_use]
pub fn own_address(host: &HostView, overlay: &OverlayView, family: Family) -> Option<OwnAddress> {
    let internal = host
        .internal_ips
        .iter()
        .filter(|ip| Family::of(**ip) == family);
    if overlay.underlay_cidrs.is_empty() {
        return internal
            .filter_map(|ip| find(host, |net| net.addr() == *ip))
            .next();
    }
    let wanted = |ip: &IpAddr| overlay.underlay_cidrs.iter().any(|cidr| cidr.contains(ip));
    internal
        .filter(|ip| wanted(ip))
        .find_map(|ip| find(host, |net| net.addr() == *ip))
        .or_else(|| {
            find(host, |net| {
                Family::of_net(net) == family && wanted(&net.addr())
            })
        })
}

/// The address that packets of the node itself to pods come from.
#[must_use]
pub fn node_address(host: &HostView, family: Family) -> Option<IpAddr> {
    let mut internal = host
        .internal_ips
        .iter()
        .filter(|ip| Family::of(**ip) == family);
    internal
        .find_map(|ip| find(host, |net| net.addr() == *ip))
        .map(|own| own.net.addr())
}

/// Whether this node has a VXLAN device in an overlay, or would have one if it could.
///
/// Mode Direct needs one only where a family is missing at one end: then both ends see that.
#[must_use]
pub fn needs_vxlan(view: &NodeView, name: &str, overlay: &OverlayView) -> bool {
    if overlay.mode != OverlayMode::Direct {
        return true;
    }
    view.overlay_families(name).into_iter().any(|family| {
        let mut peers = view
            .peers
            .values()
            .filter_map(|peer| peer.underlays.get(name));
        own_address(&view.host, overlay, family).is_none()
            || peers.any(|peer| peer.address(family).is_none())
    })
}

/// The VXLAN device of this node in an overlay, if it has one.
#[must_use]
pub fn vxlan(view: &NodeView, name: &str) -> Option<(LinkName, VxlanLink)> {
    let overlay = view.overlays.get(name)?;
    if !view.host.vxlan || !needs_vxlan(view, name, overlay) {
        return None;
    }
    let own = own_address(&view.host, overlay, overlay.underlay_family())?;
    let link = VxlanLink {
        vni: overlay.vni,
        port: overlay.port,
        local: own.net.addr(),
        mac: names::vtep_mac(&view.node, name),
        mtu: mtu::vxlan_device(overlay, &own),
    };
    Some((names::vxlan_link(name), link))
}

/// The way to a peer's pods of a family.
///
/// # Errors
/// Why there is none.
pub fn path(view: &NodeView, name: &str, peer: &str, family: Family) -> Result<Path, NoPath> {
    let overlay = view.overlays.get(name).ok_or(NoPath::NotOurs)?;
    let underlay = view
        .peers
        .get(peer)
        .and_then(|peer| peer.underlays.get(name));
    let underlay = underlay.ok_or(NoPath::NotYet)?;
    let ends = own_address(&view.host, overlay, family).zip(underlay.address(family));
    match (overlay.mode, ends) {
        (OverlayMode::Direct | OverlayMode::Auto, Some((own, peer)))
            if same_segment(&own.net, &peer) =>
        {
            let via = peer.addr();
            Ok(Path::Direct { own, via })
        }
        (OverlayMode::Direct, Some(_)) => Ok(Path::Routed),
        (OverlayMode::Direct | OverlayMode::Auto | OverlayMode::Vxlan, _) => {
            encapsulated(view, name, overlay, peer, underlay, family)
        }
    }
}

/// This node's ends of its overlays, for the status of its NodeNetwork: peers route by them.
#[must_use]
pub fn report(view: &NodeView) -> Vec<NodeUnderlay> {
    let end = |(name, overlay): (&String, &OverlayView)| {
        let own = Family::ALL.map(|family| own_address(&view.host, overlay, family));
        let outer = own_address(&view.host, overlay, overlay.underlay_family());
        let device = outer.or_else(|| own.iter().flatten().next().cloned());
        let mut unit = UnitPlan::default();
        self::device(view, name, &mut unit);
        let problem = unit
            .findings
            .iter()
            .find(|finding| finding.keeps_overlay_out());
        NodeUnderlay {
            overlay: name.clone(),
            addresses: own
                .iter()
                .flatten()
                .map(|own| own.net.to_string())
                .collect(),
            vtep_mac: vxlan(view, name).map(|(_, link)| link.mac.to_string()),
            device_mtu: device.map(|own| own.mtu),
            problem: problem.map(|finding| format!("{finding} [{}]", finding.code())),
        }
    };
    view.overlays.iter().map(end).collect()
}

/// The VXLAN device of an overlay, and the rule that protects its port.
pub(super) fn device(view: &NodeView, name: &str, plan: &mut UnitPlan) {
    let Some(overlay) = view.overlays.get(name) else {
        return;
    };
    mtu::check_device(view, name, overlay, plan);
    if !needs_vxlan(view, name, overlay) {
        return;
    }
    if !view.host.vxlan {
        return plan.find(Finding::VxlanUnsupported {
            overlay: name.to_owned(),
        });
    }
    let Some((link, vxlan)) = vxlan(view, name) else {
        return plan.find(Finding::NoUnderlayAddress {
            overlay: name.to_owned(),
            family: overlay.underlay_family(),
        });
    };
    sysctls::vxlan(view, &link, plan);
    spoof::vxlan(name, vxlan.port, plan);
    if view.families().contains(&Family::V4) {
        plan.add(Fact::Address(pods::gateway(&link, POD_GATEWAY_V4.into())));
    }
    plan.add(Fact::Vxlan(link, vxlan));
}

/// What the way to a peer is made of besides routes.
pub(super) fn peer(view: &NodeView, peer: &str, plan: &mut UnitPlan) {
    for name in view.overlays.keys() {
        for family in view.overlay_families(name) {
            match path(view, name, peer, family) {
                Ok(Path::Vxlan {
                    link,
                    via,
                    mac,
                    remote,
                }) => {
                    plan.add(Fact::Neighbour(link.clone(), via, mac));
                    plan.add(Fact::Forwarding(link, mac, remote));
                }
                Err(NoPath::There(finding)) if !plan.findings.contains(&finding) => {
                    plan.find(finding);
                }
                Ok(Path::Direct { .. } | Path::Routed) | Err(_) => {}
            }
            mtu::check_peer(view, name, peer, family, plan);
        }
    }
}

fn encapsulated(
    view: &NodeView,
    name: &str,
    overlay: &OverlayView,
    peer: &str,
    underlay: &PeerUnderlay,
    family: Family,
) -> Result<Path, NoPath> {
    // A device of mode Direct is for the families of the overlay's pools alone.
    if overlay.mode == OverlayMode::Direct && !view.overlay_families(name).contains(&family) {
        return Err(NoPath::Here);
    }
    let (link, _) = vxlan(view, name).ok_or(NoPath::Here)?;
    let outer = overlay.underlay_family();
    let remote = underlay.address(outer).ok_or_else(|| {
        NoPath::There(Finding::PeerWithoutAddress {
            overlay: name.to_owned(),
            peer: peer.to_owned(),
            family: outer,
        })
    })?;
    let mac = underlay.vtep_mac.ok_or_else(|| {
        NoPath::There(Finding::PeerWithoutVxlan {
            overlay: name.to_owned(),
            peer: peer.to_owned(),
        })
    })?;
    let via = match (family, outer) {
        (Family::V4, Family::V4) => remote.addr(),
        (Family::V4 | Family::V6, _) => names::link_local(mac).into(),
    };
    Ok(Path::Vxlan {
        link,
        via,
        mac,
        remote: remote.addr(),
    })
}

/// Both ends say that the other is on their link: the way back is the way there.
fn same_segment(own: &IpNet, peer: &IpNet) -> bool {
    own.contains(&peer.addr()) && peer.contains(&own.addr())
}

fn find(host: &HostView, wanted: impl Fn(&IpNet) -> bool) -> Option<OwnAddress> {
    host.interfaces.iter().find_map(|(link, interface)| {
        let net = interface.addresses.iter().find(|net| wanted(net))?;
        Some(OwnAddress {
            link: link.clone(),
            net: *net,
            mtu: interface.mtu,
        })
    })
}

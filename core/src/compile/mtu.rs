//! MTU: of pods' devices, of VXLAN devices, and of each route to a peer.
//!
//! A pod's device has the largest MTU that the node can send with; the route to each peer has what
//! fits on the way to that very peer: the smaller of the two underlay devices less the
//! encapsulation. A fixed `spec.mtu` can only make it smaller.

use weft_crds::{DeviceMtu, OverlayMode};

use super::UnitPlan;
use super::overlay::{OwnAddress, Path, own_address, path};
use crate::finding::Finding;
use crate::view::{Family, NodeView, OverlayView};

/// Outer Ethernet (14), IPv4 (20), UDP (8) and VXLAN (8) headers, in bytes (RFC 7348, section 5).
pub const VXLAN_OVERHEAD_V4: u32 = 50;
/// The same with an IPv6 header (40).
pub const VXLAN_OVERHEAD_V6: u32 = 70;
/// The least that IPv6 works with (RFC 8200, section 5).
pub const MIN_IPV6: u32 = 1280;
/// MTU of Ethernet, where nothing better is known.
const ETHERNET: u32 = 1500;

/// What encapsulation costs, in bytes.
#[must_use]
pub fn overhead(underlay: Family) -> u32 {
    match underlay {
        Family::V4 => VXLAN_OVERHEAD_V4,
        Family::V6 => VXLAN_OVERHEAD_V6,
    }
}

/// MTU of pods' devices: the largest of the node's overlays.
#[must_use]
pub fn pod_device(view: &NodeView) -> u32 {
    let overlays = view.overlays.iter();
    overlays
        .filter_map(|(_, overlay)| Some(of_overlay(view, overlay)?.0))
        .max()
        .or_else(|| {
            let defaults = view.host.interfaces.values();
            defaults
                .filter(|link| link.default_route)
                .map(|link| link.mtu)
                .min()
        })
        .unwrap_or(ETHERNET)
}

/// MTU that pods get in each overlay, and why, for the NodeReport.
#[must_use]
pub fn report(view: &NodeView) -> Vec<DeviceMtu> {
    let overlays = view.overlays.iter();
    overlays
        .filter_map(|(name, overlay)| {
            let (mtu, why) = of_overlay(view, overlay)?;
            Some(DeviceMtu {
                overlay: name.clone(),
                mtu,
                why,
            })
        })
        .collect()
}

/// MTU of the VXLAN device of an overlay.
pub(super) fn vxlan_device(overlay: &OverlayView, own: &OwnAddress) -> u32 {
    let fits = own.mtu.saturating_sub(overhead(overlay.underlay_family()));
    overlay.mtu.map_or(fits, |fixed| fixed.min(fits))
}

/// MTU on the way to a peer, where it is less than the MTU of the device that the route leaves by.
pub(super) fn route(
    view: &NodeView,
    name: &str,
    peer: &str,
    path: &Path,
    family: Family,
) -> Option<u32> {
    let overlay = view.overlays.get(name)?;
    let (device, fits) = on_path(view, name, overlay, peer, path)?;
    // The kernel takes no smaller MTU for IPv6; a finding says that packets will be lost.
    let fits = match family {
        Family::V4 => fits,
        Family::V6 => fits.max(MIN_IPV6),
    };
    (fits < device).then_some(fits)
}

/// A fixed MTU that does not fit, and a family that the device has no address of.
pub(super) fn check_device(
    view: &NodeView,
    name: &str,
    overlay: &OverlayView,
    plan: &mut UnitPlan,
) {
    let (Some(fixed), Some(own)) = (overlay.mtu, underlay_device(view, overlay)) else {
        return;
    };
    let fits = unencapsulated_or_not(overlay, own.mtu);
    if fixed > fits {
        plan.find(Finding::MtuAboveDevice {
            overlay: name.to_owned(),
            mtu: fixed,
            device: own.link,
            fits,
        });
    }
}

/// A way that is too narrow for IPv6.
pub(super) fn check_peer(
    view: &NodeView,
    name: &str,
    peer: &str,
    family: Family,
    plan: &mut UnitPlan,
) {
    let (Family::V6, Some(overlay)) = (family, view.overlays.get(name)) else {
        return;
    };
    let Ok(path) = path(view, name, peer, family) else {
        return;
    };
    if let Some((_, fits)) = on_path(view, name, overlay, peer, &path)
        && fits < MIN_IPV6
    {
        plan.find(Finding::MtuBelowIpv6 {
            overlay: name.to_owned(),
            peer: peer.to_owned(),
            mtu: fits,
        });
    }
}

/// MTU of the device that packets leave by, and what fits on the way to the peer.
fn on_path(
    view: &NodeView,
    name: &str,
    overlay: &OverlayView,
    peer: &str,
    path: &Path,
) -> Option<(u32, u32)> {
    let underlay = view.peers.get(peer)?.underlays.get(name)?;
    let narrow = |own: u32| underlay.device_mtu.map_or(own, |other| other.min(own));
    let (device, fits) = match path {
        Path::Direct { own, .. } => (own.mtu, narrow(own.mtu)),
        Path::Routed => return None,
        Path::Vxlan { .. } => {
            let family = overlay.underlay_family();
            let own = own_address(&view.host, overlay, family)?;
            let fits = narrow(own.mtu).saturating_sub(overhead(family));
            (vxlan_device(overlay, &own), fits)
        }
    };
    Some((device, overlay.mtu.map_or(fits, |fixed| fixed.min(fits))))
}

/// MTU that pods get in an overlay, and why.
fn of_overlay(view: &NodeView, overlay: &OverlayView) -> Option<(u32, String)> {
    let own = underlay_device(view, overlay)?;
    let fits = unencapsulated_or_not(overlay, own.mtu);
    let device = format!("{} has {}", own.link, own.mtu);
    let why = match overlay.mode {
        OverlayMode::Vxlan => format!("{device}, VXLAN takes {}", own.mtu.saturating_sub(fits)),
        OverlayMode::Auto => format!(
            "{device}; VXLAN to other segments takes {}",
            overhead(overlay.underlay_family())
        ),
        OverlayMode::Direct => device,
    };
    match overlay.mtu {
        Some(fixed) if fixed <= fits => {
            Some((fixed, format!("spec.mtu of the Overlay is {fixed}")))
        }
        Some(_) | None => Some((fits, why)),
    }
}

/// What fits into the device: mode VXLAN encapsulates everything, the others not what is near.
fn unencapsulated_or_not(overlay: &OverlayView, device: u32) -> u32 {
    match overlay.mode {
        OverlayMode::Vxlan => device.saturating_sub(overhead(overlay.underlay_family())),
        OverlayMode::Direct | OverlayMode::Auto => device,
    }
}

/// The device that an overlay's packets leave by.
fn underlay_device(view: &NodeView, overlay: &OverlayView) -> Option<OwnAddress> {
    let families = [overlay.underlay_family(), Family::V4, Family::V6];
    families
        .into_iter()
        .find_map(|family| own_address(&view.host, overlay, family))
}

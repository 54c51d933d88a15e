//! The other nodes: what their agents say of them, and the addresses of those without one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_crds::{NodeNetworkStatus, NodeUnderlay};

use super::{Place, Raw};
use crate::finding::{Object, Rejection};
use crate::view::{Family, HostView, PeerUnderlay, PeerView};

/// The smallest MTU that IPv4 guarantees (RFC 791): less is a mistake.
const MIN_DEVICE_MTU: u32 = 576;

/// The other nodes, by name.
pub fn peers(
    raw: &Raw<'_>,
    host: &HostView,
    rejections: &mut Vec<Rejection>,
) -> BTreeMap<String, PeerView> {
    let own: BTreeSet<IpAddr> = host
        .interfaces
        .values()
        .flat_map(|interface| interface.addresses.iter().map(IpNet::addr))
        .collect();
    let mut peers: BTreeMap<String, PeerView> = BTreeMap::new();
    for (name, status) in raw.peers.iter().filter(|(name, _)| *name != raw.node) {
        peers.insert(name.clone(), peer(name, status, &own, rejections));
    }
    for (name, addresses) in raw
        .other_addresses
        .iter()
        .filter(|(name, _)| *name != raw.node)
    {
        let peer = peers.entry(name.clone()).or_default();
        peer.addresses
            .extend(addresses.iter().copied().filter(|ip| is_host_address(*ip)));
    }
    peers
}

fn peer(
    name: &str,
    status: &NodeNetworkStatus,
    own: &BTreeSet<IpAddr>,
    rejections: &mut Vec<Rejection>,
) -> PeerView {
    let object = Object::new("NodeNetwork", name);
    let mut place = Place {
        object: &object,
        rejections,
    };
    let mut peer = PeerView::default();
    for text in &status.addresses {
        let read: Option<IpAddr> = place.read(
            "status.addresses",
            text,
            "an agent writes IP addresses here",
        );
        peer.addresses
            .extend(read.filter(|ip| is_host_address(*ip)));
    }
    for raw in &status.underlays {
        let underlay = underlay(name, raw, own, &mut place);
        let both = [underlay.v4, underlay.v6];
        peer.addresses
            .extend(both.into_iter().flatten().map(|net| net.addr()));
        peer.underlays.insert(raw.overlay.clone(), underlay);
    }
    peer
}

fn underlay(
    peer: &str,
    raw: &NodeUnderlay,
    own: &BTreeSet<IpAddr>,
    place: &mut Place<'_>,
) -> PeerUnderlay {
    const ADDRESS: &str = "an agent writes one address of each family with its prefix length here, such as 192.0.2.7/24";
    let mut underlay = PeerUnderlay::default();
    for text in &raw.addresses {
        let Some(net) = place.read::<IpNet>("status.underlays[].addresses", text, ADDRESS) else {
            continue;
        };
        if own.contains(&net.addr()) {
            place.rejections.push(Rejection::AddressTaken {
                peer: peer.to_owned(),
                overlay: raw.overlay.clone(),
                address: net.addr(),
            });
            continue;
        }
        let slot = match Family::of_net(&net) {
            Family::V4 => &mut underlay.v4,
            Family::V6 => &mut underlay.v6,
        };
        if slot.is_some() || !is_host_address(net.addr()) {
            place.reject("status.underlays[].addresses", text, ADDRESS);
        } else {
            *slot = Some(net);
        }
    }
    underlay.vtep_mac = raw.vtep_mac.as_deref().and_then(|text| {
        place.read(
            "status.underlays[].vtepMac",
            text,
            "an agent writes a hardware address here, such as 02:00:5e:10:00:01",
        )
    });
    underlay.device_mtu = raw.device_mtu.filter(|mtu| *mtu >= MIN_DEVICE_MTU);
    if underlay.device_mtu != raw.device_mtu {
        place.reject(
            "status.underlays[].deviceMtu",
            raw.device_mtu.unwrap_or_default(),
            "an agent writes a number of bytes of at least 576 here",
        );
    }
    underlay
}

/// An address that a node can have and others can send to.
fn is_host_address(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

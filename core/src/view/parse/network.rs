//! The node's NodeNetwork spec: overlays and pools.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weft_crds::{NatMode, NodeNetworkSpec, NodeOverlay, NodePool};

use super::{Place, overlap};
use crate::finding::{Object, Rejection};
use crate::view::{Family, OverlayView, PoolView};

/// Largest VXLAN network identifier (RFC 7348, section 5).
const MAX_VNI: u32 = 0x00ff_ffff;

/// Overlays by name.
pub fn overlays(
    spec: &NodeNetworkSpec,
    rejections: &mut Vec<Rejection>,
) -> BTreeMap<String, OverlayView> {
    let mut overlays = BTreeMap::new();
    for raw in &spec.overlays {
        let object = Object::new("Overlay", &raw.name);
        if overlays.contains_key(&raw.name) {
            rejections.push(Rejection::DuplicateName { object });
            continue;
        }
        let mut place = Place {
            object: &object,
            rejections,
        };
        if let Some(overlay) = overlay(raw, &mut place) {
            overlays.insert(raw.name.clone(), overlay);
        }
    }
    overlays
}

fn overlay(raw: &NodeOverlay, place: &mut Place<'_>) -> Option<OverlayView> {
    if !(1..=MAX_VNI).contains(&raw.vni) {
        place.reject(
            "spec.vxlan.vni",
            raw.vni,
            "write a number from 1 to 16777215",
        );
        return None;
    }
    if raw.port == 0 {
        place.reject("spec.vxlan.port", raw.port, "write a port from 1 to 65535");
        return None;
    }
    let family = match raw.underlay_family.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        other => {
            place.reject("spec.underlay.family", other, "write IPv4 or IPv6");
            return None;
        }
    };
    // A node's own address must never be chosen from a wider range than was asked for.
    let cidrs: Vec<Option<IpNet>> = raw
        .underlay_cidrs
        .iter()
        .map(|cidr| place.network("spec.underlay.cidrs", cidr))
        .collect();
    let mtu = raw.mtu.filter(|mtu| (1280..=65535).contains(mtu));
    if mtu != raw.mtu {
        place.reject(
            "spec.mtu",
            raw.mtu.unwrap_or_default(),
            "write Auto or a number of bytes from 1280 to 65535",
        );
    }
    Some(OverlayView {
        mode: raw.mode,
        vni: raw.vni,
        port: raw.port,
        mtu,
        underlay_v6: family == Family::V6,
        underlay_cidrs: cidrs.into_iter().collect::<Option<_>>()?,
    })
}

/// Pools by name. Of two networks that overlap the one of the first pool by name is used.
pub fn pools(
    spec: &NodeNetworkSpec,
    overlays: &BTreeMap<String, OverlayView>,
    rejections: &mut Vec<Rejection>,
) -> BTreeMap<String, PoolView> {
    let mut pools = BTreeMap::new();
    for raw in &spec.pools {
        let object = Object::new("IPPool", &raw.name);
        if pools.contains_key(&raw.name) {
            rejections.push(Rejection::DuplicateName { object });
            continue;
        }
        let mut place = Place {
            object: &object,
            rejections,
        };
        let mut pool = pool(raw, &mut place);
        if pool.assignable && !overlays.contains_key(&pool.overlay) {
            pool.assignable = false;
            rejections.push(Rejection::OverlayMissing {
                pool: raw.name.clone(),
                overlay: pool.overlay.clone(),
            });
        }
        pools.insert(raw.name.clone(), pool);
    }
    drop_overlaps(&mut pools, rejections);
    pools
}

fn pool(raw: &NodePool, place: &mut Place<'_>) -> PoolView {
    let mut assignable = raw.assignable;
    let mut cidrs = Vec::new();
    let mut reserved = Vec::new();
    for entry in &raw.cidrs {
        let Some(cidr) = place.network("spec.cidrs[].cidr", &entry.cidr) else {
            continue;
        };
        cidrs.push(cidr);
        for text in &entry.reserved {
            match place.network("spec.cidrs[].reserved", text) {
                Some(net) => reserved.push(net),
                // What was to be kept free is not known: nothing is given out.
                None => assignable = false,
            }
        }
    }
    let except = raw
        .nat_outgoing
        .except
        .iter()
        .filter_map(|text| {
            let net: IpNet = place.read(
                "spec.natOutgoing.except",
                text,
                "write a network in CIDR form, such as 10.0.0.0/8",
            )?;
            Some(net.trunc())
        })
        .collect();
    PoolView {
        overlay: raw.overlay.clone(),
        assignable,
        priority: raw.priority,
        cidrs,
        reserved,
        prealloc: raw.prealloc,
        cooldown_seconds: raw.cooldown_seconds,
        masquerade: raw.nat_outgoing.mode == NatMode::Masquerade,
        masquerade_except: except,
    }
}

fn drop_overlaps(pools: &mut BTreeMap<String, PoolView>, rejections: &mut Vec<Rejection>) {
    let mut used: Vec<(String, IpNet)> = Vec::new();
    for (name, pool) in pools.iter_mut() {
        pool.cidrs.retain(|cidr| {
            let Some((other, other_cidr)) = used.iter().find(|(_, net)| overlap(net, cidr)) else {
                used.push((name.clone(), *cidr));
                return true;
            };
            rejections.push(Rejection::PoolOverlap {
                pool: name.clone(),
                cidr: *cidr,
                other: other.clone(),
                other_cidr: *other_cidr,
            });
            false
        });
    }
}

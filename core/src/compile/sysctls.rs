//! Sysctls: forwarding, and what our own links must not do.
//!
//! Forwarding is switched on for single interfaces: ours, and those that the cluster's packets come
//! in by. IPv6 knows that as `force_forwarding` since Linux 6.17; an older kernel forwards for all
//! interfaces or none, and then stops to believe router advertisements, so that interfaces which
//! live by them get `accept_ra` 2 first ([`ordered`]).
//!
//! On a pod's link each value is a file to read in the course of an ADD, so there are three. Reverse
//! path filtering is off there: the check of what pods send replaces it for both families, and it
//! costs a second route lookup for each packet. On a VXLAN device it is loose (2), because the
//! kernel takes the larger of this value and that of `all`: a strict `all` (1) would drop replies of
//! a node to another node's pods, which come by the underlay address. Router advertisements need no
//! value on pods' links: spoof protection drops them. `conf/default` is not ours.

use std::collections::{BTreeMap, BTreeSet};

use super::overlay::own_address;
use super::{Fact, UnitPlan};
use crate::finding::Finding;
use crate::view::{AttachmentKey, Family, NodeView};

/// Values in the order in which they must be written: `accept_ra` before `forwarding`.
#[must_use]
pub fn ordered(sysctls: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    let mut values: Vec<(&str, &str)> = sysctls
        .iter()
        .map(|(path, value)| (path.as_str(), value.as_str()))
        .collect();
    values.sort_by_key(|(path, _)| !path.ends_with("/accept_ra"));
    values
}

/// The host's own interfaces.
pub(super) fn base(view: &NodeView, plan: &mut UnitPlan) {
    let families = view.families();
    let links = cluster_links(view);
    if families.contains(&Family::V4) {
        for link in &links {
            set(plan, format!("ipv4/conf/{link}/forwarding"), "1");
        }
    }
    if !families.contains(&Family::V6) || !view.host.ipv6 {
        return;
    }
    if view.host.force_forwarding {
        for link in &links {
            set(plan, format!("ipv6/conf/{link}/force_forwarding"), "1");
        }
        return;
    }
    let interfaces = view.host.interfaces.iter();
    let advertised: Vec<&str> = interfaces
        .filter(|(_, interface)| interface.router_advertisements)
        .map(|(link, _)| link.as_str())
        .collect();
    for link in &advertised {
        set(plan, format!("ipv6/conf/{link}/accept_ra"), "2");
    }
    set(plan, "ipv6/conf/all/forwarding".to_owned(), "1");
    plan.find(Finding::GlobalIpv6Forwarding {
        interfaces: match advertised.as_slice() {
            [] => "none".to_owned(),
            links => links.join(", "),
        },
    });
}

/// A VXLAN device.
pub(super) fn vxlan(view: &NodeView, link: &str, plan: &mut UnitPlan) {
    let families = view.families();
    if families.contains(&Family::V4) {
        set(plan, format!("ipv4/conf/{link}/forwarding"), "1");
        set(plan, format!("ipv4/conf/{link}/rp_filter"), "2");
    }
    if view.host.ipv6 {
        set(plan, format!("ipv6/conf/{link}/accept_ra"), "0");
    }
    if view.host.ipv6 && families.contains(&Family::V6) {
        forward_v6(view, link, plan);
    }
}

/// A pod's link.
pub(super) fn pod(view: &NodeView, key: &AttachmentKey, plan: &mut UnitPlan) {
    let Some(pod) = view.pods.get(key).filter(|pod| pod.host_index.is_some()) else {
        return;
    };
    let link = &pod.host_link;
    let families: BTreeSet<Family> = pod.addresses.iter().copied().map(Family::of).collect();
    if families.contains(&Family::V4) {
        set(plan, format!("ipv4/conf/{link}/forwarding"), "1");
        set(plan, format!("ipv4/conf/{link}/rp_filter"), "0");
    }
    if families.contains(&Family::V6) {
        forward_v6(view, link, plan);
    }
}

fn forward_v6(view: &NodeView, link: &str, plan: &mut UnitPlan) {
    if view.host.force_forwarding {
        set(plan, format!("ipv6/conf/{link}/force_forwarding"), "1");
    }
}

/// Interfaces by which packets from and to pods come and go.
fn cluster_links(view: &NodeView) -> BTreeSet<&str> {
    let interfaces = &view.host.interfaces;
    let defaults = interfaces
        .iter()
        .filter(|(_, interface)| interface.default_route);
    let underlays = view.overlays.values().flat_map(|overlay| {
        let addresses = Family::ALL.map(|family| own_address(&view.host, overlay, family));
        addresses.into_iter().flatten()
    });
    let underlays = underlays.filter_map(|own| interfaces.get_key_value(&own.link));
    defaults
        .chain(underlays)
        .map(|(link, _)| link.as_str())
        .collect()
}

fn set(plan: &mut UnitPlan, path: String, value: &str) {
    plan.add(Fact::Sysctl(path, value.to_owned()));
}

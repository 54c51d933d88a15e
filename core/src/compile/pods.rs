//! Pods: what the host's end of a pod's veth pair needs.
//!
//! The link holds the pod's next hops (169.254.1.1 and fe80::1) itself, and a permanent entry for
//! the pod's hardware address stands for each of its addresses, so that neither end ever asks for
//! the other. 169.254.1.1 is of scope link, so that the kernel never chooses it as the source of a
//! packet to elsewhere, for masquerading least of all; packets of the node itself to a pod come
//! from the node's own address, which the route says.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::overlay::node_address;
use super::{Fact, UnitPlan, mtu, routes};
use crate::plan::{LinkAddress, POD_GATEWAY_V4, POD_GATEWAY_V6, PodLink, Route};
use crate::view::{AttachmentKey, Family, NodeView};

/// Link properties, gateway addresses, neighbours and routes of a pod whose link is there.
pub(super) fn pod(view: &NodeView, key: &AttachmentKey, plan: &mut UnitPlan) {
    let Some(pod) = view.pods.get(key).filter(|pod| pod.host_index.is_some()) else {
        return;
    };
    let link = &pod.host_link;
    let properties = PodLink {
        mac: pod.host_mac,
        mtu: mtu::pod_device(view),
    };
    plan.add(Fact::PodLink(link.clone(), properties));
    for &address in &pod.addresses {
        plan.add(Fact::Address(gateway(link, address)));
        plan.add(Fact::Neighbour(link.clone(), address, pod.pod_mac));
        let route = Route::Unicast {
            link: link.clone(),
            via: None,
            onlink: false,
            source: node_address(&view.host, Family::of(address)),
            mtu: None,
        };
        plan.add(Fact::Route(routes::host_net(address), route));
    }
}

/// The address that every link of ours holds: the next hop of pods, and on VXLAN devices what loose
/// reverse path filtering wants (a device without an IPv4 address fails it whatever the routes say).
pub(super) fn gateway(link: &str, address: IpAddr) -> LinkAddress {
    let address: IpNet = match address {
        IpAddr::V4(_) => Ipv4Net::from(POD_GATEWAY_V4).into(),
        IpAddr::V6(_) => Ipv6Net::new_assert(POD_GATEWAY_V6, 64).into(),
    };
    LinkAddress {
        link: link.to_owned(),
        address,
        link_scope: true,
    }
}

//! What is inside a pod: the one description that wiring makes and verification compares with.

use super::*;

/// An address inside the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodAddress {
    pub(super) address: IpNet,
    pub(super) link_scope: bool,
}

/// The pod's own addresses, and beside an IPv6 one the link-local address that every IPv6 interface
/// has (RFC 4291, section 2.8), given so that it is usable at once.
pub(super) fn addresses(wiring: &Wiring) -> Vec<PodAddress> {
    let mut found: Vec<PodAddress> = wiring
        .addresses
        .iter()
        .map(|address| PodAddress {
            address: IpNet::from(*address),
            link_scope: false,
        })
        .collect();
    if wiring.addresses.iter().any(IpAddr::is_ipv6) {
        let local = IpNet::new(names::link_local(wiring.pod_mac).into(), 64);
        found.extend(local.map(|address| PodAddress {
            address,
            link_scope: true,
        }));
    }
    found
}

/// The next hops of the families that the pod has.
pub(super) fn gateways(wiring: &Wiring) -> Vec<IpAddr> {
    let has = |wanted: fn(&IpAddr) -> bool| wiring.addresses.iter().any(wanted);
    let v4 = has(IpAddr::is_ipv4).then_some(POD_GATEWAY_V4.into());
    let v6 = has(IpAddr::is_ipv6).then_some(POD_GATEWAY_V6.into());
    v4.into_iter().chain(v6).collect()
}

/// The pod's routes. An IPv4 next hop needs a route to itself; an IPv6 one is on the link by its nature.
pub(super) fn routes(wiring: &Wiring) -> Vec<(IpNet, Route)> {
    let mut found = Vec::new();
    for gateway in gateways(wiring) {
        let any: IpNet = match gateway {
            IpAddr::V4(_) => IpNet::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            IpAddr::V6(_) => IpNet::from(IpAddr::from(Ipv6Addr::UNSPECIFIED)),
        };
        if gateway.is_ipv4() {
            found.push((gateway.into(), by(wiring, None)));
        }
        let any = IpNet::new(any.addr(), 0).unwrap_or(any);
        found.push((any, by(wiring, Some(gateway))));
    }
    found
}

fn by(wiring: &Wiring, via: Option<IpAddr>) -> Route {
    Route::Unicast {
        link: wiring.ifname.clone(),
        via,
        onlink: false,
        source: None,
        mtu: None,
    }
}

//! Routes to blocks: one for each block of another node, and `unreachable` for each of our own.
//!
//! A pod's own route is longer and wins; what is left of an own block has no pod, and its callers
//! learn so at once, instead of a packet bouncing between this node and its default gateway. A
//! block of a peer that cannot be reached gets the same answer: its packets must not leave by the
//! default route.

use ipnet::IpNet;

use super::overlay::{NoPath, Path, node_address, path};
use super::{Fact, UnitPlan, mtu};
use crate::plan::Route;
use crate::view::{BlockView, Family, NodeView};

/// The route to a block.
pub(super) fn block(view: &NodeView, name: &str, plan: &mut UnitPlan) {
    let Some(block) = view.blocks.get(name) else {
        return;
    };
    if Family::of_net(&block.cidr) == Family::V6 && !view.host.ipv6 {
        return;
    }
    let route = if block.node == view.node {
        Some(Route::Unreachable)
    } else {
        remote(view, block)
    };
    if let Some(route) = route {
        plan.add(Fact::Route(block.cidr, route));
    }
}

fn remote(view: &NodeView, block: &BlockView) -> Option<Route> {
    let family = Family::of_net(&block.cidr);
    let overlay = &view.pools.get(&block.pool)?.overlay;
    let path = match path(view, overlay, &block.node, family) {
        Ok(path) => path,
        Err(NoPath::NotOurs) => return None,
        Err(NoPath::NotYet | NoPath::Here | NoPath::There(_)) => return Some(Route::Unreachable),
    };
    let mtu = mtu::route(view, overlay, &block.node, &path, family);
    let (link, via, onlink) = match path {
        Path::Routed => return None,
        Path::Direct { own, via } => (own.link, via, false),
        // A link-local next hop needs no word about being on the link; any other has no subnet here.
        Path::Vxlan { link, via, .. } => (link, via, via.is_ipv4()),
    };
    Some(Route::Unicast {
        link,
        via: Some(via),
        onlink,
        source: node_address(&view.host, family),
        mtu,
    })
}

/// The network of one address.
pub(super) fn host_net(address: std::net::IpAddr) -> IpNet {
    IpNet::from(address)
}

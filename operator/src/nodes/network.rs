//! What a node is told: accepted overlays and pools, with every default resolved. What is in use
//! stays, also when its pool or overlay is not accepted any more: only no further address comes
//! from it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use weft_crds::{IPPool, NodeNetworkSpec, NodeOverlay, NodePool, NodePoolCidr};

use crate::blocks::view::served;
use crate::overlays::resolve::Resolved;
use crate::overlays::validate::Overlays;
use crate::pools::validate::{Pools, ValidPool};
use crate::snapshot::Snapshot;

/// The spec of every node's NodeNetwork, by node.
#[must_use]
pub fn networks(
    snapshot: &Snapshot,
    overlays: &Overlays,
    resolved: &BTreeMap<String, Resolved>,
    pools: &Pools,
) -> BTreeMap<String, NodeNetworkSpec> {
    let used = Used::of(snapshot);
    let shared = told_pools(snapshot, pools, resolved, &used);
    snapshot
        .nodes
        .keys()
        .map(|node| {
            let spec = NodeNetworkSpec {
                overlays: told_overlays(node, overlays, resolved, &used),
                pools: shared
                    .iter()
                    .map(|(pool, nodes)| NodePool {
                        assignable: nodes.contains(node),
                        ..pool.clone()
                    })
                    .collect(),
            };
            (node.clone(), spec)
        })
        .collect()
}

/// Who has blocks of what.
struct Used {
    /// Pools with blocks, and their networks.
    pools: BTreeMap<String, BTreeSet<IpNet>>,
    /// Nodes that have blocks of an overlay's pools, by overlay.
    overlays: BTreeMap<String, BTreeSet<String>>,
}

impl Used {
    fn of(snapshot: &Snapshot) -> Self {
        let mut used = Self {
            pools: BTreeMap::new(),
            overlays: BTreeMap::new(),
        };
        for block in snapshot.blocks.values() {
            let spec = &block.spec;
            let networks = used.pools.entry(spec.pool.clone()).or_default();
            networks.extend(spec.cidr.parse::<IpNet>());
            if let Some(pool) = snapshot.pools.get(&spec.pool) {
                let nodes = used
                    .overlays
                    .entry(pool.spec.overlay_ref.name.clone())
                    .or_default();
                nodes.insert(spec.node.clone());
            }
        }
        used
    }
}

fn told_overlays(
    node: &str,
    overlays: &Overlays,
    resolved: &BTreeMap<String, Resolved>,
    used: &Used,
) -> Vec<NodeOverlay> {
    overlays
        .valid
        .iter()
        .filter_map(|(name, overlay)| {
            let resolved = resolved.get(name)?;
            let selected = overlay.rejected.is_none() && resolved.nodes.contains(node);
            let in_use = used
                .overlays
                .get(name)
                .is_some_and(|nodes| nodes.contains(node));
            (selected || in_use).then(|| NodeOverlay {
                name: name.clone(),
                mode: overlay.mode,
                vni: overlay.vni,
                port: overlay.port,
                mtu: overlay.mtu,
                underlay_family: resolved.family.to_owned(),
                underlay_cidrs: overlay
                    .underlay_cidrs
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            })
        })
        .collect()
}

/// Every pool that all nodes are told of, with the nodes that may assign from it.
fn told_pools(
    snapshot: &Snapshot,
    pools: &Pools,
    resolved: &BTreeMap<String, Resolved>,
    used: &Used,
) -> Vec<(NodePool, BTreeSet<String>)> {
    snapshot
        .pools
        .iter()
        .filter_map(|(name, pool)| {
            let valid = pools
                .valid
                .get(name)
                .filter(|valid| !valid.for_load_balancers)?;
            let accepted = valid.rejected.is_none();
            let blocks = used.pools.get(name);
            if !accepted && blocks.is_none() {
                return None;
            }
            let nodes = if accepted && !valid.terminating {
                served(snapshot, valid, resolved)
            } else {
                BTreeSet::new()
            };
            Some((told_pool(name, pool, valid, blocks), nodes))
        })
        .collect()
}

fn told_pool(
    name: &str,
    pool: &IPPool,
    valid: &ValidPool,
    blocks: Option<&BTreeSet<IpNet>>,
) -> NodePool {
    let mut cidrs: Vec<NodePoolCidr> = valid
        .cidrs
        .iter()
        .map(|entry| NodePoolCidr {
            cidr: entry.cidr.to_string(),
            block_size: entry.block_size,
            reserved: entry.reserved.iter().map(ToString::to_string).collect(),
        })
        .collect();
    // Blocks of an entry that was removed are drained; until then their addresses are the pool's.
    let left = blocks
        .into_iter()
        .flatten()
        .filter(|block| !valid.cidrs.iter().any(|entry| entry.cidr.contains(*block)));
    cidrs.extend(left.map(|block| NodePoolCidr {
        cidr: block.to_string(),
        block_size: block.prefix_len(),
        reserved: Vec::new(),
    }));
    NodePool {
        name: name.to_owned(),
        overlay: valid.overlay.clone(),
        assignable: false,
        priority: pool.spec.priority,
        cidrs,
        prealloc: pool.spec.prealloc,
        cooldown_seconds: valid.cooldown_seconds,
        nat_outgoing: pool.spec.nat_outgoing.clone(),
    }
}

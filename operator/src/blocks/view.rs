//! From objects to an `AllocView`: accepted pools, the nodes that each serves, blocks and demand.

use std::collections::{BTreeMap, BTreeSet};

use weft_core::alloc::{
    AllocBlock, AllocCidr, AllocDemand, AllocNode, AllocPool, AllocReport, AllocUse, AllocView,
};
use weft_core::view::Family;
use weft_crds::{BlockState, IPBlock, IPPool, NodeReport};

use crate::cidr;
use crate::finalizer;
use crate::overlays::resolve::{Resolved, addresses};
use crate::pools::validate::{Pools, ValidPool};
use crate::selector;
use crate::snapshot::Snapshot;

/// What allocation plans from.
#[must_use]
pub fn view(
    snapshot: &Snapshot,
    pools: &Pools,
    resolved: &BTreeMap<String, Resolved>,
) -> AllocView {
    AllocView {
        pools: snapshot
            .pools
            .iter()
            .filter(|(_, pool)| !pool.spec.is_for_load_balancers())
            .map(|(name, pool)| {
                (
                    name.clone(),
                    alloc_pool(snapshot, name, pool, pools, resolved),
                )
            })
            .collect(),
        nodes: nodes(snapshot),
        blocks: snapshot
            .blocks
            .iter()
            .filter_map(|(name, block)| Some((name.clone(), alloc_block(block)?)))
            .collect(),
        taken: snapshot
            .services
            .values()
            .flatten()
            .copied()
            .chain(snapshot.nodes.values().flat_map(|node| {
                ["InternalIP", "ExternalIP"]
                    .into_iter()
                    .flat_map(|type_| addresses(node, type_))
                    .map(cidr::host)
            }))
            .collect(),
        node_grace: snapshot.node_grace,
    }
}

/// Nodes that get addresses from a pool: those that both the pool and its overlay select.
#[must_use]
pub fn served(
    snapshot: &Snapshot,
    pool: &ValidPool,
    resolved: &BTreeMap<String, Resolved>,
) -> BTreeSet<String> {
    let Some(overlay) = resolved.get(&pool.overlay) else {
        return BTreeSet::new();
    };
    overlay
        .nodes
        .iter()
        .filter(|name| {
            snapshot
                .nodes
                .get(*name)
                .is_some_and(|node| selector::matches(&pool.nodes, node.metadata.labels.as_ref()))
        })
        .cloned()
        .collect()
}

fn alloc_pool(
    snapshot: &Snapshot,
    name: &str,
    pool: &IPPool,
    pools: &Pools,
    resolved: &BTreeMap<String, Resolved>,
) -> AllocPool {
    let Some(valid) = pools.valid.get(name) else {
        // It cannot be read, so nothing is known to be uncovered: its blocks stay as they are.
        return AllocPool {
            cidrs: everything(),
            ..AllocPool::default()
        };
    };
    AllocPool {
        // Without the finalizer a deletion could take the pool away under its first block.
        accepted: valid.rejected.is_none()
            && !valid.terminating
            && finalizer::is_set(&pool.metadata),
        cidrs: if valid.terminating {
            Vec::new()
        } else {
            valid
                .cidrs
                .iter()
                .map(|entry| AllocCidr {
                    cidr: entry.cidr,
                    block_size: entry.block_size,
                    reserved: entry.reserved.clone(),
                })
                .collect()
        },
        nodes: served(snapshot, valid, resolved),
        priority: pool.spec.priority,
        prealloc: pool.spec.prealloc,
    }
}

fn everything() -> Vec<AllocCidr> {
    ["0.0.0.0/0", "::/0"]
        .into_iter()
        .filter_map(|all| all.parse().ok())
        .map(|cidr| AllocCidr {
            cidr,
            block_size: 128,
            reserved: Vec::new(),
        })
        .collect()
}

fn nodes(snapshot: &Snapshot) -> BTreeMap<String, AllocNode> {
    let present = snapshot.nodes.keys().map(|name| (name, None));
    let gone = snapshot
        .gone
        .iter()
        .filter(|(name, _)| !snapshot.nodes.contains_key(*name))
        .map(|(name, gone)| (name, Some(*gone)));
    present
        .chain(gone)
        .map(|(name, gone)| {
            let report = snapshot
                .reports
                .get(name)
                .map(|report| alloc_report(report));
            (name.clone(), AllocNode { gone, report })
        })
        .collect()
}

fn alloc_report(report: &NodeReport) -> AllocReport {
    let spec = &report.spec;
    let family = |text: &str| {
        Family::ALL
            .into_iter()
            .find(|family| family.to_string() == text)
    };
    AllocReport {
        pools: spec
            .pools
            .iter()
            .filter_map(|usage| {
                let demand = AllocDemand {
                    free: usage.free,
                    waiting: usage.waiting,
                };
                Some(((usage.pool.clone(), family(&usage.family)?), demand))
            })
            .collect(),
        blocks: spec
            .blocks
            .iter()
            .map(|block| {
                let usage = AllocUse {
                    occupied: block.allocated + block.cooling,
                    released: block.released,
                };
                (block.uid.clone(), usage)
            })
            .collect(),
    }
}

/// A block whose network cannot be read is left out: the API refuses such a one.
fn alloc_block(block: &IPBlock) -> Option<AllocBlock> {
    Some(AllocBlock {
        cidr: block.spec.cidr.parse().ok()?,
        pool: block.spec.pool.clone(),
        node: block.spec.node.clone(),
        draining: block.spec.state == BlockState::Draining,
        uid: block.metadata.uid.clone().unwrap_or_default(),
        resource_version: block.metadata.resource_version.clone().unwrap_or_default(),
        created: block
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(0, |time| time.0.as_second()),
    })
}

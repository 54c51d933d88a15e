//! Blocks that have to go: from the view to the blocks to drain and the blocks to delete.
//!
//! Draining costs nothing that is in use: the agent assigns no more, and gives the block up when
//! its last address has come back. A block whose pool is merely not accepted at the moment stays.

use std::collections::{BTreeMap, BTreeSet};

use super::range::{Occupied, Range};
use super::{AllocBlock, AllocPool, AllocView, DeleteBlock, DeleteReason, DrainBlock, DrainReason};

/// Blocks to set to Draining, by name.
pub(super) fn drain<'a>(view: &'a AllocView, overlaps: &BTreeMap<&str, &str>) -> Vec<DrainBlock> {
    let mut drained: BTreeMap<&'a str, DrainReason> = BTreeMap::new();
    for (name, block) in view.blocks.iter().filter(|(_, block)| !block.draining) {
        if let Some(reason) = unwanted(view, name, block, overlaps) {
            drained.insert(name, reason);
        }
    }
    let surplus = surplus(view, overlaps, &drained);
    drained.extend(surplus.into_iter().map(|name| (name, DrainReason::Surplus)));
    drained
        .into_iter()
        .map(|(name, reason)| DrainBlock {
            block: view.blocks[name].reference(name),
            reason,
        })
        .collect()
}

/// Blocks to delete, by name.
pub(super) fn delete(view: &AllocView) -> Vec<DeleteBlock> {
    view.blocks
        .iter()
        .filter(|(_, block)| block.draining)
        .filter_map(|(name, block)| {
            let reason = if node_gone(view, block) {
                DeleteReason::NodeGone
            } else if released(view, block) {
                DeleteReason::Released
            } else {
                return None;
            };
            Some(DeleteBlock {
                block: block.reference(name),
                reason,
            })
        })
        .collect()
}

fn unwanted(
    view: &AllocView,
    name: &str,
    block: &AllocBlock,
    overlaps: &BTreeMap<&str, &str>,
) -> Option<DrainReason> {
    let pool = view.pools.get(&block.pool);
    if node_gone(view, block) {
        Some(DrainReason::NodeGone)
    } else if overlaps.get(name).is_some_and(|older| stays(view, older)) {
        Some(DrainReason::Overlapped)
    } else if !pool.is_some_and(|pool| covered(pool, block)) {
        Some(DrainReason::NotCovered)
    } else if pool.is_some_and(|pool| pool.accepted && !pool.nodes.contains(&block.node))
        && view
            .nodes
            .get(&block.node)
            .is_some_and(|node| node.gone.is_none())
    {
        Some(DrainReason::NotSelected)
    } else {
        None
    }
}

/// An overlap with a block that is Draining ends by itself.
fn stays(view: &AllocView, block: &str) -> bool {
    view.blocks.get(block).is_some_and(|block| !block.draining)
}

fn covered(pool: &AllocPool, block: &AllocBlock) -> bool {
    pool.cidrs
        .iter()
        .any(|entry| entry.cidr.contains(&block.cidr))
}

fn node_gone(view: &AllocView, block: &AllocBlock) -> bool {
    view.nodes
        .get(&block.node)
        .and_then(|node| node.gone)
        .is_some_and(|gone| gone >= view.node_grace)
}

fn released(view: &AllocView, block: &AllocBlock) -> bool {
    view.nodes
        .get(&block.node)
        .and_then(|node| node.report.as_ref())
        .and_then(|report| report.blocks.get(&block.uid))
        .is_some_and(|usage| usage.released)
}

/// At most one empty block per node, pool and family, and only where two blocks' worth of free
/// addresses beyond `prealloc` would be left but one: the node has to use up a whole block before
/// it is granted one again, so it never swings between the two.
fn surplus<'a>(
    view: &'a AllocView,
    overlaps: &BTreeMap<&str, &str>,
    drained: &BTreeMap<&'a str, DrainReason>,
) -> Vec<&'a str> {
    let mut busy = BTreeSet::new();
    let mut empty = BTreeMap::new();
    for (name, block) in &view.blocks {
        let key = (block.node.as_str(), block.pool.as_str(), block.family());
        if block.draining || drained.contains_key(name.as_str()) {
            busy.insert(key);
        } else if !overlaps.contains_key(name.as_str()) && is_empty(view, block) {
            // The highest address goes, so that networks fill from below.
            let last = Range::from(block.cidr).last;
            let highest = empty.entry(key).or_insert((last, name.as_str()));
            *highest = (*highest).max((last, name.as_str()));
        }
    }
    empty
        .into_iter()
        .filter(|(key, _)| !busy.contains(key))
        .map(|(_, (_, name))| name)
        .filter(|name| is_surplus(view, &view.blocks[*name]))
        .collect()
}

fn is_empty(view: &AllocView, block: &AllocBlock) -> bool {
    view.nodes
        .get(&block.node)
        .filter(|node| node.gone.is_none())
        .and_then(|node| node.report.as_ref())
        .and_then(|report| report.blocks.get(&block.uid))
        .is_some_and(|usage| usage.occupied == 0)
}

fn is_surplus(view: &AllocView, block: &AllocBlock) -> bool {
    let Some(pool) = view.pools.get(&block.pool) else {
        return false;
    };
    let demand = view
        .nodes
        .get(&block.node)
        .and_then(|node| node.report.as_ref())
        .and_then(|report| report.pools.get(&(block.pool.clone(), block.family())));
    let size = usable(pool, block);
    demand.is_some_and(|demand| {
        demand.waiting == 0
            && u128::from(demand.free) >= u128::from(pool.prealloc) + size.saturating_mul(2)
            && u128::from(demand.free) > size
    })
}

/// Addresses of a block that pods could have.
pub(super) fn usable(pool: &AllocPool, block: &AllocBlock) -> u128 {
    let mut reserved = Occupied::default();
    for network in pool.cidrs.iter().flat_map(|entry| &entry.reserved) {
        let range = Range::from(*network);
        if range.family == block.family() {
            reserved.insert(range.first, range.last);
        }
    }
    let range = Range::from(block.cidr);
    reserved.free_within(range.first, range.last)
}

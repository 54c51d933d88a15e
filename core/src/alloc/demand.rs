//! What nodes lack: from pools, reports and blocks to the free addresses that each node is short
//! of, per pool and family.

use std::collections::{BTreeMap, BTreeSet};

use super::retire::usable;
use super::{AllocNode, AllocView, DrainBlock};
use crate::view::Family;

/// A node that should get a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demand<'a> {
    /// The node.
    pub node: &'a str,
    /// Free addresses that it should get on top of those that it has.
    pub short: u128,
    /// Pods that wait there.
    pub waiting: u64,
    /// It has no usable block of this pool and family at all.
    pub empty: bool,
}

/// Demands by pool and family; within one, in the order in which they are served.
pub(super) type Demands<'a> = BTreeMap<(&'a str, Family), Vec<Demand<'a>>>;

/// Every shortage. Blocks that are Draining, about to be, or overlapped count for nothing.
pub(super) fn demands<'a>(
    view: &'a AllocView,
    drain: &[DrainBlock],
    overlaps: &BTreeMap<&str, &str>,
) -> Demands<'a> {
    let drained: BTreeSet<&str> = drain
        .iter()
        .map(|drain| drain.block.name.as_str())
        .collect();
    let granted = granted(view, |name| {
        !drained.contains(name) && !overlaps.contains_key(name)
    });
    let mut demands = Demands::new();
    for (pool_name, pool) in view.pools.iter().filter(|(_, pool)| pool.accepted) {
        let families: BTreeSet<Family> = pool
            .cidrs
            .iter()
            .map(|entry| Family::of_net(&entry.cidr))
            .collect();
        for family in families {
            let mut short: Vec<Demand<'a>> = pool
                .nodes
                .iter()
                .filter_map(|name| Some((name.as_str(), view.nodes.get(name)?)))
                .filter(|(_, node)| node.gone.is_none())
                .filter_map(|(name, node)| {
                    let blocks = granted.get(&(name, pool_name.as_str(), family));
                    demand(name, node, (pool_name, family), pool.prealloc, blocks)
                })
                .collect();
            short.sort_by(|a, b| {
                (a.waiting == 0, !a.empty, a.node).cmp(&(b.waiting == 0, !b.empty, b.node))
            });
            if !short.is_empty() {
                demands.insert((pool_name, family), short);
            }
        }
    }
    demands
}

/// What a node's usable blocks of one pool and family are.
#[derive(Clone, Copy, Debug, Default)]
struct Granted {
    /// How many.
    blocks: usize,
    /// Addresses of those that the node's report does not know yet.
    unreported: u128,
}

fn granted(
    view: &AllocView,
    counts: impl Fn(&str) -> bool,
) -> BTreeMap<(&str, &str, Family), Granted> {
    let mut granted: BTreeMap<_, Granted> = BTreeMap::new();
    for (name, block) in &view.blocks {
        let Some(pool) = view.pools.get(&block.pool) else {
            continue;
        };
        if block.draining || !counts(name) {
            continue;
        }
        let key = (block.node.as_str(), block.pool.as_str(), block.family());
        let entry = granted.entry(key).or_default();
        entry.blocks += 1;
        let report = view
            .nodes
            .get(&block.node)
            .and_then(|node| node.report.as_ref());
        if !report.is_some_and(|report| report.blocks.contains_key(&block.uid)) {
            entry.unreported += usable(pool, block);
        }
    }
    granted
}

fn demand<'a>(
    name: &'a str,
    node: &AllocNode,
    (pool, family): (&String, Family),
    prealloc: u32,
    granted: Option<&Granted>,
) -> Option<Demand<'a>> {
    let granted = granted.copied().unwrap_or_default();
    let reported = node
        .report
        .as_ref()
        .and_then(|report| report.pools.get(&(pool.clone(), family)))
        .copied()
        .unwrap_or_default();
    // A report may be older than the last drain: without a usable block nothing is free.
    let free = if granted.blocks == 0 {
        0
    } else {
        reported.free
    };
    let wanted = u128::from(prealloc) + u128::from(reported.waiting);
    let short = wanted.saturating_sub(u128::from(free) + granted.unreported);
    (short > 0).then_some(Demand {
        node: name,
        short,
        waiting: reported.waiting,
        empty: granted.blocks == 0,
    })
}

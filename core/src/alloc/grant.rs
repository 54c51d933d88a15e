//! Grants: from shortages to new blocks, cut in order from what nobody has.

use std::collections::{BTreeMap, VecDeque};

use super::demand::{Demand, Demands};
use super::range::{Occupied, Range, lowest_gap};
use super::{AllocFinding, AllocPool, AllocView, NewBlock, ShortNode, block_name};
use crate::view::Family;

/// Blocks to create, and the pools that ran out.
pub(super) fn grant<'a>(
    view: &'a AllocView,
    mut demands: Demands<'a>,
) -> (Vec<NewBlock>, Vec<AllocFinding>) {
    let mut occupied = occupied(view);
    let mut create = Vec::new();
    let mut findings = Vec::new();
    let mut pools: Vec<(&String, &AllocPool)> = view.pools.iter().collect();
    pools.sort_by_key(|(name, pool)| (std::cmp::Reverse(pool.priority), name.as_str()));
    for (name, pool) in pools {
        for family in [Family::V4, Family::V6] {
            let Some(short) = demands.remove(&(name.as_str(), family)) else {
                continue;
            };
            let mut cutter = Cutter::new(pool, family, occupied.entry(family).or_default());
            let unserved = serve(name, short, &mut cutter, &mut create);
            if !unserved.is_empty() {
                findings.push(AllocFinding::Exhausted {
                    pool: name.clone(),
                    family,
                    nodes: unserved,
                });
            }
        }
    }
    (create, findings)
}

/// One block for each node in turn, until all have enough or nothing is left.
fn serve(
    pool: &str,
    short: Vec<Demand<'_>>,
    cutter: &mut Cutter<'_>,
    create: &mut Vec<NewBlock>,
) -> Vec<ShortNode> {
    let mut queue: VecDeque<Demand<'_>> = short.into();
    while let Some(mut demand) = queue.pop_front() {
        let Some((cidr, usable)) = cutter.cut() else {
            queue.push_front(demand);
            break;
        };
        create.push(NewBlock {
            name: block_name(cidr),
            cidr,
            pool: pool.to_owned(),
            node: demand.node.to_owned(),
        });
        demand.short = demand.short.saturating_sub(usable);
        if demand.short > 0 {
            queue.push_back(demand);
        }
    }
    let mut unserved: Vec<ShortNode> = queue
        .into_iter()
        .map(|demand| ShortNode {
            node: demand.node.to_owned(),
            waiting: demand.waiting,
        })
        .collect();
    unserved.sort_by(|a, b| b.waiting.cmp(&a.waiting).then_with(|| a.node.cmp(&b.node)));
    unserved
}

/// Cuts the blocks of one pool and family from below.
struct Cutter<'a> {
    /// Networks and lengths that are left, in order.
    entries: VecDeque<(ipnet::IpNet, u8)>,
    /// Where to go on in the first of them.
    from: Option<u128>,
    occupied: &'a mut Occupied,
    reserved: Occupied,
}

impl<'a> Cutter<'a> {
    fn new(pool: &AllocPool, of: Family, occupied: &'a mut Occupied) -> Self {
        let mut reserved = Occupied::default();
        let mut entries = VecDeque::new();
        for entry in pool
            .cidrs
            .iter()
            .filter(|entry| Family::of_net(&entry.cidr) == of)
        {
            entries.push_back((entry.cidr, entry.block_size));
            for network in entry
                .reserved
                .iter()
                .filter(|network| Family::of_net(network) == of)
            {
                let range = Range::from(*network);
                reserved.insert(range.first, range.last);
            }
        }
        Self {
            entries,
            from: None,
            occupied,
            reserved,
        }
    }

    /// The next block, and how many addresses of it pods can have.
    fn cut(&mut self) -> Option<(ipnet::IpNet, u128)> {
        loop {
            let (cidr, length) = *self.entries.front()?;
            let Some(block) = lowest_gap(cidr, length, self.from, self.occupied, &self.reserved)
            else {
                self.entries.pop_front();
                self.from = None;
                continue;
            };
            let range = Range::from(block);
            self.occupied.insert(range.first, range.last);
            self.from = Some(range.last);
            let usable = self.reserved.free_within(range.first, range.last);
            return Some((block, usable));
        }
    }
}

/// What nobody may be given, by family: blocks of every pool and state, Services, nodes' addresses.
fn occupied(view: &AllocView) -> BTreeMap<Family, Occupied> {
    let mut occupied: BTreeMap<Family, Occupied> = BTreeMap::new();
    let blocks = view.blocks.values().map(|block| block.cidr);
    for cidr in blocks.chain(view.taken.iter().copied()) {
        let range = Range::from(cidr);
        occupied
            .entry(range.family)
            .or_default()
            .insert(range.first, range.last);
    }
    occupied
}

//! Counts of a pool, per family: from blocks and the agents' reports to decimal strings and the
//! cells of `kubectl get ipp`.

use std::collections::BTreeSet;

use ipnet::IpNet;
use weft_core::alloc::load_balancer::BalancerRange;
use weft_core::view::Family;
use weft_crds::{FamilyUsage, PoolSummary};

use super::validate::ValidPool;
use crate::balancers::status::Held;
use crate::balancers::view::range;
use crate::snapshot::Snapshot;

/// Counts of each family that the pool has, and the cells for printing.
#[must_use]
pub fn usage(
    snapshot: &Snapshot,
    name: &str,
    pool: &ValidPool,
    held: &Held,
) -> (Vec<FamilyUsage>, PoolSummary) {
    let counts: Vec<Counts> = Family::ALL
        .into_iter()
        .filter_map(|family| {
            if pool.for_load_balancers {
                Counts::of_balancers(name, pool, held, family)
            } else {
                Counts::of(snapshot, name, pool, family)
            }
        })
        .collect();
    let holders: BTreeSet<&str> = snapshot
        .blocks
        .values()
        .filter(|block| block.spec.pool == name)
        .map(|block| block.spec.node.as_str())
        .collect();
    let cell = |number: fn(&Counts) -> u128| {
        let cells: Vec<String> = counts.iter().map(|counts| short(number(counts))).collect();
        cells.join("/")
    };
    let cidrs: Vec<String> = pool
        .cidrs
        .iter()
        .map(|entry| entry.cidr.to_string())
        .collect();
    let summary = PoolSummary {
        cidrs: cidrs.join(","),
        used: cell(|counts| counts.allocated),
        free: cell(Counts::free),
        nodes: i64::try_from(holders.len()).unwrap_or(i64::MAX),
    };
    (counts.iter().map(Counts::to_status).collect(), summary)
}

/// Whether Services hold every address of a family that a pool for load balancers has.
#[must_use]
pub fn is_full(name: &str, pool: &ValidPool, held: &Held, family: Family) -> bool {
    Counts::of_balancers(name, pool, held, family).is_some_and(|counts| counts.free() == 0)
}

/// A number as a cell shows it: exact below a billion, else with two digits: IPv6 counts are long.
fn short(number: u128) -> String {
    if number < 1_000_000_000 {
        return number.to_string();
    }
    let digits = number.to_string();
    let (first, second) = (&digits[..1], &digits[1..2]);
    format!("{first}.{second}e{}", digits.len() - 1)
}

struct Counts {
    family: Family,
    capacity: u128,
    reserved: u128,
    allocated: u128,
    cooling: u128,
    blocks: usize,
    nodes: usize,
}

impl Counts {
    fn of(snapshot: &Snapshot, name: &str, pool: &ValidPool, family: Family) -> Option<Self> {
        let entries: Vec<_> = pool
            .cidrs
            .iter()
            .filter(|entry| Family::of_net(&entry.cidr) == family)
            .collect();
        if entries.is_empty() {
            return None;
        }
        let total = entries
            .iter()
            .map(|entry| size(&entry.cidr))
            .fold(0, u128::saturating_add);
        let reserved = entries
            .iter()
            .map(|entry| union(&entry.reserved))
            .fold(0, u128::saturating_add);
        let blocks: Vec<_> = snapshot
            .blocks
            .values()
            .filter(|block| block.spec.pool == name)
            .filter(|block| {
                let network: Option<IpNet> = block.spec.cidr.parse().ok();
                network.is_some_and(|network| Family::of_net(&network) == family)
            })
            .collect();
        let nodes: BTreeSet<&str> = blocks
            .iter()
            .map(|block| block.spec.node.as_str())
            .collect();
        let label = family.to_string();
        let (mut allocated, mut cooling) = (0, 0);
        // A report outlives its node; what it says counts only while the node holds a block.
        for report in nodes.iter().filter_map(|node| snapshot.reports.get(*node)) {
            for used in report
                .spec
                .pools
                .iter()
                .filter(|used| used.pool == name && used.family == label)
            {
                allocated += u128::from(used.allocated);
                cooling += u128::from(used.cooling);
            }
        }
        Some(Self {
            family,
            capacity: total.saturating_sub(reserved),
            reserved,
            allocated,
            cooling,
            blocks: blocks.len(),
            nodes: nodes.len(),
        })
    }

    /// Of a pool for load balancers: what Services hold. There are no blocks, and nothing rests.
    fn of_balancers(name: &str, pool: &ValidPool, held: &Held, family: Family) -> Option<Self> {
        let ranges: Vec<BalancerRange> = pool
            .cidrs
            .iter()
            .filter(|entry| Family::of_net(&entry.cidr) == family)
            .map(range)
            .collect();
        if ranges.is_empty() {
            return None;
        }
        let (mut capacity, mut reserved) = (0_u128, 0_u128);
        for (free, kept) in ranges.iter().map(BalancerRange::sizes) {
            capacity = capacity.saturating_add(free);
            reserved = reserved.saturating_add(kept);
        }
        let given = held
            .of(name)
            .filter(|address| Family::of(*address) == family);
        Some(Self {
            family,
            capacity,
            reserved,
            allocated: given.count() as u128,
            cooling: 0,
            blocks: 0,
            nodes: 0,
        })
    }

    fn free(&self) -> u128 {
        self.capacity
            .saturating_sub(self.allocated)
            .saturating_sub(self.cooling)
    }

    fn to_status(&self) -> FamilyUsage {
        let Self {
            family,
            capacity,
            reserved,
            allocated,
            cooling,
            blocks,
            nodes,
        } = self;
        FamilyUsage {
            family: family.to_string(),
            capacity: capacity.to_string(),
            allocated: allocated.to_string(),
            free: self.free().to_string(),
            cooling: cooling.to_string(),
            reserved: reserved.to_string(),
            blocks: blocks.to_string(),
            nodes: nodes.to_string(),
        }
    }
}

fn size(network: &IpNet) -> u128 {
    1_u128
        .checked_shl(u32::from(network.max_prefix_len() - network.prefix_len()))
        .unwrap_or(u128::MAX)
}

/// Addresses in networks that may contain one another.
fn union(networks: &[IpNet]) -> u128 {
    IpNet::aggregate(&networks.to_vec())
        .iter()
        .map(size)
        .fold(0, u128::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_become_short_cells() {
        for (number, cell) in [
            (0, "0"),
            (65_520, "65520"),
            (999_999_999, "999999999"),
            (1_208_925_819_614_629_174_706_176, "1.2e24"),
        ] {
            assert_eq!(short(number), cell);
        }
    }

    #[test]
    fn reserved_networks_within_each_other_count_once() {
        let networks =
            ["10.0.0.0/28", "10.0.0.0/30", "10.0.1.0/28"].map(|text| text.parse().unwrap());
        assert_eq!(union(&networks), 32);
    }
}

//! Which of two overlapping blocks is not used: from all blocks to those that an older one overlaps.
//!
//! Names keep one network from being granted twice, but not two networks of different sizes. Their
//! nodes' agents see both blocks and must agree, without talking, on the one that may already be in
//! use: the one that was created first. Whoever sees the younger block has seen every older one that
//! still exists, because the API server tells of changes in their order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use ipnet::IpNet;

use super::range::Range;

/// What decides about the age of a block.
///
/// Creation times have whole seconds only. Within one second, of two Active blocks the one with the
/// lower resource version was created first, because nobody writes to an Active block without making
/// it Draining. A Draining block comes before an Active one: it may still have addresses, and
/// nobody assigns from it. A tie broken by UID or name would let the second owner use the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockAge<'a> {
    /// Name of the IPBlock.
    pub name: &'a str,
    /// Its network.
    pub cidr: IpNet,
    /// When it was created, seconds since 1970.
    pub created: i64,
    /// It is Draining.
    pub draining: bool,
    /// Its resource version: a decimal number that grows with each write (Kubernetes 1.35
    /// documents the order; etcd's revision is behind it since ever).
    pub resource_version: &'a str,
}

impl BlockAge<'_> {
    fn key(&self) -> impl Ord + use<'_> {
        let version = self.resource_version.trim_start_matches('0');
        (
            self.created,
            !self.draining,
            version.len(),
            version,
            self.name,
        )
    }

    /// Older first.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Names of the blocks that are not to be used, each with the name of an older one that overlaps it.
#[must_use]
pub fn overlapped<'a>(
    blocks: impl IntoIterator<Item = BlockAge<'a>>,
) -> BTreeMap<&'a str, &'a str> {
    let mut blocks: Vec<BlockAge<'a>> = blocks.into_iter().collect();
    blocks.sort_by_key(|block| {
        let range = Range::from(block.cidr);
        (range.family, range.first, std::cmp::Reverse(range.last))
    });
    let mut younger = BTreeMap::new();
    // CIDRs either contain one another or are apart, so the blocks that contain the present one are
    // a stack, each within the one below.
    let mut around: Vec<BlockAge<'a>> = Vec::new();
    for block in blocks {
        let range = Range::from(block.cidr);
        while around
            .last()
            .is_some_and(|outer| !Range::from(outer.cidr).overlaps(range))
        {
            around.pop();
        }
        for outer in &around {
            let (older, loser) = match outer.compare(&block) {
                Ordering::Greater => (block, *outer),
                Ordering::Less | Ordering::Equal => (*outer, block),
            };
            younger.entry(loser.name).or_insert(older.name);
        }
        around.push(block);
    }
    younger
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(
        name: &'static str,
        cidr: &str,
        created: i64,
        version: &'static str,
    ) -> BlockAge<'static> {
        BlockAge {
            name,
            cidr: cidr.parse().unwrap(),
            created,
            draining: false,
            resource_version: version,
        }
    }

    #[test]
    fn the_younger_of_two_is_not_used() {
        let blocks = [
            block("big", "10.0.0.0/24", 5, "50"),
            block("small", "10.0.0.64/26", 4, "40"),
            block("apart", "10.0.1.0/26", 6, "60"),
        ];
        assert_eq!(overlapped(blocks), BTreeMap::from([("big", "small")]));
    }

    #[test]
    fn within_a_second_the_resource_version_decides_as_a_number() {
        let blocks = [
            block("a", "10.0.0.0/24", 5, "1000"),
            block("b", "10.0.0.64/26", 5, "999"),
        ];
        assert_eq!(overlapped(blocks), BTreeMap::from([("a", "b")]));
    }

    #[test]
    fn within_a_second_a_draining_block_comes_first() {
        let mut blocks = [
            block("a", "10.0.0.0/24", 5, "1000"),
            block("b", "10.0.0.64/26", 5, "999"),
        ];
        blocks[0].draining = true;
        assert_eq!(overlapped(blocks), BTreeMap::from([("b", "a")]));
    }

    #[test]
    fn several_layers_are_compared_with_each_other() {
        let blocks = [
            block("outer", "10.0.0.0/22", 3, "30"),
            block("middle", "10.0.0.0/24", 2, "20"),
            block("inner", "10.0.0.0/26", 1, "10"),
            block("beside", "10.0.2.0/24", 1, "11"),
        ];
        let younger = overlapped(blocks);
        assert_eq!(
            younger.keys().copied().collect::<Vec<_>>(),
            ["middle", "outer"]
        );
        assert_eq!(younger["middle"], "inner");
    }

    #[test]
    fn families_do_not_meet() {
        let blocks = [
            block("v4", "0.0.0.0/20", 1, "1"),
            block("v6", "::/116", 2, "2"),
        ];
        assert!(overlapped(blocks).is_empty());
    }
}

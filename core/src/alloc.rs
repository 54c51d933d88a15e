//! Block allocation: from pools, nodes, demand and the blocks that exist, to the blocks to create,
//! to drain and to delete. A pure function, so that a model check can run the very code that the
//! operator runs.
//!
//! The rules that keep an address from being given twice, whoever believes to lead:
//!
//! 1. A block's name is the only spelling of its network, so the API server refuses a second one.
//! 2. Blocks of other sizes may still overlap, when two operators work from different pools or old
//!    caches. Then [`overlapped`] says, alike everywhere, which one is not to be used.
//! 3. A block is deleted by UID and resource version only: after its node's agent has reported that
//!    very block released, or after its Node has been gone for the grace period, the block has been
//!    Draining since, and a fresh read has found the Node still gone.
//!
//! Ties: pools by priority (higher first), then name; a pool's networks in the order of the spec; a
//! network's blocks from its lowest address; nodes with waiting pods first, then those without any
//! address, then by name, one block each in turn.

mod demand;
mod grant;
pub mod load_balancer;
mod name;
mod order;
mod range;
mod retire;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;

pub use name::{block_name, parse_block_name};
pub use order::{BlockAge, overlapped};

use crate::view::Family;

/// Everything that allocation depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocView {
    /// Pools by name, those that were not accepted too: their blocks stay.
    pub pools: BTreeMap<String, AllocPool>,
    /// Nodes by name: all that exist, and those that are gone and still have blocks.
    pub nodes: BTreeMap<String, AllocNode>,
    /// Every block, by name.
    pub blocks: BTreeMap<String, AllocBlock>,
    /// Networks of which nobody may get a part: Services, nodes' own addresses.
    pub taken: BTreeSet<IpNet>,
    /// How long a Node must be gone before its blocks are released.
    pub node_grace: Duration,
}

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocPool {
    /// Blocks are cut from it. Without this it only keeps those that it has.
    pub accepted: bool,
    /// Its networks, in the order of the spec. Empty when the pool is being deleted.
    pub cidrs: Vec<AllocCidr>,
    /// Nodes that get addresses from it.
    pub nodes: BTreeSet<String>,
    /// Higher is served first.
    pub priority: i32,
    /// Free addresses to hold ready on each node, per family.
    pub prealloc: u32,
}

/// One network of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocCidr {
    /// The network.
    pub cidr: IpNet,
    /// Prefix length of its blocks.
    pub block_size: u8,
    /// Networks inside it from which no pod gets an address.
    pub reserved: Vec<IpNet>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocNode {
    /// The Node object is not there, and has not been for so long.
    pub gone: Option<Duration>,
    /// What its agent reported; `None` before the first report.
    pub report: Option<AllocReport>,
}

/// What a node's agent reported of its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocReport {
    /// Demand per pool and family.
    pub pools: BTreeMap<(String, Family), AllocDemand>,
    /// Use of each block that the agent knows, by the block's UID.
    pub blocks: BTreeMap<String, AllocUse>,
}

/// A node's demand for addresses of one pool and family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocDemand {
    /// Addresses that pods could get at once.
    pub free: u64,
    /// Requests that wait for an address.
    pub waiting: u64,
}

/// Use of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocUse {
    /// Addresses that pods have, or that rest after use.
    pub occupied: u64,
    /// The agent has given the block up for good.
    pub released: bool,
}

/// A block that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocBlock {
    /// Its network.
    pub cidr: IpNet,
    /// The pool that it was cut from.
    pub pool: String,
    /// The node that it belongs to.
    pub node: String,
    /// No further address is assigned from it.
    pub draining: bool,
    /// UID of the IPBlock.
    pub uid: String,
    /// Resource version of the IPBlock.
    pub resource_version: String,
    /// When it was created, seconds since 1970.
    pub created: i64,
}

/// What is to be done, in an order that does not depend on the order of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocPlan {
    /// Blocks to create.
    pub create: Vec<NewBlock>,
    /// Blocks to set to Draining.
    pub drain: Vec<DrainBlock>,
    /// Blocks to delete.
    pub delete: Vec<DeleteBlock>,
    /// What somebody should know.
    pub findings: Vec<AllocFinding>,
}

/// A block to create.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewBlock {
    /// Its name, which follows from its network.
    pub name: String,
    /// Its network.
    pub cidr: IpNet,
    /// The pool that it is cut from.
    pub pool: String,
    /// The node that gets it.
    pub node: String,
}

/// One very version of a block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockRef {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// The node that it belongs to.
    pub node: String,
}

/// A block to set to Draining.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DrainBlock {
    /// The block.
    pub block: BlockRef,
    /// Why.
    pub reason: DrainReason,
}

/// Why a block is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainReason {
    /// Its Node has been gone for the grace period.
    NodeGone,
    /// Its pool is gone, or has no network any more that contains it.
    NotCovered,
    /// Its pool does not select its node any more.
    NotSelected,
    /// An older block overlaps it.
    Overlapped,
    /// Its node has far more free addresses than it needs.
    Surplus,
}

/// A block to delete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeleteBlock {
    /// The block.
    pub block: BlockRef,
    /// Why.
    pub reason: DeleteReason,
}

/// Why a block may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeleteReason {
    /// Its node's agent reported it released.
    Released,
    /// Its Node has been gone for the grace period, and the block Draining since. Whoever deletes
    /// reads the Node afresh, after the block's Draining was stored, and desists if it is there.
    NodeGone,
}

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllocFinding {
    /// A pool has no block left for nodes that need one.
    Exhausted {
        /// The pool.
        pool: String,
        /// The family that has run out.
        family: Family,
        /// Nodes that have fewer free addresses than they should, those with waiting pods first.
        nodes: Vec<ShortNode>,
    },
    /// A block overlaps an older one and is not used.
    Overlap {
        /// The younger block.
        block: String,
        /// The older one.
        older: String,
    },
}

/// A node that a pool could not serve.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShortNode {
    /// The node.
    pub node: String,
    /// Pods that wait for an address there.
    pub waiting: u64,
}

/// What to create, drain and delete, and what cannot be done.
#[must_use]
pub fn plan_blocks(view: &AllocView) -> AllocPlan {
    let ages: BTreeMap<&str, BlockAge<'_>> = view
        .blocks
        .iter()
        .map(|(name, block)| (name.as_str(), block.age(name)))
        .collect();
    let overlaps = overlapped(ages.values().copied());
    let drain = retire::drain(view, &overlaps);
    let delete = retire::delete(view);
    let demands = demand::demands(view, &drain, &overlaps);
    let (create, exhausted) = grant::grant(view, demands);
    let mut findings = exhausted;
    findings.extend(
        overlaps
            .into_iter()
            .map(|(block, older)| AllocFinding::Overlap {
                block: block.to_owned(),
                older: older.to_owned(),
            }),
    );
    AllocPlan {
        create,
        drain,
        delete,
        findings,
    }
}

impl AllocBlock {
    /// What decides which of two overlapping blocks is used.
    #[must_use]
    pub fn age<'a>(&'a self, name: &'a str) -> BlockAge<'a> {
        BlockAge {
            name,
            cidr: self.cidr,
            created: self.created,
            draining: self.draining,
            resource_version: &self.resource_version,
        }
    }

    fn reference(&self, name: &str) -> BlockRef {
        BlockRef {
            name: name.to_owned(),
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
            node: self.node.clone(),
        }
    }

    fn family(&self) -> Family {
        Family::of_net(&self.cidr)
    }
}

impl DrainReason {
    /// One CamelCase word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeGone => "NodeGone",
            Self::NotCovered => "NotCovered",
            Self::NotSelected => "NotSelected",
            Self::Overlapped => "Overlapped",
            Self::Surplus => "Surplus",
        }
    }
}

impl DeleteReason {
    /// One CamelCase word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "Released",
            Self::NodeGone => "NodeGone",
        }
    }
}

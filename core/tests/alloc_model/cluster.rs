//! The state of the model, small enough for millions of it, and its translation into the product's
//! types, so that the product's own functions decide.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use weft_core::alloc::{
    AllocBlock, AllocCidr, AllocNode, AllocPool, AllocReport, AllocUse, AllocView, BlockAge,
    DeleteReason, block_name, overlapped, plan_blocks,
};

/// Machines of the model.
pub const MACHINES: usize = 2;
/// Operators of the model.
pub const OPERATORS: usize = 2;
/// Blocks that there can ever be; a block's UID is its index, and the order of creation.
pub const BLOCKS: usize = 4;
const FIRST: u32 = 0x0a00_0000;

/// A block: its network, its machine, and whether it is Draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Index into the networks: 0 is the /30, 1 and 2 are /31, 3 to 6 are /32.
    pub network: u8,
    /// Its machine; also the operator's number in its pool's name.
    pub machine: u8,
    /// The pool that it was cut from.
    pub pool: u8,
    /// No further address is assigned from it.
    pub draining: bool,
}

/// Blocks by UID.
pub type Blocks = [Option<Block>; BLOCKS];

/// What the API server holds, or what somebody believes that it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Api {
    /// Blocks that exist.
    pub blocks: Blocks,
    /// How many have been created.
    pub created: u8,
    /// Nodes that do not exist, a bit for each machine.
    pub gone: u8,
    /// Blocks that were reported released, a bit for each UID.
    pub released: u8,
}

/// An operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operator {
    /// What it believes.
    pub cache: Api,
    /// It has read afresh that the Node of this block (UID + 1) is gone.
    pub confirmed: u8,
}

/// A machine, its pods and its agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Machine {
    /// It has no power: no pods, no agent.
    pub off: bool,
    /// Addresses that pods have, a bit for each.
    pub assigned: u8,
    /// The blocks that its agent believes in.
    pub cache: Blocks,
    /// The blocks that its agent believes in after a crash.
    pub disk: Blocks,
}

/// Everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The truth.
    pub api: Api,
    /// Both believe to lead.
    pub operators: [Operator; OPERATORS],
    /// The nodes.
    pub machines: [Machine; MACHINES],
}

/// What the product decides, in the model's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Blocks to create.
    pub create: Vec<Block>,
    /// UIDs to drain.
    pub drain: Vec<u8>,
    /// UIDs to delete, and whether because the Node is gone.
    pub delete: Vec<(u8, bool)>,
}

impl Api {
    /// UIDs that an older block overlaps, as the product judges.
    pub fn younger(&self) -> BTreeSet<u8> {
        younger(&self.blocks, true)
    }

    /// A block is gone and a later one has some of its addresses on another machine.
    pub fn deleted_before_others(&self) -> bool {
        // Machine 0's first block was a /31; once its UID is free, machine 1 has its network.
        self.blocks[0].is_none()
            && self.created > 1
            && self
                .blocks
                .iter()
                .flatten()
                .any(|block| addresses(block.network) & 1 != 0 && block.machine == 1)
    }
}

/// Addresses of a network, a bit for each.
pub fn addresses(network: u8) -> u8 {
    match network {
        0 => 0b1111,
        1 => 0b0011,
        2 => 0b1100,
        single => 1 << (single - 3),
    }
}

/// UIDs that an older block overlaps. Two blocks are created in each second.
pub fn younger(blocks: &Blocks, age_by_version: bool) -> BTreeSet<u8> {
    let named: Vec<(u8, String, String, Block)> = present(blocks)
        .map(|(uid, block)| {
            let version = if age_by_version {
                version(uid, block)
            } else {
                "1".to_owned()
            };
            (uid, block_name(cidr(block.network)), version, block)
        })
        .collect();
    let ages = named.iter().map(|(uid, name, version, block)| BlockAge {
        name,
        cidr: cidr(block.network),
        created: created(*uid),
        draining: block.draining,
        resource_version: version,
    });
    let losers = overlapped(ages);
    named
        .iter()
        .filter(|(_, name, ..)| losers.contains_key(name.as_str()))
        .map(|(uid, ..)| *uid)
        .collect()
}

/// What the product's code decides for an operator with this cache.
pub fn plan(operator: usize, cache: Api) -> Plan {
    let view = view(operator, cache);
    let uid = |text: &str| text.parse::<u8>().unwrap();
    let plan = plan_blocks(&view);
    Plan {
        create: plan
            .create
            .iter()
            .map(|block| Block {
                network: index(block.cidr),
                machine: uid(&block.node),
                pool: uid(&block.pool),
                draining: false,
            })
            .collect(),
        drain: plan
            .drain
            .iter()
            .map(|drain| uid(&drain.block.uid))
            .collect(),
        delete: plan
            .delete
            .iter()
            .map(|delete| {
                (
                    uid(&delete.block.uid),
                    delete.reason == DeleteReason::NodeGone,
                )
            })
            .collect(),
    }
}

fn view(operator: usize, cache: Api) -> AllocView {
    let released = |machine: usize| {
        let blocks = present(&cache.blocks)
            .filter(|(uid, block)| {
                usize::from(block.machine) == machine && cache.released & (1 << uid) != 0
            })
            .map(|(uid, _)| {
                let usage = AllocUse {
                    occupied: 0,
                    released: true,
                };
                (uid.to_string(), usage)
            });
        AllocReport {
            pools: BTreeMap::new(),
            blocks: blocks.collect(),
        }
    };
    let names: BTreeSet<String> = (0..MACHINES).map(|machine| machine.to_string()).collect();
    AllocView {
        pools: (0..OPERATORS)
            .map(|number| {
                let pool = AllocPool {
                    accepted: number == operator,
                    cidrs: vec![AllocCidr {
                        cidr: cidr(0),
                        block_size: if number == 0 { 31 } else { 32 },
                        reserved: Vec::new(),
                    }],
                    nodes: names.clone(),
                    priority: 0,
                    prealloc: 1,
                };
                (number.to_string(), pool)
            })
            .collect(),
        nodes: (0..MACHINES)
            .map(|machine| {
                let node = AllocNode {
                    gone: (cache.gone & (1 << machine) != 0).then_some(Duration::ZERO),
                    report: Some(released(machine)),
                };
                (machine.to_string(), node)
            })
            .collect(),
        blocks: present(&cache.blocks)
            .map(|(uid, block)| {
                let stored = AllocBlock {
                    cidr: cidr(block.network),
                    pool: block.pool.to_string(),
                    node: block.machine.to_string(),
                    draining: block.draining,
                    uid: uid.to_string(),
                    resource_version: version(uid, block),
                    created: created(uid),
                };
                (block_name(stored.cidr), stored)
            })
            .collect(),
        taken: BTreeSet::new(),
        node_grace: Duration::ZERO,
    }
}

/// Blocks with their UIDs.
pub fn present(blocks: &Blocks) -> impl Iterator<Item = (u8, Block)> {
    (0_u8..)
        .zip(blocks.iter())
        .filter_map(|(uid, block)| Some((uid, (*block)?)))
}

fn created(uid: u8) -> i64 {
    i64::from(uid / 2)
}

/// Draining is a later write than any creation.
fn version(uid: u8, block: Block) -> String {
    (u32::from(uid) + if block.draining { 100 } else { 1 }).to_string()
}

fn cidr(network: u8) -> IpNet {
    let (offset, length) = match network {
        0 => (0, 30),
        1 | 2 => ((u32::from(network) - 1) * 2, 31),
        single => (u32::from(single) - 3, 32),
    };
    Ipv4Net::new((FIRST + offset).into(), length)
        .unwrap()
        .into()
}

fn index(network: IpNet) -> u8 {
    (0..7).find(|index| cidr(*index) == network).unwrap()
}

//! The node's address book: which address each attachment has, and which one the next gets.
//!
//! A pure state machine over assign, release and the end of cool-down; its caller keeps the record
//! on disk and passes the time. Blocks come from the view; addresses in use do not go with a block
//! that vanishes. Within a pool the address that has been free for longest is given first, so that
//! a released one is used again as late as possible. No step looks at all addresses of a block.
//!
//! Every address of a pool may be given out, a network's first and last too: each pod has a route of
//! its own, so none of them means a network or a broadcast. `reserved` keeps some back.

mod block;
mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_crds::{BlockUsage, PoolUsage};

pub use error::{AssignError, RestoreError};

use crate::view::{AttachmentKey, Family, NodeView, PoolView};
use block::Block;

/// How long a refused request counts as waiting, in seconds: a runtime asks again sooner.
const WAITING_SECONDS: u64 = 60;
/// The rest of an address whose pool is gone or not known yet, in seconds: the default of `spec.cooldown`.
const DEFAULT_COOLDOWN_SECONDS: u64 = 30;
/// The longest rest that a pool may ask for, in seconds: a later end means that the clock was set back.
const MAX_COOLDOWN_SECONDS: u64 = 24 * 60 * 60;

/// An address of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// The pool that it came from.
    pub pool: String,
}

/// An address that has begun to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// The address.
    pub address: IpAddr,
    /// The pool that it came from.
    pub pool: String,
    /// It is free once the clock shows *more* than this, in seconds; so no fraction of a second is lost.
    pub until: u64,
}

/// All addresses of one node.
#[derive(Clone, Debug, Default)]
pub struct AddressBook {
    pools: BTreeMap<String, PoolView>,
    blocks: BTreeMap<String, Block>,
    /// Own blocks by network address, to find the block of an address.
    by_network: BTreeMap<IpAddr, String>,
    leases: BTreeMap<AttachmentKey, Vec<Lease>>,
    owners: BTreeMap<IpAddr, AttachmentKey>,
    resting: BTreeMap<IpAddr, Resting>,
    /// Ends of rest, soonest first.
    ends: BTreeSet<(u64, IpAddr)>,
    waiting: BTreeMap<AttachmentKey, Waiting>,
    /// Counts what has become free, so that the longest free comes first.
    sequence: u64,
    /// The node's kernel has no IPv6: pods get none.
    no_ipv6: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    since: u64,
    wants: BTreeSet<(String, Family)>,
}

impl AddressBook {
    /// Takes over pools and own blocks of a view. Addresses in use and resting stay as they are.
    pub fn configure(&mut self, view: &NodeView) {
        let own: BTreeMap<&String, _> = view
            .blocks
            .iter()
            .filter(|(_, block)| block.node == view.node)
            .collect();
        let range = |pools: &BTreeMap<String, PoolView>, pool: &str| {
            let pool = pools.get(pool)?;
            Some((pool.cidrs.clone(), pool.reserved.clone()))
        };
        self.blocks.retain(|name, block| {
            let same = range(&self.pools, &block.pool) == range(&view.pools, &block.pool);
            own.get(name).is_some_and(|new| same && block.is(new))
        });
        self.pools.clone_from(&view.pools);
        self.no_ipv6 = !view.host.ipv6;
        for (name, new) in own {
            if let Some(block) = self.blocks.get_mut(name) {
                block.draining = new.draining;
                continue;
            }
            let usable = Usable::of(self.pools.get(&new.pool));
            let taken = |address: IpAddr| {
                self.owners.contains_key(&address) || self.resting.contains_key(&address)
            };
            let mut block = Block::new(new);
            block.fill(&mut self.sequence, |address| {
                usable.contains(address) && !taken(address)
            });
            block.leased = within(&self.owners, &new.cidr).count();
            block.resting = within(&self.resting, &new.cidr).count();
            self.blocks.insert(name.clone(), block);
        }
        self.by_network = self
            .blocks
            .iter()
            .map(|(name, block)| (block.cidr.network(), name.clone()))
            .collect();
    }

    /// The addresses of an attachment: those that it has, or one of each family for which a pool of
    /// this node has networks. All or none.
    ///
    /// # Errors
    /// Which pool has no address, and what to do.
    pub fn assign(&mut self, now: u64, key: &AttachmentKey) -> Result<Vec<Lease>, AssignError> {
        if let Some(leases) = self.leases.get(key) {
            return Ok(leases.clone());
        }
        self.expire(now);
        let mut found = Vec::new();
        let mut missing = None;
        for family in Family::ALL {
            let pools = self.candidates(family);
            match self.pick(&pools, family) {
                Some(choice) => found.push(choice),
                None if pools.is_empty() => {}
                None => {
                    self.wait(now, key, &pools, family);
                    missing = missing.or_else(|| Some(self.refusal(pools, family)));
                }
            }
        }
        if let Some(error) = missing {
            return Err(error);
        }
        if found.is_empty() {
            return Err(AssignError::NoPool);
        }
        let leases: Vec<Lease> = found
            .into_iter()
            .filter_map(|(block, pool)| {
                let address = self.blocks.get_mut(&block)?.take()?;
                Some(Lease { address, pool })
            })
            .collect();
        for lease in &leases {
            self.owners.insert(lease.address, key.clone());
        }
        self.leases.insert(key.clone(), leases.clone());
        self.waiting.remove(key);
        Ok(leases)
    }

    /// Takes an attachment's addresses back; they begin to rest. Unknown is nothing.
    pub fn release(&mut self, now: u64, key: &AttachmentKey) -> Vec<Resting> {
        self.waiting.remove(key);
        let leases = self.leases.remove(key).unwrap_or_default();
        let rest = |lease: Lease| Resting {
            until: self.rests_until(now, &lease.pool),
            address: lease.address,
            pool: lease.pool,
        };
        let resting: Vec<Resting> = leases.into_iter().map(rest).collect();
        for rest in &resting {
            self.owners.remove(&rest.address);
            if let Some(block) = self.block_of(rest.address) {
                block.leased -= 1;
                block.resting += 1;
            }
            self.ends.insert((rest.until, rest.address));
            self.resting.insert(rest.address, rest.clone());
        }
        resting
    }

    /// Until when an address of a pool rests that is released now, Unix seconds.
    #[must_use]
    pub fn rests_until(&self, now: u64, pool: &str) -> u64 {
        let pool = self.pools.get(pool);
        match pool.map_or(DEFAULT_COOLDOWN_SECONDS, |pool| pool.cooldown_seconds) {
            0 => now.saturating_sub(1),
            seconds => now.saturating_add(seconds),
        }
    }

    /// Ends the rest of addresses whose time is up, and answers which.
    pub fn expire(&mut self, now: u64) -> Vec<IpAddr> {
        let mut expired = Vec::new();
        while let Some(&(until, address)) = self.ends.first() {
            if now <= until {
                break;
            }
            self.ends.pop_first();
            self.resting.remove(&address);
            self.free(address);
            expired.push(address);
        }
        expired
    }

    /// Takes over an attachment from the record.
    ///
    /// # Errors
    /// An address that is taken already: the record contradicts itself.
    pub fn restore(&mut self, key: &AttachmentKey, leases: Vec<Lease>) -> Result<(), RestoreError> {
        if self.leases.get(key) == Some(&leases) {
            return Ok(());
        }
        let mut mine = BTreeSet::new();
        for lease in &leases {
            let twice = self.leases.contains_key(key) || !mine.insert(lease.address);
            let other = self.owners.get(&lease.address).or(twice.then_some(key));
            if other.is_some() || self.resting.contains_key(&lease.address) {
                return Err(RestoreError {
                    address: lease.address,
                    key: key.clone(),
                    other: other.cloned(),
                });
            }
        }
        for lease in &leases {
            self.owners.insert(lease.address, key.clone());
            if let Some(block) = self.block_of(lease.address) {
                block.remove(lease.address);
                block.leased += 1;
            }
        }
        self.leases.insert(key.clone(), leases);
        Ok(())
    }

    /// Takes over a resting address from the record.
    ///
    /// # Errors
    /// An address that is taken already: the record contradicts itself.
    pub fn restore_resting(&mut self, now: u64, resting: Resting) -> Result<(), RestoreError> {
        let address = resting.address;
        if let Some(owner) = self.owners.get(&address) {
            return Err(RestoreError {
                address,
                key: owner.clone(),
                other: None,
            });
        }
        let until = resting.until.min(now.saturating_add(MAX_COOLDOWN_SECONDS));
        match self.resting.insert(address, Resting { until, ..resting }) {
            Some(old) => drop(self.ends.remove(&(old.until, address))),
            None => {
                if let Some(block) = self.block_of(address) {
                    block.remove(address);
                    block.resting += 1;
                }
            }
        }
        self.ends.insert((until, address));
        Ok(())
    }

    /// Every attachment and its addresses.
    pub fn leases(&self) -> impl Iterator<Item = (&AttachmentKey, &[Lease])> {
        self.leases
            .iter()
            .map(|(key, leases)| (key, leases.as_slice()))
    }

    /// The addresses of an attachment.
    #[must_use]
    pub fn of(&self, key: &AttachmentKey) -> Option<&[Lease]> {
        self.leases.get(key).map(Vec::as_slice)
    }

    /// Every resting address.
    pub fn resting(&self) -> impl Iterator<Item = &Resting> {
        self.resting.values()
    }

    /// Whether a request waits for an address.
    #[must_use]
    pub fn has_waiting(&self, now: u64) -> bool {
        self.waiting.values().any(|waiting| waiting.counts(now))
    }

    /// Use of every pool, for the NodeReport: each family of each pool that this node may assign from or has addresses of.
    #[must_use]
    pub fn pool_usage(&self, now: u64) -> Vec<PoolUsage> {
        let mut usage: BTreeMap<(&str, Family), PoolUsage> = BTreeMap::new();
        for (name, pool) in self.pools.iter().filter(|(_, pool)| pool.assignable) {
            for family in pool.cidrs.iter().map(Family::of_net) {
                usage.entry((name, family)).or_default();
            }
        }
        for block in self.blocks.values() {
            let entry = usage
                .entry((&block.pool, Family::of_net(&block.cidr)))
                .or_default();
            if !block.draining
                && self
                    .pools
                    .get(&block.pool)
                    .is_some_and(|pool| pool.assignable)
            {
                entry.free += block.free() as u64;
            }
        }
        for lease in self.leases.values().flatten() {
            usage
                .entry((&lease.pool, Family::of(lease.address)))
                .or_default()
                .allocated += 1;
        }
        for rest in self.resting.values() {
            usage
                .entry((&rest.pool, Family::of(rest.address)))
                .or_default()
                .cooling += 1;
        }
        for waiting in self.waiting.values().filter(|waiting| waiting.counts(now)) {
            for (pool, family) in &waiting.wants {
                usage.entry((pool, *family)).or_default().waiting += 1;
            }
        }
        let named = |((pool, family), usage): ((&str, Family), PoolUsage)| PoolUsage {
            pool: pool.to_owned(),
            family: family.as_str().to_owned(),
            ..usage
        };
        usage.into_iter().map(named).collect()
    }

    /// Use of every own block, for the NodeReport. A block is given up (`released`) once it drains
    /// and none of its addresses is in use or resting; draining never ends, so it stays given up.
    #[must_use]
    pub fn block_usage(&self) -> Vec<BlockUsage> {
        let usage = |(name, block): (&String, &Block)| BlockUsage {
            name: name.clone(),
            uid: block.uid.clone(),
            allocated: block.leased as u64,
            cooling: block.resting as u64,
            released: block.draining && block.leased == 0 && block.resting == 0,
            overlaps: None,
        };
        self.blocks.iter().map(usage).collect()
    }

    /// Pools from which an address of a family may come, the preferred one first.
    fn candidates(&self, family: Family) -> Vec<String> {
        let mut pools: Vec<(&String, &PoolView)> = self
            .pools
            .iter()
            .filter(|(_, pool)| pool.assignable && pool.has(family))
            .filter(|_| family == Family::V4 || !self.no_ipv6)
            .collect();
        pools.sort_by_key(|(name, pool)| (std::cmp::Reverse(pool.priority), *name));
        pools.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// The block whose first free address has been free for longest, of the first pool that has one.
    fn pick(&self, pools: &[String], family: Family) -> Option<(String, String)> {
        pools.iter().find_map(|pool| {
            let blocks = self.blocks.iter().filter(|(_, block)| {
                block.pool == *pool && !block.draining && Family::of_net(&block.cidr) == family
            });
            let (_, name) = blocks
                .filter_map(|(name, block)| Some((block.oldest()?, name)))
                .min()?;
            Some((name.clone(), pool.clone()))
        })
    }

    fn wait(&mut self, now: u64, key: &AttachmentKey, pools: &[String], family: Family) {
        let waiting = self.waiting.entry(key.clone()).or_insert(Waiting {
            since: now,
            wants: BTreeSet::new(),
        });
        waiting.since = now;
        let wants = pools.iter().map(|pool| (pool.clone(), family));
        waiting.wants.extend(wants);
    }

    fn refusal(&self, pools: Vec<String>, family: Family) -> AssignError {
        let of_family =
            |block: &&Block| pools.contains(&block.pool) && Family::of_net(&block.cidr) == family;
        let mut blocks = self.blocks.values().filter(of_family).peekable();
        if blocks.peek().is_none() {
            return AssignError::NoBlock { family, pools };
        }
        let (leased, resting) = blocks.fold((0, 0), |(leased, resting), block| {
            (leased + block.leased, resting + block.resting)
        });
        AssignError::Exhausted {
            family,
            pools,
            leased,
            resting,
        }
    }

    /// An address can be used again, if it is in a block that still is there.
    fn free(&mut self, address: IpAddr) {
        self.sequence += 1;
        let sequence = self.sequence;
        let Some(name) = self.block_name_of(address) else {
            return;
        };
        let Some(block) = self.blocks.get_mut(&name) else {
            return;
        };
        block.resting -= 1;
        if Usable::of(self.pools.get(&block.pool)).contains(address) {
            block.insert(sequence, address);
        }
    }

    fn block_of(&mut self, address: IpAddr) -> Option<&mut Block> {
        let name = self.block_name_of(address)?;
        self.blocks.get_mut(&name)
    }

    fn block_name_of(&self, address: IpAddr) -> Option<String> {
        let (_, name) = self.by_network.range(..=address).next_back()?;
        let block = self.blocks.get(name)?;
        block.cidr.contains(&address).then(|| name.clone())
    }
}

impl Waiting {
    fn counts(&self, now: u64) -> bool {
        now.saturating_sub(self.since) <= WAITING_SECONDS
    }
}

/// Which addresses of a pool may be given to pods.
#[derive(Clone, Copy, Debug)]
pub struct Usable<'a> {
    cidrs: &'a [IpNet],
    reserved: &'a [IpNet],
}

impl<'a> Usable<'a> {
    /// Those of a pool; of a pool that is not there, none.
    #[must_use]
    pub fn of(pool: Option<&'a PoolView>) -> Self {
        Self {
            cidrs: pool.map_or(&[], |pool| &pool.cidrs),
            reserved: pool.map_or(&[], |pool| &pool.reserved),
        }
    }

    /// Whether a pod may have an address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidrs.iter().any(|net| net.contains(&address))
            && !self.reserved.iter().any(|net| net.contains(&address))
    }
}

/// Entries of a map that are within a network.
fn within<'a, V>(map: &'a BTreeMap<IpAddr, V>, net: &IpNet) -> impl Iterator<Item = &'a V> {
    map.range(net.network()..=net.broadcast())
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests;

//! One own block: which of its addresses are free, the longest free first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::view::BlockView;

/// A block of this node.
#[derive(Clone, Debug)]
pub struct Block {
    /// UID of the IPBlock.
    pub uid: String,
    /// The pool that it was cut from.
    pub pool: String,
    /// Its network.
    pub cidr: IpNet,
    /// No further address is given out.
    pub draining: bool,
    /// Addresses in use.
    pub leased: usize,
    /// Addresses resting.
    pub resting: usize,
    /// Free addresses, with the moment at which each became free.
    free: BTreeSet<(u64, IpAddr)>,
    /// The same by address.
    since: BTreeMap<IpAddr, u64>,
}

impl Block {
    /// A block in which no address is free yet.
    pub fn new(view: &BlockView) -> Self {
        Self {
            uid: view.uid.clone(),
            pool: view.pool.clone(),
            cidr: view.cidr,
            draining: view.draining,
            leased: 0,
            resting: 0,
            free: BTreeSet::new(),
            since: BTreeMap::new(),
        }
    }

    /// Whether it is the block of a view; the state may differ.
    pub fn is(&self, view: &BlockView) -> bool {
        (&self.uid, &self.pool, self.cidr) == (&view.uid, &view.pool, view.cidr)
    }

    /// Frees every address that passes. Blocks hold 4096 addresses at most (an IPPool's rule).
    pub fn fill(&mut self, sequence: &mut u64, pass: impl Fn(IpAddr) -> bool) {
        for address in addresses(self.cidr) {
            if pass(address) {
                *sequence += 1;
                self.insert(*sequence, address);
            }
        }
    }

    /// Takes the address that has been free for longest.
    pub fn take(&mut self) -> Option<IpAddr> {
        let (_, address) = self.free.pop_first()?;
        self.since.remove(&address);
        self.leased += 1;
        Some(address)
    }

    /// An address is free.
    pub fn insert(&mut self, sequence: u64, address: IpAddr) {
        self.free.insert((sequence, address));
        self.since.insert(address, sequence);
    }

    /// An address is not free.
    pub fn remove(&mut self, address: IpAddr) {
        if let Some(sequence) = self.since.remove(&address) {
            self.free.remove(&(sequence, address));
        }
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// When the address that would be taken next became free.
    pub fn oldest(&self) -> Option<u64> {
        self.free.first().map(|(sequence, _)| *sequence)
    }
}

/// Every address of a network, its first and last included.
fn addresses(net: IpNet) -> Box<dyn Iterator<Item = IpAddr>> {
    match net {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            Box::new((first..=last).map(|bits| IpAddr::V4(bits.into())))
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            Box::new((first..=last).map(|bits| IpAddr::V6(bits.into())))
        }
    }
}

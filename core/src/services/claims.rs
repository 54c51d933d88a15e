//! Who has an address and port that several Services claim.
//!
//! A cluster IP belongs to its Service whatever another one writes into `externalIPs`; otherwise the
//! older Service has it, and the other one a finding.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ServiceName;
use super::numbers::Tuple;
use super::unit::Kind;

/// Place in the queue for a frontend: the first has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub kind: Kind,
    pub created: i64,
    pub name: ServiceName,
}

/// Owners of all frontends.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    owners: HashMap<Tuple, u32>,
    contested: BTreeMap<Tuple, BTreeSet<(Rank, u32)>>,
}

impl Claims {
    /// Whether a frontend is a Service's own.
    pub fn has(&self, tuple: &Tuple, id: u32) -> bool {
        self.owners.get(tuple) == Some(&id)
    }

    /// Claims a frontend. `rank` tells the rank of whoever has it now. Answers who lost it.
    pub fn claim(&mut self, tuple: Tuple, id: u32, rank: impl Fn(u32) -> Rank) -> Option<u32> {
        let Some(owner) = self.owners.get(&tuple).copied() else {
            self.owners.insert(tuple, id);
            return None;
        };
        if owner == id && !self.contested.contains_key(&tuple) {
            return None;
        }
        let queue = self.contested.entry(tuple).or_default();
        queue.retain(|(_, other)| *other != id);
        if queue.is_empty() {
            queue.insert((rank(owner), owner));
        }
        queue.insert((rank(id), id));
        self.settle(tuple, owner)
    }

    /// Gives a frontend up. Answers who has it now, if that is another one.
    pub fn release(&mut self, tuple: Tuple, id: u32) -> Option<u32> {
        let owner = self.owners.get(&tuple).copied()?;
        let Some(queue) = self.contested.get_mut(&tuple) else {
            if owner == id {
                self.owners.remove(&tuple);
            }
            return None;
        };
        queue.retain(|(_, other)| *other != id);
        self.settle(tuple, owner);
        self.owners.get(&tuple).copied().filter(|now| *now != owner)
    }

    /// Frontends that Services claim in vain, with the one that has it.
    pub fn lost(&self) -> impl Iterator<Item = (&Tuple, &ServiceName, &ServiceName)> {
        self.contested.iter().flat_map(|(tuple, queue)| {
            let first = queue.first().map(|(rank, _)| &rank.name);
            let rest = queue.iter().skip(1).map(|(rank, _)| &rank.name);
            rest.filter_map(move |name| Some((tuple, name, first?)))
        })
    }

    /// Gives a contested frontend to the first in the queue. Answers who lost it.
    fn settle(&mut self, tuple: Tuple, owner: u32) -> Option<u32> {
        let queue = self.contested.get(&tuple)?;
        let first = queue.first().map(|(_, id)| *id);
        if queue.len() < 2 {
            self.contested.remove(&tuple);
        }
        match first {
            Some(first) => drop(self.owners.insert(tuple, first)),
            None => drop(self.owners.remove(&tuple)),
        }
        first.filter(|first| *first != owner).map(|_| owner)
    }
}

//! A map from services to their names, of which a snapshot costs next to nothing.
//!
//! Snapshots share all parts that did not change between them: a change copies one shard, of a few entries.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::unit::Unit;

/// As many shards as make a shard of a large cluster (10,000 services) hold two or three.
const SHARDS: usize = 4096;

type Shard = Arc<[(u64, Arc<Unit>)]>;

/// Units by the key of their service.
#[derive(Clone)]
pub struct Shards {
    hasher: RandomState,
    shards: Vec<Shard>,
    count: usize,
}

impl Default for Shards {
    fn default() -> Self {
        let empty: Shard = Arc::new([]);
        Self {
            hasher: RandomState::new(),
            shards: vec![empty; SHARDS],
            count: 0,
        }
    }
}

impl Shards {
    /// The unit of a service.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Unit>> {
        let hash = self.hasher.hash_one(key);
        let found = self.shards[place(hash)]
            .iter()
            .find(|(other, unit)| *other == hash && *unit.key == *key);
        found.map(|(_, unit)| unit)
    }

    /// Puts a unit in the place of the one before.
    pub fn set(&mut self, key: &[u8], unit: Option<Arc<Unit>>) {
        let hash = self.hasher.hash_one(key);
        let shard = &mut self.shards[place(hash)];
        let before = shard.len();
        let others = shard.iter().filter(|(_, unit)| *unit.key != *key).cloned();
        *shard = others.chain(unit.map(|unit| (hash, unit))).collect();
        self.count = self.count + shard.len() - before;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// All units, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Unit>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.iter().map(|(_, unit)| unit))
    }
}

fn place(hash: u64) -> usize {
    usize::try_from(hash % SHARDS as u64).unwrap_or_default()
}

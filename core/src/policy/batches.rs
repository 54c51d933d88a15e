//! Transactions from some elements to others.
//!
//! A packet looks up several maps, one after the other, and a commit may come in between: what it finds
//! later is as new as what it found before, or newer. So what is added or replaced goes into a first
//! transaction, and what is only removed into a second one, when nothing leads to it any more.

use std::collections::{BTreeMap, BTreeSet};

use weft_nft::{Batch, Change, Element, Key};

use super::bulk::{Bulk, Elements};
use crate::names;

/// What makes sets right: changes of a first transaction, and of a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Elements that are replaced, deleted before they are added again.
    replaced: Vec<Change>,
    added: Vec<Change>,
    removed: Vec<Change>,
}

impl Repair {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }

    /// None, one or two transactions.
    #[must_use]
    pub fn batches(mut self) -> Vec<Batch> {
        self.replaced.append(&mut self.added);
        let batches = [self.replaced, self.removed].into_iter();
        let batches = batches.filter(|changes| !changes.is_empty());
        let batches = batches.map(|changes| Batch {
            table: names::TABLE.to_owned(),
            changes,
        });
        batches.collect()
    }

    /// Adds what makes one set right.
    pub(super) fn set(
        &mut self,
        set: Bulk,
        mut before: BTreeMap<Key, Element>,
        mut after: BTreeMap<Key, Element>,
    ) {
        let mut first = BTreeSet::new();
        before.retain(|key, element| match after.get(key) {
            Some(new) if new == element => {
                after.remove(key);
                false
            }
            Some(_) => {
                first.insert(key.clone());
                false
            }
            None => true,
        });
        let mut last: BTreeSet<Key> = before.into_keys().collect();
        // Ranges must not overlap, so old ones go before new ones come.
        if set.has_intervals() && !after.is_empty() {
            first.append(&mut last);
        }
        self.replaced.extend(delete(set, first));
        self.added.extend(add(set, after));
        self.removed.extend(delete(set, last));
    }

    /// Adds what makes other sets right.
    pub fn append(&mut self, mut other: Self) {
        self.replaced.append(&mut other.replaced);
        self.added.append(&mut other.added);
        self.removed.append(&mut other.removed);
    }
}

/// None, one or two transactions.
pub(super) fn difference(mut have: Elements, mut want: Elements) -> Vec<Batch> {
    let mut sets: BTreeSet<Bulk> = have.keys().copied().collect();
    sets.extend(want.keys());
    let mut repair = Repair::default();
    for set in sets {
        let before = have.remove(&set).unwrap_or_default();
        let after = want.remove(&set).unwrap_or_default();
        repair.set(set, before, after);
    }
    repair.batches()
}

fn add(set: Bulk, elements: BTreeMap<Key, Element>) -> Option<Change> {
    (!elements.is_empty()).then(|| Change::AddElements {
        set: set.name(),
        interval: set.has_intervals(),
        elements,
    })
}

fn delete(set: Bulk, keys: BTreeSet<Key>) -> Option<Change> {
    (!keys.is_empty()).then(|| Change::DeleteElements {
        set: set.name(),
        interval: set.has_intervals(),
        keys,
    })
}

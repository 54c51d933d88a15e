//! Transactions from some elements to others.
//!
//! A packet looks up several maps, one after the other, and a commit may come in between: what it finds
//! later is as new as what it found before, or newer. So what is added or replaced goes into a first
//! transaction, and what is only removed into a second one, when nothing leads to it any more.

use std::collections::{BTreeMap, BTreeSet};

use weft_nft::{Batch, Change, Element, Key};

use super::bulk::{Bulk, Elements};
use crate::names;

/// None, one or two transactions.
pub(super) fn difference(mut have: Elements, mut want: Elements) -> Vec<Batch> {
    let mut sets: BTreeSet<Bulk> = have.keys().copied().collect();
    sets.extend(want.keys());
    let (mut replaced, mut added, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for set in sets {
        let mut before = have.remove(&set).unwrap_or_default();
        let mut after = want.remove(&set).unwrap_or_default();
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
        replaced.extend(delete(set, first));
        added.extend(add(set, after));
        removed.extend(delete(set, last));
    }
    replaced.append(&mut added);
    let batches = [replaced, removed].into_iter();
    let batches = batches.filter(|changes| !changes.is_empty());
    let batches = batches.map(|changes| Batch {
        table: names::TABLE.to_owned(),
        changes,
    });
    batches.collect()
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

//! Transactions that take the kernel from one state of some Services to the next.
//!
//! A packet looks up several maps, one after the other, and a commit may come in between: what it
//! finds later is as new as what it found before, or newer. So what is added or replaced may go into
//! one transaction; what is removed behind the first map goes in a second one, when nothing leads to
//! it any more. A cold load is cut into many such pairs, Service by Service, each rendered when it is
//! asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use weft_nft::{Batch, Change, Element, Key};

use super::ServiceName;
use super::bulk::{self, Bulk, Elements};
use super::unit::Compiled;
use crate::names;
use crate::view::Family;

/// About so many elements go into one transaction.
const ELEMENTS: usize = 8192;

/// A Service before and after.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    pub name: ServiceName,
    pub old: Arc<Compiled>,
    pub new: Arc<Compiled>,
    /// A frontend went from one Service to another: both must be in one transaction.
    pub moved: bool,
}

/// Transactions, made one at a time as they are asked for: a cold load is large.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// To be committed as they are, before everything else.
    ready: VecDeque<Batch>,
    /// In reverse order.
    touched: Vec<Touched>,
    /// Addresses that come to a set.
    added: Vec<(Bulk, IpAddr)>,
    /// Addresses that go from a set, when all else is done.
    removed: Vec<(Bulk, IpAddr)>,
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        while self.ready.is_empty() && !self.is_empty() {
            self.prepare();
        }
        self.ready.pop_front()
    }
}

impl Batches {
    pub(super) fn new(
        mut touched: Vec<Touched>,
        added: Vec<(Bulk, IpAddr)>,
        removed: Vec<(Bulk, IpAddr)>,
    ) -> Self {
        touched.sort_by_key(|touched| touched.moved);
        Self {
            ready: VecDeque::new(),
            touched,
            added,
            removed,
        }
    }

    /// Nothing is to be committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            ready,
            touched,
            added,
            removed,
        } = self;
        ready.is_empty() && touched.is_empty() && added.is_empty() && removed.is_empty()
    }

    /// Puts what was not committed in front.
    pub(super) fn resume(&mut self, batch: Option<Batch>, rest: Batches) {
        let mut ready: VecDeque<Batch> = batch.into_iter().chain(rest).collect();
        ready.append(&mut self.ready);
        self.ready = ready;
    }

    /// Renders the next part.
    fn prepare(&mut self) {
        let (mut have, mut want) = (Elements::new(), Elements::new());
        let mut size = 0;
        while size < ELEMENTS {
            let Some((bulk, address)) = self.added.pop() else {
                break;
            };
            let (set, key, element) = bulk::address_element(bulk, address);
            want.entry(set).or_default().insert(key, element);
            size += 1;
        }
        while let Some(next) = self.touched.pop_if(|next| size < ELEMENTS || next.moved) {
            bulk::render(next.name.as_str(), &next.old, &mut have);
            bulk::render(next.name.as_str(), &next.new, &mut want);
            size = total(&want).max(total(&have));
        }
        if self.touched.is_empty() && self.added.is_empty() {
            while size < 2 * ELEMENTS {
                let Some((bulk, address)) = self.removed.pop() else {
                    break;
                };
                let (set, key, element) = bulk::address_element(bulk, address);
                have.entry(set).or_default().insert(key, element);
                size += 1;
            }
        }
        self.ready.extend(difference(have, want));
    }
}

fn total(elements: &Elements) -> usize {
    elements.values().map(BTreeMap::len).sum()
}

/// One or two transactions from some elements to others.
fn difference(mut have: Elements, want: Elements) -> Vec<Batch> {
    let mut sets: BTreeSet<(Bulk, Family)> = have.keys().copied().collect();
    sets.extend(want.keys().copied());
    let mut first = Vec::new();
    let mut additions = Vec::new();
    let mut last = Vec::new();
    let mut want = want;
    for set in sets {
        let mut before = have.remove(&set).unwrap_or_default();
        let mut after = want.remove(&set).unwrap_or_default();
        let mut replaced = BTreeSet::new();
        before.retain(|key, element| match after.get(key) {
            Some(new) if new == element => {
                after.remove(key);
                false
            }
            Some(_) => {
                replaced.insert(key.clone());
                false
            }
            None => true,
        });
        let gone: BTreeSet<Key> = before.into_keys().collect();
        // Ranges must not overlap, so old ones go before new ones come; a packet in between is dropped.
        if matches!(set.0, Bulk::Count | Bulk::Sources) {
            replaced.extend(gone);
        } else {
            last.extend(delete(set, gone));
        }
        first.extend(delete(set, replaced));
        additions.extend(add(set, after));
    }
    first.append(&mut additions);
    // What a packet finds first goes first.
    last.reverse();
    [first, last]
        .into_iter()
        .filter(|changes| !changes.is_empty())
        .map(batch)
        .collect()
}

/// A transaction of our table.
pub(super) fn batch(changes: Vec<Change>) -> Batch {
    Batch {
        table: names::TABLE.to_owned(),
        changes,
    }
}

/// Adds elements, if there are any.
pub(super) fn add(set: (Bulk, Family), elements: BTreeMap<Key, Element>) -> Option<Change> {
    (!elements.is_empty()).then(|| Change::AddElements {
        set: set.0.name(set.1).to_owned(),
        interval: set.0 == Bulk::Sources,
        elements,
    })
}

/// Deletes elements, if there are any.
pub(super) fn delete(set: (Bulk, Family), keys: BTreeSet<Key>) -> Option<Change> {
    (!keys.is_empty()).then(|| Change::DeleteElements {
        set: set.0.name(set.1).to_owned(),
        interval: set.0 == Bulk::Sources,
        keys,
    })
}

//! Two tables turned into the batches that make one of the other.
//!
//! The first batch makes what is new and changes what differs; from then on no packet that enters
//! finds anything that is to go. What goes leaves in later batches, in the order in which packets
//! look it up, because a packet in flight may see either side of a batch: an element that leads to
//! another one is gone before that other one, and a chain or set goes last.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Batch, Chain, Change, Element, Key, Rule, Set, Table};

mod order;

/// The batches that turn the table `have` into the table `want`; none if they are the same.
///
/// A table without a name stands for no table.
#[must_use]
pub fn diff(have: &Table, want: &Table) -> Vec<Batch> {
    if have == want {
        return Vec::new();
    }
    if want.name.is_empty() {
        return vec![delete(have)];
    }
    if have.name.is_empty() {
        return vec![create(want)];
    }
    if have.name != want.name {
        return vec![delete(have), create(want)];
    }
    if !have.flags.can_become(want.flags) {
        return vec![replace(want)];
    }
    Difference::between(have, want).batches()
}

/// One batch that makes the whole table, whether there is one of its name or not.
#[must_use]
pub fn replace(want: &Table) -> Batch {
    let fresh = [Change::AddTable { flags: None }, Change::DeleteTable];
    Batch {
        table: want.name.clone(),
        changes: fresh.into_iter().chain(create(want).changes).collect(),
    }
}

fn delete(table: &Table) -> Batch {
    Batch {
        table: table.name.clone(),
        changes: vec![Change::DeleteTable],
    }
}

pub(crate) fn create(table: &Table) -> Batch {
    let Table {
        name,
        flags,
        chains,
        sets,
    } = table;
    let mut changes = vec![Change::AddTable {
        flags: Some(*flags),
    }];
    changes.extend(sets.iter().map(|(name, set)| add_set(name, set)));
    changes.extend(chains.iter().map(|(name, chain)| add_chain(name, chain)));
    for (name, chain) in chains {
        changes.extend(add_rules(name, chain));
    }
    for (name, set) in sets {
        changes.extend(add_elements(name, set, set.elements.clone()));
    }
    Batch {
        table: name.clone(),
        changes,
    }
}

/// What differs between two tables of one name, by what has to be done about it.
struct Difference<'t> {
    have: &'t Table,
    want: &'t Table,
    /// Sets that must be made anew.
    renewed_sets: BTreeSet<&'t str>,
    /// Chains that must be made anew.
    renewed_chains: BTreeSet<&'t str>,
}

/// Elements of one set that differ.
#[derive(Default)]
struct ElementDifference {
    /// Elements that go for good.
    removed: BTreeSet<Key>,
    /// Elements that must go first, because they come back changed or lead to what is made anew.
    withdrawn: BTreeSet<Key>,
    /// Elements that come, or come back.
    added: BTreeMap<Key, Element>,
}

impl<'t> Difference<'t> {
    fn between(have: &'t Table, want: &'t Table) -> Self {
        let renewed_sets = both(&have.sets, &want.sets)
            .filter(|(_, have, want)| !have.is_defined_as(want))
            .map(|(name, ..)| name)
            .collect();
        let renewed_chains = both(&have.chains, &want.chains)
            .filter(|(_, have, want)| !have.can_become(want.base, want.comment.as_ref()))
            .map(|(name, ..)| name)
            .collect();
        Self {
            have,
            want,
            renewed_sets,
            renewed_chains,
        }
    }

    fn batches(&self) -> Vec<Batch> {
        let mut elements: BTreeMap<&str, ElementDifference> = BTreeMap::new();
        for (name, have, want) in both(&self.have.sets, &self.want.sets) {
            if !self.renewed_sets.contains(name) {
                elements.insert(name, self.elements(have, want));
            }
        }
        let removed: Vec<(&str, BTreeSet<Key>)> = elements
            .iter()
            .filter(|(_, difference)| !difference.removed.is_empty())
            .map(|(name, difference)| (*name, difference.removed.clone()))
            .collect();
        let mut stages = order::stages(self.have, removed).into_iter();

        let mut first = self.withdrawals(&elements);
        if let Some(stage) = stages.next() {
            first.extend(self.removals(stage));
        }
        first.extend(self.renewals());
        first.extend(self.additions(elements));

        let mut batches = vec![first];
        batches.extend(stages.map(|stage| self.removals(stage)));
        batches.push(self.deletions());
        batches
            .into_iter()
            .filter(|changes| !changes.is_empty())
            .map(|changes| Batch {
                table: self.want.name.clone(),
                changes,
            })
            .collect()
    }

    fn elements(&self, have: &Set, want: &Set) -> ElementDifference {
        let mut difference = ElementDifference::default();
        for (key, element) in &have.elements {
            let removed = !want.elements.contains_key(key);
            if removed && self.leads_to_renewed(element) {
                difference.withdrawn.insert(key.clone());
            } else if removed {
                difference.removed.insert(key.clone());
            }
        }
        for (key, element) in &want.elements {
            let there = have.elements.get(key);
            if there == Some(element) && !self.leads_to_renewed(element) {
                continue;
            }
            if there.is_some() {
                difference.withdrawn.insert(key.clone());
            }
            difference.added.insert(key.clone(), element.clone());
        }
        difference
    }

    /// What must be out of the way before something of its name can be made anew or changed.
    fn withdrawals(&self, elements: &BTreeMap<&str, ElementDifference>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, chain) in &self.have.chains {
            if !chain.rules.is_empty() && self.is_rewritten(name, chain) {
                changes.push(Change::FlushChain { name: name.clone() });
            }
        }
        for (name, set) in &self.have.sets {
            let keys = match elements.get(name.as_str()) {
                Some(difference) => difference.withdrawn.clone(),
                None if self.renewed_sets.contains(name.as_str()) => BTreeSet::new(),
                None => self.keys_to_renewed(set),
            };
            changes.extend(delete_elements(name, set, keys));
        }
        changes
    }

    /// What is made anew, and what is new, without content; flags and policies.
    fn renewals(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.have.flags != self.want.flags {
            let flags = Some(self.want.flags);
            changes.push(Change::AddTable { flags });
        }
        let delete_set = |name: &&str| Change::DeleteSet {
            name: (*name).to_owned(),
        };
        let delete_chain = |name: &&str| Change::DeleteChain {
            name: (*name).to_owned(),
        };
        changes.extend(self.renewed_sets.iter().map(delete_set));
        changes.extend(self.renewed_chains.iter().map(delete_chain));
        for (name, set) in &self.want.sets {
            if self.is_new_set(name) {
                changes.push(add_set(name, set));
            }
        }
        for (name, chain) in &self.want.chains {
            let there = self.have.chains.get(name).map(|have| have.base);
            if self.is_new_chain(name) || there != Some(chain.base) {
                changes.push(add_chain(name, chain));
            }
        }
        changes
    }

    fn additions(&self, mut elements: BTreeMap<&str, ElementDifference>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, chain) in &self.want.chains {
            let rewritten = match self.have.chains.get(name) {
                Some(have) => self.is_rewritten(name, have),
                None => true,
            };
            if rewritten {
                changes.extend(add_rules(name, chain));
            }
        }
        for (name, set) in &self.want.sets {
            let added = match elements.remove(name.as_str()) {
                Some(difference) => difference.added,
                None => set.elements.clone(),
            };
            changes.extend(add_elements(name, set, added));
        }
        changes
    }

    fn removals(&self, stage: Vec<(&str, BTreeSet<Key>)>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, keys) in stage {
            if let Some(set) = self.have.sets.get(name) {
                changes.extend(delete_elements(name, set, keys));
            }
        }
        changes
    }

    /// The chains and sets that go for good.
    fn deletions(&self) -> Vec<Change> {
        let sets = gone(&self.have.sets, &self.want.sets);
        let chains = gone(&self.have.chains, &self.want.chains);
        let mut changes = Vec::new();
        for (name, chain) in &chains {
            if !chain.rules.is_empty() {
                let name = (*name).to_owned();
                changes.push(Change::FlushChain { name });
            }
        }
        changes.extend(sets.into_iter().map(|(name, _)| Change::DeleteSet {
            name: name.to_owned(),
        }));
        changes.extend(chains.into_iter().map(|(name, _)| Change::DeleteChain {
            name: name.to_owned(),
        }));
        changes
    }

    fn is_new_set(&self, name: &str) -> bool {
        !self.have.sets.contains_key(name) || self.renewed_sets.contains(name)
    }

    fn is_new_chain(&self, name: &str) -> bool {
        !self.have.chains.contains_key(name) || self.renewed_chains.contains(name)
    }

    /// Whether the rules of a chain that is there are written again: because they differ, or
    /// because they use what is made anew.
    fn is_rewritten(&self, name: &str, have: &Chain) -> bool {
        let uses_renewed = have.rules.iter().any(|rule| self.uses_renewed(rule));
        match self.want.chains.get(name) {
            None => uses_renewed,
            Some(want) => {
                have.rules != want.rules || self.renewed_chains.contains(name) || uses_renewed
            }
        }
    }

    fn uses_renewed(&self, rule: &Rule) -> bool {
        rule.sets().any(|set| self.renewed_sets.contains(set))
            || rule
                .chains()
                .any(|chain| self.renewed_chains.contains(chain))
    }

    fn leads_to_renewed(&self, element: &Element) -> bool {
        let chain = element.chain();
        chain.is_some_and(|chain| self.renewed_chains.contains(chain))
    }

    /// Elements of a set that goes, which would keep a chain from being made anew before that.
    fn keys_to_renewed(&self, set: &Set) -> BTreeSet<Key> {
        let leading = set.elements.iter();
        leading
            .filter(|(_, element)| self.leads_to_renewed(element))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

/// What has the same name on both sides.
fn both<'t, T>(
    have: &'t BTreeMap<String, T>,
    want: &'t BTreeMap<String, T>,
) -> impl Iterator<Item = (&'t str, &'t T, &'t T)> {
    have.iter()
        .filter_map(|(name, have)| Some((name.as_str(), have, want.get(name)?)))
}

/// What is wanted no more.
fn gone<'t, T>(have: &'t BTreeMap<String, T>, want: &BTreeMap<String, T>) -> Vec<(&'t str, &'t T)> {
    have.iter()
        .filter(|(name, _)| !want.contains_key(*name))
        .map(|(name, have)| (name.as_str(), have))
        .collect()
}

fn add_set(name: &str, set: &Set) -> Change {
    Change::AddSet {
        name: name.to_owned(),
        set: set.definition(),
    }
}

fn add_chain(name: &str, chain: &Chain) -> Change {
    let Chain {
        base,
        rules: _,
        comment,
    } = chain;
    Change::AddChain {
        name: name.to_owned(),
        base: *base,
        comment: comment.clone(),
    }
}

fn add_rules<'t>(name: &'t str, chain: &'t Chain) -> impl Iterator<Item = Change> + 't {
    chain.rules.iter().map(|rule| Change::AddRule {
        chain: name.to_owned(),
        rule: rule.clone(),
    })
}

fn add_elements(name: &str, set: &Set, elements: BTreeMap<Key, Element>) -> Option<Change> {
    (!elements.is_empty()).then(|| Change::AddElements {
        set: name.to_owned(),
        interval: set.flags.interval,
        elements,
    })
}

fn delete_elements(name: &str, set: &Set, keys: BTreeSet<Key>) -> Option<Change> {
    (!keys.is_empty()).then(|| Change::DeleteElements {
        set: name.to_owned(),
        interval: set.flags.interval,
        keys,
    })
}

//! What makes a set's elements right, whatever the kernel holds.
//!
//! At start, and now and then, each set is read once. To hold lists of half a million elements would
//! take more memory than all the rest of the agent, so what the kernel holds is looked at as it is
//! read, against fingerprints of what is wanted, and what is missing is rendered a second time.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use weft_nft::{Batch, Data, Element, Key, Part, Value};

use super::batches;
use super::bulk::{Bulk, Sink};
use super::state::Services;
use crate::view::Family;

/// So many elements go into one transaction.
const ELEMENTS: usize = 8192;

/// What makes the elements of one set right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Adds what is missing and replaces what differs.
    pub additions: Vec<Batch>,
    /// Removes what should not be there.
    pub removals: Vec<Batch>,
}

/// What is seen of one set in the kernel, beside what is wanted.
#[derive(Clone, Debug)]
pub struct Audit<'s> {
    services: &'s Services,
    set: (Bulk, Family),
    /// Fingerprints of what is wanted and was not seen yet.
    marks: HashMap<u64, u64>,
    /// Seen, and not wanted.
    extra: BTreeSet<Key>,
    /// Seen, and wanted otherwise.
    other: BTreeSet<Key>,
}

impl Services {
    /// Begins to compare a set with what the kernel holds. At start all sets are to be added to in the
    /// order of [`Bulk::ALL`], and then removed from in the opposite order.
    #[must_use]
    pub fn audit(&self, set: (Bulk, Family)) -> Audit<'_> {
        let mut wanted = Wanted {
            set,
            marks: HashMap::new(),
        };
        self.render(&mut wanted);
        Audit {
            services: self,
            set,
            marks: wanted.marks,
            extra: BTreeSet::new(),
            other: BTreeSet::new(),
        }
    }
}

impl Audit<'_> {
    /// The kernel holds this element.
    pub fn see(&mut self, key: Key, element: &Element) {
        let mark = key_mark(&key);
        match self.marks.get(&mark) {
            Some(wanted) if *wanted == element_mark(element) => drop(self.marks.remove(&mark)),
            Some(_) => drop(self.other.insert(key)),
            None => drop(self.extra.insert(key)),
        }
    }

    /// All that the kernel holds was seen: what makes it right.
    #[must_use]
    pub fn repair(self) -> Repair {
        let Self {
            services,
            set,
            marks,
            extra,
            other,
        } = self;
        let mut missing = Missing {
            set,
            marks: &marks,
            elements: BTreeMap::new(),
        };
        if !marks.is_empty() {
            services.render(&mut missing);
        }
        Repair {
            additions: additions(set, missing.elements, &other),
            removals: removals(set, extra),
        }
    }
}

/// Fingerprints of the wanted elements of one set.
struct Wanted {
    set: (Bulk, Family),
    marks: HashMap<u64, u64>,
}

impl Sink for Wanted {
    fn wants(&self, set: (Bulk, Family)) -> bool {
        set == self.set
    }

    fn put(&mut self, _: (Bulk, Family), key: Key, element: Element) {
        self.marks.insert(key_mark(&key), element_mark(&element));
    }
}

/// The wanted elements whose fingerprints are left over.
struct Missing<'a> {
    set: (Bulk, Family),
    marks: &'a HashMap<u64, u64>,
    elements: BTreeMap<Key, Element>,
}

impl Sink for Missing<'_> {
    fn wants(&self, set: (Bulk, Family)) -> bool {
        set == self.set
    }

    fn put(&mut self, _: (Bulk, Family), key: Key, element: Element) {
        if self.marks.contains_key(&key_mark(&key)) {
            self.elements.insert(key, element);
        }
    }
}

fn additions(
    set: (Bulk, Family),
    elements: BTreeMap<Key, Element>,
    other: &BTreeSet<Key>,
) -> Vec<Batch> {
    let mut elements = elements.into_iter().peekable();
    let mut batches = Vec::new();
    while elements.peek().is_some() {
        let part: BTreeMap<Key, Element> = elements.by_ref().take(ELEMENTS).collect();
        let replaced = part.keys().filter(|key| other.contains(key)).cloned();
        let delete = batches::delete(set, replaced.collect());
        let changes = delete.into_iter().chain(batches::add(set, part));
        batches.push(batches::batch(changes.collect()));
    }
    batches
}

fn removals(set: (Bulk, Family), keys: BTreeSet<Key>) -> Vec<Batch> {
    let mut keys = keys.into_iter().peekable();
    let mut batches = Vec::new();
    while keys.peek().is_some() {
        let part: BTreeSet<Key> = keys.by_ref().take(ELEMENTS).collect();
        let changes = batches::delete(set, part).into_iter().collect();
        batches.push(batches::batch(changes));
    }
    batches
}

fn key_mark(key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in &key.0 {
        match part {
            Part::One(value) => hash(value, &mut hasher),
            Part::Range(first, last) => {
                hash(first, &mut hasher);
                hash(last, &mut hasher);
            }
        }
    }
    hasher.finish()
}

fn element_mark(element: &Element) -> u64 {
    let Element { data, comment } = element;
    let mut hasher = DefaultHasher::new();
    match data {
        None => {}
        Some(Data::Values(values)) => values.iter().for_each(|value| hash(value, &mut hasher)),
        Some(Data::Verdict(verdict)) => format!("{verdict:?}").hash(&mut hasher),
    }
    comment.hash(&mut hasher);
    hasher.finish()
}

fn hash(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Ipv4(address) => address.hash(hasher),
        Value::Ipv6(address) => address.hash(hasher),
        Value::InetProto(number) => number.hash(hasher),
        Value::InetService(port) => port.hash(hasher),
        Value::ClassId(number) | Value::Mark(number) => number.hash(hasher),
        other => format!("{other:?}").hash(hasher),
    }
}

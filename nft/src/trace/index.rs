//! Which elements of a set a key is in, without looking at all of them.
//!
//! A hash set is asked as it is. The ranges of an interval set with one part are sorted; those of a
//! concatenation are grouped by their parts that are single values. Overlapping elements of a
//! concatenation are all found: which one the kernel takes depends on the order of their insertion.

use std::collections::BTreeMap;

use crate::{Data, Element, Key, Part, Set, Value};

/// A set, prepared for lookups.
#[derive(Clone, Debug)]
pub(super) struct Index<'t> {
    set: &'t Set,
    ranges: Ranges<'t>,
}

/// What a key was found as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<'t> {
    /// The data; none in a plain set.
    pub(super) data: Option<Data>,
    /// The element's comment.
    pub(super) comment: Option<&'t str>,
}

#[derive(Clone, Debug)]
enum Ranges<'t> {
    /// Keys are values.
    None,
    /// Keys are disjoint ranges of one part, in order.
    Line(Vec<(&'t Part, &'t Element)>),
    /// By which parts are single values, and those.
    Shapes(BTreeMap<Vec<bool>, Group<'t>>),
}

/// Elements of one shape by their single values.
type Group<'t> = BTreeMap<Vec<&'t Value>, Vec<(&'t Key, &'t Element)>>;

impl<'t> Index<'t> {
    pub(super) fn new(set: &'t Set) -> Self {
        let ranges = match (set.flags.interval, set.key.len()) {
            (false, _) => Ranges::None,
            (true, 1) => {
                let parts = set.elements.iter();
                let mut line: Vec<_> = parts
                    .filter_map(|(Key(parts), element)| Some((parts.first()?, element)))
                    .collect();
                line.sort_by_key(|(part, _)| part.first());
                Ranges::Line(line)
            }
            (true, _) => Ranges::Shapes(shapes(set)),
        };
        Self { set, ranges }
    }

    /// The set itself.
    pub(super) fn set(&self) -> &'t Set {
        self.set
    }

    /// What stands under a key: in the set, and among what packets have put there.
    pub(super) fn find(&self, key: &[Value], learned: Option<Vec<Value>>) -> Vec<Found<'t>> {
        if let Some(data) = learned {
            let data = self.set.data.is_some().then_some(Data::Values(data));
            return vec![Found {
                data,
                comment: None,
            }];
        }
        match &self.ranges {
            Ranges::None => {
                let key = Key::of(key.iter().cloned());
                self.set
                    .elements
                    .get(&key)
                    .map(Found::of)
                    .into_iter()
                    .collect()
            }
            Ranges::Line(line) => {
                let [value] = key else { return Vec::new() };
                let behind = line.partition_point(|(part, _)| part.first() <= value);
                let before = behind.checked_sub(1).and_then(|index| line.get(index));
                let found = before.filter(|(part, _)| part.contains(value));
                found
                    .map(|(_, element)| Found::of(element))
                    .into_iter()
                    .collect()
            }
            Ranges::Shapes(shapes) => shapes
                .iter()
                .filter_map(|(shape, group)| group.get(&singles(shape, key)))
                .flatten()
                .filter(|(Key(parts), _)| {
                    parts.len() == key.len()
                        && parts
                            .iter()
                            .zip(key)
                            .all(|(part, value)| part.contains(value))
                })
                .map(|(_, element)| Found::of(element))
                .collect(),
        }
    }
}

impl<'t> Found<'t> {
    fn of(element: &'t Element) -> Self {
        let Element { data, comment } = element;
        Self {
            data: data.clone(),
            comment: comment.as_deref(),
        }
    }
}

impl Part {
    fn contains(&self, value: &Value) -> bool {
        self.first() <= value && value <= self.last()
    }

    fn is_single(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Range(first, last) => first == last,
        }
    }
}

fn shapes(set: &Set) -> BTreeMap<Vec<bool>, Group<'_>> {
    let mut shapes: BTreeMap<Vec<bool>, Group<'_>> = BTreeMap::new();
    for (key, element) in &set.elements {
        let Key(parts) = key;
        let shape: Vec<bool> = parts.iter().map(Part::is_single).collect();
        let single = parts.iter().filter(|part| part.is_single());
        let single = single.map(Part::first).collect();
        let group = shapes.entry(shape).or_default();
        group.entry(single).or_default().push((key, element));
    }
    shapes
}

/// The values of a key at the places where a shape has single values.
fn singles<'v>(shape: &[bool], key: &'v [Value]) -> Vec<&'v Value> {
    let pairs = shape.iter().zip(key);
    pairs
        .filter_map(|(single, value)| single.then_some(value))
        .collect()
}

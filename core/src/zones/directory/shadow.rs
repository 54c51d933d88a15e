//! Which zones nobody can see because others of the same name answer the same clients.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::placed::goes_on;
use crate::zones::object::{Body, ZoneObject};

/// For each zone that is shadowed, by the name of its object, the zones that answer in its place.
///
/// Zones of one name and one audience are asked by priority and then by name; behind the first that does not pass
/// missing names on, nobody is asked. Rules are asked all.
#[must_use]
pub fn shadowed<'a>(
    zones: impl Iterator<Item = (&'a str, &'a ZoneObject)>,
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut zones: Vec<_> = zones
        .filter(|(_, object)| !matches!(object.body, Body::Policy(_)))
        .collect();
    zones.sort_by_key(|(name, object)| (Reverse(object.priority), *name));
    let mut shadowed = BTreeMap::new();
    for (index, (name, object)) in zones.iter().enumerate() {
        let before = zones[..index].iter().filter(|(_, other)| {
            other.apex == object.apex && other.visibility == object.visibility && !goes_on(other)
        });
        let before: Vec<&str> = before.map(|(other, _)| *other).collect();
        if !before.is_empty() {
            shadowed.insert(*name, before);
        }
    }
    shadowed
}

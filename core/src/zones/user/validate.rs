//! The rules that records of one zone have to keep among themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{Content, Record, Strictness, ZoneError};
use crate::zones::name::{Name, labels};
use crate::zones::record::{MAX_TTL, RecordType};

/// Every record that breaks a rule, in the order of records.
pub(super) fn records(apex: &Name, records: &[Record], strictness: Strictness) -> Vec<ZoneError> {
    let mut errors = Vec::new();
    let mut kinds: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
    for record in records {
        errors.extend(alone(apex, record));
        if strictness == Strictness::Object && is_star_inside(&record.owner) {
            errors.push(ZoneError::Star(record.owner.clone()));
        }
        kinds
            .entry(&record.owner)
            .or_default()
            .push(kind(&record.content));
    }
    for (owner, kinds) in &kinds {
        errors.extend(together(owner, kinds));
    }
    let start = records
        .iter()
        .any(|record| record.owner == *apex && kind(&record.content) == "SOA");
    if !start {
        errors.push(ZoneError::NoStart(apex.clone()));
    }
    if strictness == Strictness::Object {
        errors.extend(rings(records));
    }
    errors
}

/// The name of a record's type, as messages and conditions say it.
fn kind(content: &Content) -> String {
    match content {
        Content::Data { kind, .. } => kind.to_string(),
        Content::Alias(_) => "ALIAS".to_owned(),
        Content::Service(_) => "serviceRef".to_owned(),
    }
}

fn alone(apex: &Name, record: &Record) -> Option<ZoneError> {
    let (owner, kind) = (record.owner.clone(), kind(&record.content));
    if !owner.is_at_or_below(apex) {
        let zone = apex.clone();
        return Some(ZoneError::Outside { owner, kind, zone });
    }
    if record.ttl > MAX_TTL {
        let ttl = record.ttl;
        return Some(ZoneError::Ttl { owner, kind, ttl });
    }
    match record.content {
        Content::Data { kind, .. } if kind == RecordType::SOA && owner != *apex => {
            Some(ZoneError::Start {
                owner,
                zone: apex.clone(),
            })
        }
        // Types 128 to 255 are for questions alone, and OPT is none (RFC 6895, 3.1).
        Content::Data { kind, .. }
            if (128..256).contains(&kind.0) || kind == RecordType::OPT || kind.0 == 0 =>
        {
            Some(ZoneError::Meta { owner, kind })
        }
        _ => None,
    }
}

fn together(owner: &Name, kinds: &[String]) -> Vec<ZoneError> {
    let mut errors = Vec::new();
    let has = |kind: &str| kinds.iter().filter(|other| *other == kind).count();
    let other = kinds.iter().find(|kind| *kind != "CNAME");
    if let Some(other) = other.filter(|_| has("CNAME") > 0) {
        errors.push(ZoneError::AliasBeside {
            owner: owner.clone(),
            other: other.clone(),
        });
    }
    for kind in [RecordType::CNAME, RecordType::DNAME, RecordType::SOA] {
        if has(&kind.to_string()) > 1 {
            errors.push(ZoneError::Several {
                owner: owner.clone(),
                kind,
            });
        }
    }
    errors
}

fn is_star_inside(owner: &Name) -> bool {
    labels(owner.wire()).skip(1).any(|label| label == b"*")
}

/// Aliases that lead back to themselves; each ring once.
fn rings(records: &[Record]) -> Vec<ZoneError> {
    let mut next: BTreeMap<Name, Name> = BTreeMap::new();
    for record in records {
        match &record.content {
            Content::Data { kind, data } if *kind == RecordType::CNAME => {
                next.insert(record.owner.clone(), Name::from_wire(data));
            }
            Content::Alias(target) => {
                next.insert(record.owner.clone(), target.clone());
            }
            Content::Data { .. } | Content::Service(_) => {}
        }
    }
    let mut reported = BTreeSet::new();
    let mut errors = Vec::new();
    for start in next.keys() {
        let mut seen = BTreeSet::from([start.clone()]);
        let mut at = next.get(start);
        while let Some(name) = at {
            if name == start && !reported.contains(start) {
                errors.push(ZoneError::Loop(start.clone()));
                reported.extend(seen.iter().cloned());
            }
            at = seen.insert(name.clone()).then(|| next.get(name)).flatten();
        }
    }
    errors
}

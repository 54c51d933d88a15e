//! Zones of users: records in, a tree of names that answers out.
//!
//! Names are found from the zone's own name downwards, so that delegations, redirections and the closest
//! existing name, which stars need (RFC 4592), are met in their order.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use super::input::Key;
use super::name::Name;
use super::record::{MAX_TTL, RecordType};

mod lookup;
mod validate;

pub(crate) use lookup::{Step, put_any};

/// A record of a zone, validated by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub owner: Name,
    /// Seconds that others may keep it.
    pub ttl: u32,
    /// What it says.
    pub content: Content,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Data of a type.
    Data {
        /// The type.
        kind: RecordType,
        /// Its data in wire form.
        data: Box<[u8]>,
    },
    /// The addresses of another name.
    Alias(Name),
    /// The addresses of a service.
    Service(Key),
}

/// Why records are no zone.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ZoneError {
    /// A record whose owner is elsewhere.
    #[error("{owner} {kind}: the record is outside zone {zone}")]
    Outside {
        /// The owner.
        owner: Name,
        /// The type.
        kind: String,
        /// The zone.
        zone: Name,
    },
    /// An alias that has company.
    #[error(
        "{owner} CNAME: an alias stands alone, and there is {other} beside it (RFC 1034, 3.6.2)"
    )]
    AliasBeside {
        /// The owner.
        owner: Name,
        /// What else it has.
        other: String,
    },
    /// Several of what there is one of.
    #[error("{owner} {kind}: a name has one of these at most")]
    Several {
        /// The owner.
        owner: Name,
        /// The type.
        kind: RecordType,
    },
    /// An SOA record below the zone's name.
    #[error("{owner} SOA: it stands at the zone's own name, {zone}")]
    Start {
        /// The owner.
        owner: Name,
        /// The zone.
        zone: Name,
    },
    /// No SOA record.
    #[error("zone {0} has no SOA record")]
    NoStart(Name),
    /// A time to live that is too large.
    #[error("{owner} {kind}: ttl {ttl} is above 2147483647 (RFC 2181, 8)")]
    Ttl {
        /// The owner.
        owner: Name,
        /// The type.
        kind: String,
        /// What was given.
        ttl: u32,
    },
    /// Aliases that lead to themselves.
    #[error("{0} CNAME: the aliases lead back to where they began")]
    Loop(Name),
    /// A star in the middle of a name.
    #[error("{0}: a star is a name's first label or none (RFC 4592)")]
    Star(Name),
    /// A type that only questions have.
    #[error("{owner} {kind}: no record has this type")]
    Meta {
        /// The owner.
        owner: Name,
        /// The type.
        kind: RecordType,
    },
}

/// Records of one type at one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub kind: RecordType,
    pub ttl: u32,
    pub data: Box<[Box<[u8]>]>,
}

/// What stands at a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub sets: Box<[Set]>,
    pub alias: Option<(u32, Name)>,
    pub service: Option<(u32, Key)>,
}

impl Leaf {
    pub fn set(&self, kind: RecordType) -> Option<&Set> {
        self.sets.iter().find(|set| set.kind == kind)
    }

    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.alias.is_none() && self.service.is_none()
    }
}

/// A zone that a user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserZone {
    /// Its name.
    pub apex: Name,
    leaves: HashMap<Box<[u8]>, Leaf>,
    records: usize,
}

/// How strictly a zone is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// As zone files are read everywhere.
    File,
    /// Also refuses what is allowed and always a mistake: aliases in a ring, stars in the middle.
    Object,
}

impl UserZone {
    /// Makes a zone of records; the whole of it or nothing.
    ///
    /// # Errors
    /// Every record that breaks a rule.
    pub fn build(
        apex: Name,
        records: Vec<Record>,
        strictness: Strictness,
    ) -> Result<Self, Vec<ZoneError>> {
        let errors = validate::records(&apex, &records, strictness);
        if !errors.is_empty() {
            return Err(errors);
        }
        let count = records.len();
        let mut drafts: BTreeMap<Name, Draft> = BTreeMap::new();
        for record in records {
            let Record {
                owner,
                ttl,
                content,
            } = record;
            let mut above = owner.parent();
            while let Some(name) = above.filter(|name| name.is_at_or_below(&apex)) {
                drafts.entry(name.clone()).or_default();
                above = name.parent();
            }
            drafts.entry(owner).or_default().add(ttl, content);
        }
        let leaves = drafts
            .into_iter()
            .map(|(name, draft)| (name.wire().into(), draft.finish()));
        Ok(Self {
            leaves: leaves.collect(),
            apex,
            records: count,
        })
    }

    /// How many records it holds.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }
}

/// The data of one type, before it is complete.
type Collected = (RecordType, u32, Vec<Box<[u8]>>);

/// A leaf that is being put together.
#[derive(Default)]
struct Draft {
    sets: Vec<Collected>,
    alias: Option<(u32, Name)>,
    service: Option<(u32, Key)>,
}

impl Draft {
    fn add(&mut self, ttl: u32, content: Content) {
        match content {
            Content::Alias(name) => self.alias = Some((ttl, name)),
            Content::Service(key) => self.service = Some((ttl, key)),
            Content::Data { kind, data } => {
                let at = self
                    .sets
                    .iter()
                    .position(|(other, ..)| *other == kind)
                    .unwrap_or_else(|| {
                        self.sets.push((kind, ttl, Vec::new()));
                        self.sets.len() - 1
                    });
                let (_, least, all) = &mut self.sets[at];
                // Records of a set share their time to live (RFC 2181, 5.2).
                *least = ttl.min(*least).min(MAX_TTL);
                if !all.contains(&data) {
                    all.push(data);
                }
            }
        }
    }

    fn finish(self) -> Leaf {
        let set = |(kind, ttl, data): Collected| Set {
            kind,
            ttl,
            data: data.into(),
        };
        Leaf {
            sets: self.sets.into_iter().map(set).collect(),
            alias: self.alias,
            service: self.service,
        }
    }
}

#[cfg(test)]
mod tests;

//! The messages of a dump gathered into one table.
//!
//! What the model does not know is not lost but becomes something that no compiler wants: a rule
//! with an unknown statement, a set without a key. A difference to the wanted table removes it.

use std::collections::{BTreeMap, HashSet};

use super::elements::ElementReader;
use super::object::{RawElement, RawElements};
use super::{Content, DecodeError, Message, Object, RawChain, RawRule, RawSet, expression, set};
use crate::{Chain, Rule, Set, Statement, Table, TableFlags};

/// Gathers the answers to [`Request`](crate::encode::Request)s about one table.
///
/// Ask for tables, chains, sets and rules in any order; then for the elements of
/// [`Reader::set_names`]; then [`Reader::finish`].
#[derive(Clone, Debug, Default)]
pub struct Reader {
    name: String,
    flags: Option<TableFlags>,
    owner_port: Option<u32>,
    chains: BTreeMap<String, RawChain>,
    rules: Vec<RawRule>,
    sets: BTreeMap<String, RawSet>,
    elements: BTreeMap<String, Vec<RawElement>>,
}

impl Reader {
    /// A reader for the table of this name.
    #[must_use]
    pub fn new(table: impl Into<String>) -> Self {
        Self {
            name: table.into(),
            ..Self::default()
        }
    }

    /// Takes a message of a dump; those about other tables are passed over.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Interrupted`] if the ruleset changed meanwhile: begin anew.
    pub fn add(&mut self, message: Message) -> Result<(), DecodeError> {
        if message.interrupted {
            return Err(DecodeError::Interrupted);
        }
        match message.content {
            Content::New(object) if object.table() == Some(&self.name) => self.object(object),
            _ => {}
        }
        Ok(())
    }

    /// Names of the sets seen so far, whose elements are to be asked for.
    pub fn set_names(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(String::as_str)
    }

    /// A reader for the elements of one of these sets; none if there is no such set.
    #[must_use]
    pub fn elements_of(&self, set: &str) -> Option<ElementReader> {
        let raw = self.sets.get(set)?;
        Some(ElementReader::new(
            &self.name,
            set,
            raw.definition.clone().unwrap_or_default(),
        ))
    }

    /// Port of the netlink socket that owns the table.
    #[must_use]
    pub fn owner_port(&self) -> Option<u32> {
        self.owner_port
    }

    /// Whether no element was listed twice.
    ///
    /// The kernel goes on in a dump by counting elements. Where a hash table grows meanwhile, as it does for a moment
    /// after many were added, their order changes: some come twice, and as many are missing. The kernel does not
    /// mark such a dump as interrupted.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let distinct = |elements: &[RawElement]| {
            let keys = elements.iter();
            let keys = keys.map(|element| (&element.key, &element.key_end, element.is_end));
            keys.collect::<HashSet<_>>().len() == elements.len()
        };
        self.elements.values().all(|elements| distinct(elements))
    }

    /// The table, or one without a name if there is none.
    #[must_use]
    pub fn finish(self) -> Table {
        let Self {
            name,
            flags,
            owner_port: _,
            chains,
            rules,
            sets,
            elements,
        } = self;
        let Some(flags) = flags else {
            return Table::default();
        };
        let (anonymous, named): (BTreeMap<_, _>, BTreeMap<_, _>) = sets
            .into_iter()
            .map(|(name, raw)| {
                let set = assemble(&raw, elements.get(&name).map(Vec::as_slice));
                (name, (raw.anonymous, set))
            })
            .partition(|(_, (anonymous, _))| *anonymous);
        let without_mark = |sets: BTreeMap<String, (bool, Set)>| -> BTreeMap<String, Set> {
            let sets = sets.into_iter();
            sets.map(|(name, (_, set))| (name, set)).collect()
        };
        let (anonymous, named) = (without_mark(anonymous), without_mark(named));
        let mut table = Table::new(name, flags);
        table.chains = chains.into_iter().map(chain).collect();
        for raw in rules {
            if let Some(chain) = table.chains.get_mut(&raw.chain) {
                let statements = expression::statements(&raw.expressions, &named, &anonymous);
                chain.rules.push(Rule {
                    statements: statements.unwrap_or_else(|what| vec![Statement::Unknown(what)]),
                    comment: raw.comment,
                });
            }
        }
        table.sets = named;
        table
    }

    fn object(&mut self, object: Object) {
        match object {
            Object::Table {
                name: _,
                flags,
                owner_port,
            } => {
                self.flags = Some(flags);
                self.owner_port = owner_port;
            }
            Object::Chain(chain) => {
                self.chains.insert(chain.name.clone(), chain);
            }
            Object::Rule(rule) => self.rules.push(rule),
            Object::Set(set) => {
                self.sets.insert(set.name.clone(), set);
            }
            Object::Elements(RawElements {
                table: _,
                set,
                elements,
            }) => self.elements.entry(set).or_default().extend(elements),
            Object::Generation { .. } | Object::Foreign { .. } => {}
        }
    }
}

/// A chain without rules, but with an unknown one if the kernel calls it in an unknown way.
fn chain((name, raw): (String, RawChain)) -> (String, Chain) {
    let unknown = || Rule::new([Statement::Unknown("base chain".to_owned())]);
    let chain = Chain {
        base: raw.base.unwrap_or_default(),
        rules: raw.base.is_err().then(unknown).into_iter().collect(),
        comment: raw.comment,
    };
    (name, chain)
}

/// A set with its elements; without a key if it is not of this model.
fn assemble(raw: &RawSet, elements: Option<&[RawElement]>) -> Set {
    let Some(definition) = &raw.definition else {
        return Set::default();
    };
    match set::elements(definition, elements.unwrap_or_default()) {
        None => Set::default(),
        Some(elements) => Set {
            elements,
            ..definition.clone()
        },
    }
}

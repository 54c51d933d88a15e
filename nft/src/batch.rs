//! Changes of a table as values, and what they do to a [`Table`].
//!
//! [`Table::apply`] is as strict as the kernel about order: what is used must exist, what is
//! deleted must not be used. So a property test over it proves an order of changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Base, Chain, Class, Data, Element, Key, NatTarget, Rule, Set, Statement, Table, TableFlags,
    Verdict,
};

/// Changes of one table that take effect together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Name of the table.
    pub table: String,
    /// The changes, in an order that the kernel accepts.
    pub changes: Vec<Change>,
}

/// One change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes the table if it is not there.
    AddTable {
        /// Flags to set; an owner is set by making the table or by adopting an orphaned one that
        /// persists. None leaves the flags as they are.
        flags: Option<TableFlags>,
    },
    /// Deletes the table and all in it.
    DeleteTable,
    /// Makes a set without elements.
    AddSet {
        /// Name.
        name: String,
        /// Its definition; there are no elements in it.
        set: Set,
    },
    /// Deletes a set and its elements.
    DeleteSet {
        /// Name.
        name: String,
    },
    /// Makes a chain without rules, or changes the policy of one that is there.
    AddChain {
        /// Name.
        name: String,
        /// Where the kernel calls it.
        base: Option<Base>,
        /// What it is for.
        comment: Option<String>,
    },
    /// Deletes all rules of a chain.
    FlushChain {
        /// Name.
        name: String,
    },
    /// Deletes a chain and its rules.
    DeleteChain {
        /// Name.
        name: String,
    },
    /// Adds a rule at a chain's end.
    AddRule {
        /// Name of the chain.
        chain: String,
        /// The rule.
        rule: Rule,
    },
    /// Adds elements to a set.
    AddElements {
        /// Name of the set.
        set: String,
        /// The set is for intervals.
        interval: bool,
        /// The elements.
        elements: BTreeMap<Key, Element>,
    },
    /// Deletes elements of a set.
    DeleteElements {
        /// Name of the set.
        set: String,
        /// The set is for intervals.
        interval: bool,
        /// Keys of the elements.
        keys: BTreeSet<Key>,
    },
}

/// Why a change cannot be applied to a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The batch is of another table.
    #[error("the batch is of table {batch:?}, not of {table:?}")]
    OtherTable {
        /// Name in the batch.
        batch: String,
        /// Name of the table.
        table: String,
    },
    /// Something that must exist does not.
    #[error("{0} does not exist: add it in an earlier change")]
    Missing(String),
    /// Something is there already.
    #[error("{0} exists already: delete it in an earlier change")]
    Exists(String),
    /// Something is in use.
    #[error("{0} is in use: delete its uses in an earlier change")]
    InUse(String),
    /// The kernel cannot change this in place.
    #[error("{0} cannot be changed in place: delete it first")]
    Unchangeable(String),
}

impl Table {
    /// Applies a batch as the kernel would: all of it, or nothing and an error.
    ///
    /// # Errors
    ///
    /// When a change presumes or breaks something, see [`ApplyError`].
    pub fn apply(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        let mut next = self.clone();
        for change in &batch.changes {
            next.apply_change(&batch.table, change)?;
        }
        *self = next;
        Ok(())
    }

    fn apply_change(&mut self, table: &str, change: &Change) -> Result<(), ApplyError> {
        if let Change::AddTable { flags } = change {
            return self.add_table(table, *flags);
        }
        if self.name != table {
            return Err(ApplyError::OtherTable {
                batch: table.to_owned(),
                table: self.name.clone(),
            });
        }
        match change {
            Change::AddTable { .. } => Ok(()),
            Change::DeleteTable => {
                *self = Self::default();
                Ok(())
            }
            Change::AddSet { name, set } => self.add_set(name, set),
            Change::DeleteSet { name } => self.delete_set(name),
            Change::AddChain {
                name,
                base,
                comment,
            } => self.add_chain(name, *base, comment.as_ref()),
            Change::FlushChain { name } => {
                self.chain(name)?.rules.clear();
                Ok(())
            }
            Change::DeleteChain { name } => self.delete_chain(name),
            Change::AddRule { chain, rule } => self.add_rule(chain, rule),
            Change::AddElements {
                set,
                interval: _,
                elements,
            } => self.add_elements(set, elements),
            Change::DeleteElements {
                set,
                interval: _,
                keys,
            } => self.delete_elements(set, keys),
        }
    }

    fn add_table(&mut self, name: &str, flags: Option<TableFlags>) -> Result<(), ApplyError> {
        if self.name.is_empty() {
            *self = Self::new(name, flags.unwrap_or_default());
            return Ok(());
        }
        if self.name != name {
            return Err(ApplyError::OtherTable {
                batch: name.to_owned(),
                table: self.name.clone(),
            });
        }
        match flags {
            Some(flags) if !self.flags.can_become(flags) => {
                Err(ApplyError::Unchangeable(format!("flags of table {name}")))
            }
            Some(flags) => {
                self.flags = flags;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn add_set(&mut self, name: &str, set: &Set) -> Result<(), ApplyError> {
        if self.sets.contains_key(name) {
            return Err(ApplyError::Exists(format!("set {name}")));
        }
        self.sets.insert(name.to_owned(), set.definition());
        Ok(())
    }

    fn delete_set(&mut self, name: &str) -> Result<(), ApplyError> {
        let used = self.rules().any(|rule| rule.sets().any(|set| set == name));
        if used {
            return Err(ApplyError::InUse(format!("set {name}")));
        }
        let deleted = self.sets.remove(name).map(|_| ());
        deleted.ok_or_else(|| ApplyError::Missing(format!("set {name}")))
    }

    fn add_chain(
        &mut self,
        name: &str,
        base: Option<Base>,
        comment: Option<&String>,
    ) -> Result<(), ApplyError> {
        let Some(chain) = self.chains.get_mut(name) else {
            let chain = Chain {
                base,
                comment: comment.cloned(),
                ..Chain::default()
            };
            self.chains.insert(name.to_owned(), chain);
            return Ok(());
        };
        if !chain.can_become(base, comment) {
            return Err(ApplyError::Unchangeable(format!("chain {name}")));
        }
        chain.base = base;
        Ok(())
    }

    fn delete_chain(&mut self, name: &str) -> Result<(), ApplyError> {
        let deleted = self.chains.remove(name);
        if deleted.is_none() {
            return Err(ApplyError::Missing(format!("chain {name}")));
        }
        let by_rule = self
            .rules()
            .any(|rule| rule.chains().any(|chain| chain == name));
        let mut elements = self.sets.values().flat_map(|set| set.elements.values());
        if by_rule || elements.any(|element| element.chain() == Some(name)) {
            return Err(ApplyError::InUse(format!("chain {name}")));
        }
        Ok(())
    }

    fn add_rule(&mut self, chain: &str, rule: &Rule) -> Result<(), ApplyError> {
        for target in rule.chains() {
            self.must_be_regular(target)?;
        }
        for set in rule.sets() {
            self.set(set)?;
        }
        self.chain(chain)?.rules.push(rule.clone());
        Ok(())
    }

    fn add_elements(
        &mut self,
        set: &str,
        elements: &BTreeMap<Key, Element>,
    ) -> Result<(), ApplyError> {
        for chain in elements.values().filter_map(Element::chain) {
            self.must_be_regular(chain)?;
        }
        let there = &mut self.set(set)?.elements;
        for (key, element) in elements {
            if there.insert(key.clone(), element.clone()).is_some() {
                return Err(ApplyError::Exists(format!("element {key} of set {set}")));
            }
        }
        Ok(())
    }

    fn delete_elements(&mut self, set: &str, keys: &BTreeSet<Key>) -> Result<(), ApplyError> {
        let there = &mut self.set(set)?.elements;
        for key in keys {
            if there.remove(key).is_none() {
                return Err(ApplyError::Missing(format!("element {key} of set {set}")));
            }
        }
        Ok(())
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains.values().flat_map(|chain| &chain.rules)
    }

    fn chain(&mut self, name: &str) -> Result<&mut Chain, ApplyError> {
        let chain = self.chains.get_mut(name);
        chain.ok_or_else(|| ApplyError::Missing(format!("chain {name}")))
    }

    fn set(&mut self, name: &str) -> Result<&mut Set, ApplyError> {
        let set = self.sets.get_mut(name);
        set.ok_or_else(|| ApplyError::Missing(format!("set {name}")))
    }

    fn must_be_regular(&mut self, name: &str) -> Result<(), ApplyError> {
        match self.chain(name)?.base {
            None => Ok(()),
            Some(_) => Err(ApplyError::Missing(format!("regular chain {name}"))),
        }
    }
}

impl TableFlags {
    /// Whether the kernel can turn these flags into others in place: an orphaned table that
    /// persists can be adopted, and nothing else.
    pub(crate) fn can_become(self, other: Self) -> bool {
        let adoption = self.persist && !self.owner && other.persist && other.owner;
        self == other || adoption
    }
}

impl Chain {
    /// Whether the kernel can change a chain to this in place: its policy, and nothing else.
    pub(crate) fn can_become(&self, base: Option<Base>, comment: Option<&String>) -> bool {
        let same_base = match (self.base, base) {
            (None, None) => true,
            (Some(old), Some(new)) => {
                let policy = new.policy;
                Base { policy, ..old } == new
            }
            _ => false,
        };
        same_base && self.comment.as_ref() == comment
    }
}

impl Set {
    /// The set without its elements.
    pub(crate) fn definition(&self) -> Self {
        Self {
            key: self.key.clone(),
            data: self.data.clone(),
            flags: self.flags,
            size: self.size,
            timeout: self.timeout,
            elements: BTreeMap::new(),
            comment: self.comment.clone(),
        }
    }

    /// Whether the kernel would have to make the set anew to turn it into the other.
    pub(crate) fn is_defined_as(&self, other: &Self) -> bool {
        let Self {
            key,
            data,
            flags,
            size,
            timeout,
            elements: _,
            comment,
        } = self;
        *key == other.key
            && *data == other.data
            && *flags == other.flags
            && *size == other.size
            && *timeout == other.timeout
            && *comment == other.comment
    }
}

impl Element {
    /// The chain that the element leads to.
    pub(crate) fn chain(&self) -> Option<&str> {
        match &self.data {
            Some(Data::Verdict(verdict)) => verdict.chain(),
            Some(Data::Values(_)) | None => None,
        }
    }
}

impl Verdict {
    /// The chain that the verdict leads to.
    pub(crate) fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}

impl Rule {
    /// Names of the sets and maps that the rule uses, in order.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter_map(Statement::set)
    }

    /// Names of the chains that the rule leads to.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &str> {
        self.statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::Verdict(verdict) => verdict.chain(),
                _ => None,
            })
    }
}

impl Statement {
    /// The set or map that the statement uses.
    pub(crate) fn set(&self) -> Option<&str> {
        match self {
            Self::Lookup { set, .. } | Self::Dynamic { set, .. } => Some(set),
            Self::Vmap { map, .. }
            | Self::SetPriority(Class::Map { map, .. })
            | Self::Dnat {
                to: NatTarget::Map { map, .. },
                ..
            } => Some(map),
            Self::Dnat { .. }
            | Self::SetPriority(Class::Literal(_))
            | Self::Match(_)
            | Self::Masquerade { .. }
            | Self::Notrack
            | Self::SetLabel(_)
            | Self::Counter
            | Self::Verdict(_)
            | Self::Reject(_)
            | Self::Unknown(_) => None,
        }
    }
}

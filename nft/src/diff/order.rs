//! In which order a packet looks sets up, and so in which order elements may go.
//!
//! A packet walks the base chains hook by hook and takes every jump on its way. Of two sets the one
//! that it looks up first must lose its elements first. Sets whose keys are of different address
//! families never meet in one packet and need not wait for each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Chain, Key, Statement, Table, Type};

/// Elements to remove, by set.
type Removals<'t> = Vec<(&'t str, BTreeSet<Key>)>;

/// Divides removals into stages: a stage may begin when the one before it is committed.
pub(super) fn stages<'t>(table: &Table, mut removals: Removals<'t>) -> Vec<Removals<'t>> {
    let order = lookup_order(table);
    let rank = |set: &str| order.get(set).copied().unwrap_or(usize::MAX);
    removals.sort_by_key(|(set, _)| (rank(set), *set));
    let mut placed: Vec<(&str, usize)> = Vec::new();
    let mut stages: Vec<Removals<'t>> = Vec::new();
    for (set, keys) in removals {
        let after = placed.iter().filter(|(other, _)| meet(table, other, set));
        let stage = after.map(|(_, stage)| stage + 1).max().unwrap_or(0);
        placed.push((set, stage));
        match stages.get_mut(stage) {
            Some(stage) => stage.push((set, keys)),
            None => stages.push(vec![(set, keys)]),
        }
    }
    stages
}

/// Whether one packet can look up both sets.
fn meet(table: &Table, one: &str, other: &str) -> bool {
    match (family(table, one), family(table, other)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// The one address family of a set's keys.
fn family(table: &Table, set: &str) -> Option<Type> {
    let key = &table.sets.get(set)?.key;
    match (key.contains(&Type::Ipv4Addr), key.contains(&Type::Ipv6Addr)) {
        (true, false) => Some(Type::Ipv4Addr),
        (false, true) => Some(Type::Ipv6Addr),
        _ => None,
    }
}

/// The place of each set in the order in which a packet looks them up.
fn lookup_order(table: &Table) -> BTreeMap<&str, usize> {
    let mut bases: Vec<(&String, &Chain)> = table.chains.iter().collect();
    bases.retain(|(_, chain)| chain.base.is_some());
    bases.sort_by_key(|(name, chain)| {
        let base = chain.base.map(|base| (base.hook, base.priority));
        (base, *name)
    });
    let mut walk = Walk {
        table,
        seen: BTreeSet::new(),
        order: BTreeMap::new(),
    };
    for (name, _) in bases {
        walk.chain(name);
    }
    walk.order
}

struct Walk<'t> {
    table: &'t Table,
    seen: BTreeSet<&'t str>,
    order: BTreeMap<&'t str, usize>,
}

impl<'t> Walk<'t> {
    fn chain(&mut self, name: &'t str) {
        let Some(chain) = self.table.chains.get(name) else {
            return;
        };
        if !self.seen.insert(name) {
            return;
        }
        for rule in &chain.rules {
            for statement in &rule.statements {
                self.statement(statement);
            }
        }
    }

    fn statement(&mut self, statement: &'t Statement) {
        if let Some(set) = statement.set() {
            let place = self.order.len();
            self.order.entry(set).or_insert(place);
        }
        match statement {
            Statement::Verdict(verdict) => {
                if let Some(chain) = verdict.chain() {
                    self.chain(chain);
                }
            }
            Statement::Vmap { key: _, map } => {
                let set = self.table.sets.get(map);
                let elements = set.into_iter().flat_map(|set| set.elements.values());
                for chain in elements.filter_map(|element| element.chain()) {
                    self.chain(chain);
                }
            }
            Statement::Match(_)
            | Statement::Lookup { .. }
            | Statement::Dnat { .. }
            | Statement::SetPriority(_)
            | Statement::Dynamic { .. }
            | Statement::Masquerade { .. }
            | Statement::Notrack
            | Statement::SetLabel(_)
            | Statement::Counter
            | Statement::Reject(_)
            | Statement::Unknown(_) => {}
        }
    }
}

//! Zones by name, as one class of clients sees them.

use std::collections::HashMap;
use std::sync::Arc;

use weft_crds::OnMiss;

use super::forward::Forward;
use super::name::{self, Name};
use super::policy::Policy;
use super::user::UserZone;

/// Who answers for a zone.
#[derive(Clone, Debug)]
pub(crate) enum Holder {
    /// Cluster data, by the number of the built-in zone.
    BuiltIn(usize),
    /// Records of a user, and what becomes of names that they do not have.
    User(Arc<UserZone>, OnMiss),
    /// Others.
    Forward(Arc<Forward>),
    /// Nobody knows: there is a version of the zone that could be used, and it is not here.
    Broken,
}

/// Zones by name; of one name, in the order in which they are asked. And the rules that come before all of them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    zones: HashMap<Box<[u8]>, Vec<Holder>>,
    /// Bit n: some zone has n labels.
    depths: u128,
    /// In the order in which they are asked.
    pub policies: Vec<Arc<Policy>>,
}

impl Table {
    /// Puts a zone behind those of the same name.
    pub fn push(&mut self, apex: &Name, holder: Holder) {
        self.depths |= 1 << apex.count().min(127);
        self.zones
            .entry(apex.wire().into())
            .or_default()
            .push(holder);
    }

    /// The zones that a name, in lower case, is in, the one with the longest name first; each with the place in the name where it begins.
    pub fn candidates<'t, 'n>(&'t self, name: &'n [u8]) -> Candidates<'t, 'n> {
        Candidates {
            table: self,
            name,
            next: Some((0, name::labels(name).count())),
            at: 0,
            here: [].iter(),
        }
    }

    /// The first of [`Table::candidates`].
    pub fn find(&self, name: &[u8]) -> Option<(usize, &Holder)> {
        self.candidates(name).next()
    }
}

/// See [`Table::candidates`].
pub(crate) struct Candidates<'t, 'n> {
    table: &'t Table,
    name: &'n [u8],
    /// Where the zones that are looked for next begin, and how many labels they have; none: the root was the last.
    next: Option<(usize, usize)>,
    /// Where those of `here` begin.
    at: usize,
    here: std::slice::Iter<'t, Holder>,
}

impl<'t> Iterator for Candidates<'t, '_> {
    type Item = (usize, &'t Holder);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(holder) = self.here.next() {
                return Some((self.at, holder));
            }
            let (at, depth) = self.next?;
            let has_depth = self.table.depths >> depth.min(127) & 1 == 1;
            if has_depth && let Some(zones) = self.table.zones.get(&self.name[at..]) {
                (self.at, self.here) = (at, zones.iter());
            }
            self.next = depth
                .checked_sub(1)
                .map(|depth| (at + usize::from(self.name[at]) + 1, depth));
        }
    }
}

//! Changes that packets make to dynamic sets.

use std::time::Duration;

use super::super::flight::Flight;
use super::super::index::Index;
use super::super::load::load_all;
use super::super::{Contents, Event, Host, Place, Update};
use super::{Onward, Rules, Way, unknown};
use crate::{Data, Field, Operation, Value};

/// What a statement does to a dynamic set.
pub(super) struct Change<'s> {
    pub(super) operation: Operation,
    pub(super) set: &'s str,
    pub(super) key: &'s [Field],
    pub(super) timeout: Option<Duration>,
    pub(super) data: Option<Field>,
}

impl<'t> Rules<'_, 't> {
    /// Changes an element of a dynamic set, once for each key that the packet may have.
    pub(super) fn change(
        &self,
        mut flight: Flight<'t>,
        place: Place<'t>,
        change: &Change<'_>,
    ) -> Vec<Way<'t>> {
        let Change {
            operation,
            set,
            key,
            timeout,
            data,
        } = *change;
        let one = |mut flight: Flight<'t>, (event, flow)| {
            flight.at(place, event);
            (flight, flow)
        };
        let Some(index) = self.sets.get(set) else {
            return vec![one(flight, unknown(format!("there is no set {set}")))];
        };
        let fields: Vec<Field> = key.iter().copied().chain(data).collect();
        let all = match load_all(&fields, &flight, self.host) {
            Err(absent) => return vec![one(flight, (Event::Lacks(absent), Onward::Break))],
            Ok(all) => all,
        };
        flight.share = flight.share.divided(all.len() as u64);
        let all = all.into_iter().map(|values| {
            let mut flight = flight.clone();
            let Some(mut values) = values.into_iter().collect::<Option<Vec<Value>>>() else {
                return one(
                    flight,
                    unknown(format!("a key of set {set} has no name here")),
                );
            };
            let data = values.split_off(key.len());
            let update = Update {
                operation,
                set: set.to_owned(),
                key: values,
                data,
                timeout: timeout.or(index.set().timeout),
            };
            let done = flight.update(index, update, self.host);
            one(flight, done)
        });
        all.collect()
    }
}

impl<'t> Flight<'t> {
    /// `nft_dynset_eval`
    fn update(
        &mut self,
        index: &Index<'t>,
        mut update: Update,
        host: &Host,
    ) -> (Event<'t>, Onward) {
        let found = self.find(index, &update.set, &update.key, host);
        let found = found.into_iter().next();
        match (update.operation, found) {
            (Operation::Add, Some(_)) => {
                return (Event::Unchanged("the element is there already"), Onward::On);
            }
            (Operation::Delete, None) => {
                return (Event::Unchanged("the element is not there"), Onward::On);
            }
            (Operation::Add | Operation::Update, None)
                if self.is_full(index, &update.set, host) =>
            {
                return (Event::Unchanged("the set is full"), Onward::Break);
            }
            (Operation::Update, Some(found)) => {
                if let Some(Data::Values(data)) = found.data {
                    update.data = data;
                }
            }
            (Operation::Add | Operation::Update, None) | (Operation::Delete, Some(_)) => {}
        }
        self.updates.push(update.clone());
        (Event::Updated(update), Onward::On)
    }

    fn is_full(&self, index: &Index<'t>, set: &str, host: &Host) -> bool {
        let Some(size) = index.set().size else {
            return false;
        };
        let learned = host.dynamic.get(set).map_or(0, Contents::len);
        learned + index.set().elements.len() >= usize::try_from(size).unwrap_or(usize::MAX)
    }
}

//! Lookups in sets and maps.

use std::net::IpAddr;

use super::super::flight::Flight;
use super::super::index::{Found, Index};
use super::super::load::load_all;
use super::super::{Event, Host, Place};
use super::{Ended, Onward, Rules, Way};
use crate::{Data, Field, Operation, Value, Verdict};

/// What came of a lookup.
pub(super) enum Lookup<'t> {
    /// The key is there.
    Found(Found<'t>),
    /// It is not.
    Missed,
    /// Part of the key is not there, and the rule ends.
    Lacks,
    /// There is no such set.
    Unknown(String),
}

impl<'t> Rules<'_, 't> {
    /// Looks a key up and goes on with what was found: once for each value that the key may have,
    /// and for each element that it may be in.
    pub(super) fn look_up(
        &self,
        mut flight: Flight<'t>,
        place: Place<'t>,
        key: &[Field],
        set: &str,
        then: impl Fn(&mut Flight<'t>, &Lookup<'t>) -> Onward,
    ) -> Vec<Way<'t>> {
        let one = |mut flight: Flight<'t>, event, found: &Lookup<'t>| {
            flight.at(place, event);
            let flow = then(&mut flight, found);
            (flight, flow)
        };
        let Some(index) = self.sets.get(set) else {
            let problem = format!("there is no set {set}");
            let unknown = Event::Unknown(problem.clone());
            return vec![one(flight, unknown, &Lookup::Unknown(problem))];
        };
        let keys = match load_all(key, &flight, self.host) {
            Err(absent) => return vec![one(flight, Event::Lacks(absent), &Lookup::Lacks)],
            Ok(keys) => keys,
        };
        flight.share = flight.share.divided(keys.len() as u64);
        let mut after = Vec::new();
        for key in keys {
            let values: Option<Vec<Value>> = key.iter().cloned().collect();
            let found = values.map(|values| flight.find(index, set, &values, self.host));
            let found = found.unwrap_or_default();
            if found.is_empty() {
                after.push(one(flight.clone(), Event::Missed { key }, &Lookup::Missed));
                continue;
            }
            let share = flight.share.divided(found.len() as u64);
            for found in found {
                let event = Event::Found {
                    key: key.clone(),
                    data: found.data.as_ref().map(Data::to_string),
                    comment: found.comment,
                };
                let flight = Flight {
                    share,
                    ..flight.clone()
                };
                after.push(one(flight, event, &Lookup::Found(found)));
            }
        }
        after
    }
}

impl Lookup<'_> {
    /// Whether the key is there.
    pub(super) fn is_there(&self) -> bool {
        matches!(self, Self::Found(_))
    }

    /// Where the packet goes, if the lookup could be made: on, or to the next rule.
    pub(super) fn flow(&self, on: bool) -> Onward {
        match self {
            Self::Unknown(what) => Onward::Ended(Ended::Unknown(what.clone())),
            Self::Lacks => Onward::Break,
            Self::Found(_) | Self::Missed if on => Onward::On,
            Self::Found(_) | Self::Missed => Onward::Break,
        }
    }

    /// The verdict that was found.
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        match self.data()? {
            Data::Verdict(verdict) => Some(verdict),
            Data::Values(_) => None,
        }
    }

    /// The class that was found.
    pub(super) fn class(&self) -> Option<u32> {
        match self.values()? {
            [Value::ClassId(class)] => Some(*class),
            _ => None,
        }
    }

    /// The address and port that were found.
    pub(super) fn target(&self) -> Option<(IpAddr, u16)> {
        match self.values()? {
            [Value::Ipv4(address), Value::InetService(port)] => Some(((*address).into(), *port)),
            [Value::Ipv6(address), Value::InetService(port)] => Some(((*address).into(), *port)),
            _ => None,
        }
    }

    fn values(&self) -> Option<&[Value]> {
        match self.data()? {
            Data::Verdict(_) => None,
            Data::Values(values) => Some(values),
        }
    }

    fn data(&self) -> Option<&Data> {
        match self {
            Self::Found(found) => found.data.as_ref(),
            Self::Missed | Self::Lacks | Self::Unknown(_) => None,
        }
    }
}

impl<'t> Flight<'t> {
    /// What stands under a key of a set: what packets, this one included, have put there, or else
    /// what the table says.
    pub(super) fn find(
        &self,
        index: &Index<'t>,
        set: &str,
        key: &[Value],
        host: &Host,
    ) -> Vec<Found<'t>> {
        let mut own = self.updates.iter().rev();
        let own = own.find(|update| update.set == set && update.key == key);
        let learned = match own {
            Some(update) if update.operation == Operation::Delete => return Vec::new(),
            Some(update) => Some(&update.data),
            None => host.dynamic.get(set).and_then(|contents| contents.get(key)),
        };
        index.find(key, learned.cloned())
    }
}

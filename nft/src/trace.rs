//! A packet's way through a [`Table`], without a kernel: every end that it can come to, and how.
//!
//! [`Tracer::trace`] takes a packet and the [`Host`] around the table (interfaces, routes, contents
//! of dynamic sets) and follows hooks, connection tracking, translation, routing and rules as the
//! kernel does. Where the kernel chooses at random, all choices are followed; each distinct end is
//! one [`Trace`] with its steps. The answer to a packet, and later packets of its connection, can be
//! traced from there: [`Trace::reply`], [`Trace::later`].
//!
//! Not modelled: fragments, ports that translation changes because of a clash, sources that the
//! kernel takes for martians, and tables of others.

mod connection;
mod flight;
mod flow;
mod host;
mod index;
mod load;
mod outcome;
mod packet;
mod path;
mod rules;
mod step;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use self::connection::Attached;
pub use self::connection::{Connection, Direction, Tracking, Tuple};
use self::flight::Flight;
pub use self::flight::Share;
pub use self::flow::{Flow, Reached};
pub use self::host::{Contents, Host, Link, Route, Way};
use self::index::Index;
pub use self::load::Absent;
pub use self::outcome::{Fate, Outcome, Trace};
pub use self::packet::{Arrival, Origin, Packet};
use self::path::Call;
use self::rules::Rules;
pub use self::step::{Event, Place, Step, Update};
pub use self::text::story;
use crate::{Hook, Table};

/// A table, prepared for many traces.
#[derive(Clone, Debug)]
pub struct Tracer<'t> {
    table: &'t Table,
    sets: BTreeMap<&'t str, Index<'t>>,
    calls: BTreeMap<Hook, Vec<Call<'t>>>,
    /// Whether IPv4 and IPv6 connections are tracked.
    tracks: [bool; 2],
}

impl<'t> Tracer<'t> {
    /// Prepares a table: sorts its ranges and its base chains.
    #[must_use]
    pub fn new(table: &'t Table) -> Self {
        let sets = table.sets.iter();
        let hooks = [
            Hook::Prerouting,
            Hook::Input,
            Hook::Forward,
            Hook::Output,
            Hook::Postrouting,
        ];
        Self {
            table,
            sets: sets
                .map(|(name, set)| (name.as_str(), Index::new(set)))
                .collect(),
            tracks: path::tracks(table),
            calls: hooks.map(|hook| (hook, path::calls(hook, table))).into(),
        }
    }

    /// Follows a packet to every end that it can come to; at least one.
    #[must_use]
    pub fn trace(&self, host: &Host, arrival: &Arrival) -> Vec<Trace<'t>> {
        let flight = Flight {
            packet: arrival.packet,
            iif: match arrival.origin {
                Origin::Link(index) => Some(index),
                Origin::Node => None,
            },
            oif: None,
            routed: None,
            hook: Hook::Prerouting,
            attached: Attached::Nothing,
            tracking: arrival.tracking.clone(),
            updates: Vec::new(),
            share: Share::ALL,
            steps: Vec::new(),
        };
        let mut ends: BTreeMap<Outcome, (Share, Vec<Step<'t>>)> = BTreeMap::new();
        for (flight, fate) in self.path(flight, arrival.origin, host) {
            let outcome = Outcome {
                fate,
                packet: flight.packet,
                connection: flight.attached.connection().cloned(),
                updates: flight.updates,
            };
            match ends.get_mut(&outcome) {
                Some((share, _)) => *share = share.plus(flight.share),
                None => {
                    ends.insert(outcome, (flight.share, flight.steps));
                }
            }
        }
        let traces = ends.into_iter().map(|(outcome, (share, steps))| Trace {
            arrival: arrival.clone(),
            outcome,
            share,
            steps,
        });
        traces.collect()
    }

    /// The table around a packet on this host.
    fn rules<'a>(&'a self, host: &'a Host) -> Rules<'a, 't> {
        let Self {
            table,
            sets,
            calls: _,
            tracks: _,
        } = self;
        Rules { table, sets, host }
    }
}

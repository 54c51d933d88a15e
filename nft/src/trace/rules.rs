//! Chains and rules, statement by statement, over every way that a packet can take.
//!
//! Each function takes a packet in flight and returns where it may be afterwards: one flight for
//! each outcome of a choice.

mod compare;
mod dynamic;
mod effect;
mod lookup;

use std::collections::BTreeMap;

use super::flight::Flight;
use super::index::Index;
use super::{Event, Host, Place, Step};
use crate::{Base, Chain, Class, NatTarget, Policy, Reject, Rule, Statement, Table, Verdict};

/// How a base chain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Accepted,
    Dropped,
    Rejected(Reject),
    /// The table has something that cannot be followed.
    Unknown(String),
}

/// A table around a packet.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a, 't> {
    pub(super) table: &'t Table,
    pub(super) sets: &'a BTreeMap<&'t str, Index<'t>>,
    pub(super) host: &'a Host,
}

/// Where a packet goes after a statement.
enum Onward {
    /// To the next statement.
    On,
    /// To the next rule.
    Break,
    Return,
    Jump(String),
    Goto(String),
    Ended(Ended),
}

/// Where a packet is after a chain: through its end, or ended.
type After<'t> = (Flight<'t>, Option<Ended>);

/// A packet after a statement, and where it goes.
type Way<'t> = (Flight<'t>, Onward);

/// Chains nested deeper are a loop, which the kernel refuses (its own limit is 16 jumps).
const DEEPEST: usize = 64;

/// Where the rule in hand is.
#[derive(Clone, Copy)]
struct At<'t> {
    chain: &'t str,
    number: usize,
    rule: &'t Rule,
}

impl<'t> Rules<'_, 't> {
    /// Runs a base chain and applies its policy.
    pub(super) fn base_chain(
        &self,
        mut flight: Flight<'t>,
        (name, chain, base): (&'t str, &'t Chain, Base),
    ) -> Vec<(Flight<'t>, Ended)> {
        flight.note(Event::Base(name, base));
        let ends = self.chain(flight, (name, chain), 0).into_iter();
        ends.map(|(mut flight, ended)| {
            let ended = ended.unwrap_or_else(|| {
                flight.note(Event::Policy(name, base.policy));
                match base.policy {
                    Policy::Accept => Ended::Accepted,
                    Policy::Drop => Ended::Dropped,
                }
            });
            (flight, ended)
        })
        .collect()
    }

    fn chain(
        &self,
        flight: Flight<'t>,
        (name, chain): (&'t str, &'t Chain),
        depth: usize,
    ) -> Vec<After<'t>> {
        let mut after = Vec::new();
        let mut here = vec![flight];
        for (index, rule) in chain.rules.iter().enumerate() {
            let at = At {
                chain: name,
                number: index + 1,
                rule,
            };
            let mut next = Vec::new();
            for (flight, flow) in here.drain(..).flat_map(|flight| self.rule(flight, at)) {
                match flow {
                    Onward::On | Onward::Break => next.push(flight),
                    Onward::Return => after.push((flight, None)),
                    Onward::Ended(ended) => after.push((flight, Some(ended))),
                    Onward::Goto(to) => after.extend(self.called(flight, &to, depth)),
                    Onward::Jump(to) => {
                        for (flight, ended) in self.called(flight, &to, depth) {
                            match ended {
                                None => next.push(flight),
                                Some(ended) => after.push((flight, Some(ended))),
                            }
                        }
                    }
                }
            }
            here = next;
        }
        after.extend(here.into_iter().map(|flight| (flight, None)));
        after
    }

    fn called(&self, mut flight: Flight<'t>, chain: &str, depth: usize) -> Vec<After<'t>> {
        let problem = match self.table.chains.get_key_value(chain) {
            Some((name, chain)) if depth < DEEPEST => {
                return self.chain(flight, (name.as_str(), chain), depth + 1);
            }
            Some(_) => format!("chain {chain} is nested too deep"),
            None => format!("there is no chain {chain}"),
        };
        flight.note(Event::Unknown(problem.clone()));
        vec![(flight, Some(Ended::Unknown(problem)))]
    }

    fn rule(&self, flight: Flight<'t>, at: At<'t>) -> Vec<(Flight<'t>, Onward)> {
        let mut after = Vec::new();
        let mut here = vec![flight];
        for statement in &at.rule.statements {
            let mut next = Vec::new();
            for flight in here {
                for (flight, flow) in self.statement(flight, at, statement) {
                    match flow {
                        Onward::On => next.push(flight),
                        flow => after.push((flight, flow)),
                    }
                }
            }
            here = next;
        }
        after.extend(here.into_iter().map(|flight| (flight, Onward::On)));
        after
    }

    fn statement(
        &self,
        mut flight: Flight<'t>,
        at: At<'t>,
        statement: &'t Statement,
    ) -> Vec<Way<'t>> {
        let place = at.place(statement);
        let (event, flow) = match statement {
            Statement::Match(comparison) => return self.compare(flight, place, comparison),
            Statement::Lookup { key, set, negated } => {
                return self.look_up(flight, place, key, set, |_, found| {
                    found.flow(found.is_there() != *negated)
                });
            }
            Statement::Vmap { key, map } => {
                return self.look_up(flight, place, key, map, |_, found| match found.verdict() {
                    Some(verdict) => Onward::by(verdict),
                    None => found.flow(true),
                });
            }
            Statement::SetPriority(Class::Literal(class)) => {
                flight.packet.priority = *class;
                (Event::Carries(*class), Onward::On)
            }
            Statement::SetPriority(Class::Map { key, map }) => {
                return self.look_up(flight, place, key, map, |flight, found| {
                    let class = found.class();
                    if let Some(class) = class {
                        flight.packet.priority = class;
                        flight.at(place, Event::Carries(class));
                    }
                    found.flow(class.is_some())
                });
            }
            Statement::Dnat { family, to } => match to {
                NatTarget::Literal { address, port } => flight.dnat(*family, *address, *port),
                NatTarget::Map { key, map } => {
                    return self.look_up(flight, place, key, map, |flight, found| {
                        let Some((address, port)) = found.target() else {
                            return found.flow(false);
                        };
                        let (event, flow) = flight.dnat(*family, address, Some(port));
                        flight.at(place, event);
                        flow
                    });
                }
            },
            Statement::Masquerade { fully_random } => flight.masquerade(self.host, *fully_random),
            Statement::Dynamic {
                operation,
                set,
                key,
                timeout,
                data,
            } => {
                let change = dynamic::Change {
                    operation: *operation,
                    set,
                    key,
                    timeout: *timeout,
                    data: *data,
                };
                return self.change(flight, place, &change);
            }
            Statement::Notrack => flight.notrack(),
            Statement::SetLabel(bit) => flight.label(*bit),
            Statement::Counter => return vec![(flight, Onward::On)],
            Statement::Verdict(verdict) => (Event::Verdict(verdict.clone()), Onward::by(verdict)),
            Statement::Reject(reject) => flight.reject(*reject),
            Statement::Unknown(what) => unknown(what.clone()),
        };
        flight.at(place, event);
        vec![(flight, flow)]
    }
}

impl<'t> At<'t> {
    fn place(self, statement: &'t Statement) -> Place<'t> {
        Place {
            chain: self.chain,
            rule: self.number,
            comment: self.rule.comment.as_deref(),
            statement,
        }
    }
}

impl Onward {
    fn by(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Accept => Self::Ended(Ended::Accepted),
            Verdict::Drop => Self::Ended(Ended::Dropped),
            Verdict::Return => Self::Return,
            Verdict::Jump(chain) => Self::Jump(chain.clone()),
            Verdict::Goto(chain) => Self::Goto(chain.clone()),
        }
    }
}

impl<'t> Flight<'t> {
    /// Adds what a statement did to the steps.
    fn at(&mut self, place: Place<'t>, event: Event<'t>) {
        let hook = self.hook;
        self.steps.push(Step {
            hook,
            place: Some(place),
            event,
        });
    }
}

fn unknown<'t>(what: String) -> (Event<'t>, Onward) {
    (
        Event::Unknown(what.clone()),
        Onward::Ended(Ended::Unknown(what)),
    )
}

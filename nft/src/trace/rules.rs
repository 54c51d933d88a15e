//! Chains and rules, statement by statement, over every way that a packet can take.
//!
//! Each function takes a packet in flight and returns where it may be afterwards: one flight for
//! each outcome of a choice.

use std::net::IpAddr;
use std::time::Duration;

use super::connection::End;
use super::flight::Flight;
use super::index::Found;
use super::load::load;
use super::{Absent, Event, Host, Place, Step, Tracer, Update};
use crate::{
    Base, Chain, Class, Data, Field, Match, NatFamily, NatTarget, Operation, Operator, Policy,
    Reject, Right, Rule, Statement, Type, Value, Verdict,
};

/// How a base chain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Accepted,
    Dropped,
    Rejected(Reject),
    /// The table has something that cannot be followed.
    Unknown(String),
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

/// Chains nested deeper are a loop, which the kernel refuses (its own limit is 16 jumps).
const DEEPEST: usize = 64;

/// Where the statement in hand is.
#[derive(Clone, Copy)]
struct At<'t> {
    chain: &'t str,
    number: usize,
    rule: &'t Rule,
}

impl<'t> Tracer<'t> {
    /// Runs a base chain and applies its policy.
    pub(super) fn base_chain(
        &self,
        mut flight: Flight<'t>,
        host: &Host,
        (name, chain, base): (&'t str, &'t Chain, Base),
    ) -> Vec<(Flight<'t>, Ended)> {
        flight.note(Event::Base(name, base));
        let ends = self.chain(flight, host, (name, chain), 0).into_iter();
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
        host: &Host,
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
            for (flight, flow) in here
                .drain(..)
                .flat_map(|flight| self.rule(flight, host, at))
            {
                match flow {
                    Onward::On | Onward::Break => next.push(flight),
                    Onward::Return => after.push((flight, None)),
                    Onward::Ended(ended) => after.push((flight, Some(ended))),
                    Onward::Goto(to) => after.extend(self.called(flight, host, &to, depth)),
                    Onward::Jump(to) => {
                        for (flight, ended) in self.called(flight, host, &to, depth) {
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

    fn called(
        &self,
        mut flight: Flight<'t>,
        host: &Host,
        chain: &str,
        depth: usize,
    ) -> Vec<After<'t>> {
        let problem = match self.table.chains.get_key_value(chain) {
            Some((name, chain)) if depth < DEEPEST => {
                return self.chain(flight, host, (name.as_str(), chain), depth + 1);
            }
            Some(_) => format!("chain {chain} is nested too deep"),
            None => format!("there is no chain {chain}"),
        };
        flight.note(Event::Unknown(problem.clone()));
        vec![(flight, Some(Ended::Unknown(problem)))]
    }

    fn rule(&self, flight: Flight<'t>, host: &Host, at: At<'t>) -> Vec<(Flight<'t>, Onward)> {
        let mut after = Vec::new();
        let mut here = vec![flight];
        for statement in &at.rule.statements {
            let mut next = Vec::new();
            for flight in here {
                for (flight, flow) in self.statement(flight, host, at, statement) {
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
        host: &Host,
        at: At<'t>,
        statement: &'t Statement,
    ) -> Vec<(Flight<'t>, Onward)> {
        let hook = flight.hook;
        let note = |flight: &mut Flight<'t>, event| {
            flight.steps.push(Step {
                hook,
                place: Some(Place {
                    chain: at.chain,
                    rule: at.number,
                    comment: at.rule.comment.as_deref(),
                    statement,
                }),
                event,
            });
        };
        let (event, flow) = match statement {
            Statement::Match(comparison) => compare(comparison, &flight, host),
            Statement::Lookup { key, set, negated } => {
                return self.looked_up(flight, host, key, set, |mut flight, found| {
                    let there = matches!(found, Lookup::Found { .. });
                    let absent =
                        matches!(found, Lookup::Event(Event::Lacks(_) | Event::Unknown(_)));
                    let flow = found.flow(!absent && there != *negated);
                    note(&mut flight, found.event());
                    (flight, flow)
                });
            }
            Statement::Vmap { key, map } => {
                return self.looked_up(flight, host, key, map, |mut flight, found| {
                    let flow = match &found {
                        Lookup::Found {
                            found:
                                Found {
                                    data: Some(Data::Verdict(verdict)),
                                    ..
                                },
                            ..
                        } => Onward::by(verdict),
                        found => found.flow(true),
                    };
                    note(&mut flight, found.event());
                    (flight, flow)
                });
            }
            Statement::Dnat { family, to } => match to {
                NatTarget::Literal { address, port } => {
                    let (event, flow) = dnat(&mut flight, *family, *address, *port);
                    note(&mut flight, event);
                    return vec![(flight, flow)];
                }
                NatTarget::Map { key, map } => {
                    return self.looked_up(flight, host, key, map, |mut flight, found| {
                        let target = found.target();
                        let flow = found.flow(false);
                        note(&mut flight, found.event());
                        let Some((address, port)) = target else {
                            return (flight, flow);
                        };
                        let (event, flow) = dnat(&mut flight, *family, address, Some(port));
                        note(&mut flight, event);
                        (flight, flow)
                    });
                }
            },
            Statement::SetPriority(Class::Literal(class)) => {
                flight.packet.priority = *class;
                (Event::Carries(*class), Onward::On)
            }
            Statement::SetPriority(Class::Map { key, map }) => {
                return self.looked_up(flight, host, key, map, |mut flight, found| {
                    let class = found.class();
                    let flow = found.flow(class.is_some());
                    note(&mut flight, found.event());
                    if let Some(class) = class {
                        flight.packet.priority = class;
                    }
                    (flight, flow)
                });
            }
            Statement::Dynamic {
                operation,
                set,
                key,
                timeout,
                data,
            } => {
                let element = Made {
                    operation: *operation,
                    set,
                    key,
                    timeout: *timeout,
                    data: *data,
                };
                self.remember(&mut flight, host, element)
            }
            Statement::Masquerade { fully_random: _ } => masquerade(&mut flight, host),
            Statement::Notrack => {
                let flow = flight.notrack();
                (Event::Notrack, flow)
            }
            Statement::Counter => return vec![(flight, Onward::On)],
            Statement::Verdict(verdict) => (Event::Verdict(verdict.clone()), Onward::by(verdict)),
            Statement::Reject(reject) => reject_with(*reject, &flight),
            Statement::Unknown(what) => unknown(what.clone()),
        };
        note(&mut flight, event);
        vec![(flight, flow)]
    }

    /// Looks a key up and goes on with what was found: once for each value that the key may have,
    /// and for each element that it may be in.
    fn looked_up(
        &self,
        flight: Flight<'t>,
        host: &Host,
        key: &[Field],
        set: &str,
        then: impl Fn(Flight<'t>, Lookup<'t>) -> (Flight<'t>, Onward),
    ) -> Vec<(Flight<'t>, Onward)> {
        let Some(index) = self.sets.get(set) else {
            let unknown = Event::Unknown(format!("there is no set {set}"));
            return vec![then(flight, Lookup::Event(unknown))];
        };
        let keys = match keys(key, &flight, host) {
            Err(absent) => return vec![then(flight, Lookup::Event(Event::Lacks(absent)))],
            Ok(keys) => keys,
        };
        let mut after = Vec::new();
        let chances = keys.len() as u64;
        for key in keys {
            let mut flight = flight.clone();
            flight.share = flight.share.divided(chances);
            let values: Option<Vec<Value>> = key.iter().cloned().collect();
            let found =
                values.map(|values| index.find(&values, flight.learned(set, &values, host)));
            let found = found.unwrap_or_default();
            if found.is_empty() {
                after.push(then(flight, Lookup::Event(Event::Missed { key })));
                continue;
            }
            let ways = found.len() as u64;
            after.extend(found.into_iter().map(|found| {
                let mut flight = flight.clone();
                flight.share = flight.share.divided(ways);
                let key = key.clone();
                then(flight, Lookup::Found { key, found })
            }));
        }
        after
    }

    /// Makes an element of a dynamic set, or begins its time anew. That a set can be full is not
    /// modelled.
    fn remember(
        &self,
        flight: &mut Flight<'t>,
        host: &Host,
        made: Made<'_>,
    ) -> (Event<'t>, Onward) {
        let Made {
            operation,
            set,
            key,
            timeout,
            data,
        } = made;
        let Some(definition) = self.table.sets.get(set) else {
            return unknown(format!("there is no set {set}"));
        };
        if operation == Operation::Delete {
            return unknown("deletion by packets is not followed".to_owned());
        }
        let loaded = |field: &Field| match load(*field, flight, host) {
            Err(absent) => Err((Event::Lacks(absent), Onward::Break)),
            Ok(None) => Err(unknown(format!("{field} has no name here"))),
            Ok(Some(value)) => Ok(value),
        };
        let key: Result<Vec<Value>, _> = key.iter().map(loaded).collect();
        let fresh: Result<Vec<Value>, _> = data.iter().map(loaded).collect();
        let (key, fresh) = match (key, fresh) {
            (Ok(key), Ok(fresh)) => (key, fresh),
            (Err(end), _) | (_, Err(end)) => return end,
        };
        let there = flight.learned(set, &key, host);
        let update = Update {
            set: set.to_owned(),
            data: there.unwrap_or(fresh),
            key,
            timeout: timeout.or(definition.timeout),
        };
        flight.updates.push(update.clone());
        (Event::Updated(update), Onward::On)
    }
}

/// An element that a statement makes.
struct Made<'s> {
    operation: Operation,
    set: &'s str,
    key: &'s [Field],
    timeout: Option<Duration>,
    data: Option<Field>,
}

/// Every key that these fields can make: one for each number that a random field can have.
fn keys(
    fields: &[Field],
    flight: &Flight<'_>,
    host: &Host,
) -> Result<Vec<Vec<Option<Value>>>, Absent> {
    let mut keys = vec![Vec::new()];
    for field in fields {
        let values = match field {
            Field::Random { modulus, offset } => {
                let numbers = (0..*modulus).map(|number| number.wrapping_add(*offset));
                numbers.map(|number| Some(Value::Mark(number))).collect()
            }
            field => vec![load(*field, flight, host)?],
        };
        keys = keys
            .into_iter()
            .flat_map(|key: Vec<Option<Value>>| {
                values.iter().map(move |value| {
                    let mut key = key.clone();
                    key.push(value.clone());
                    key
                })
            })
            .collect();
    }
    Ok(keys)
}

/// What came of a lookup.
enum Lookup<'t> {
    Found {
        key: Vec<Option<Value>>,
        found: Found<'t>,
    },
    Event(Event<'t>),
}

impl<'t> Lookup<'t> {
    fn event(self) -> Event<'t> {
        match self {
            Self::Found {
                key,
                found: Found { data, comment },
            } => Event::Found {
                key,
                data: data.map(|data| data.to_string()),
                comment,
            },
            Self::Event(event) => event,
        }
    }

    /// Where the packet goes, if the table can be followed: on, or to the next rule.
    fn flow(&self, on: bool) -> Onward {
        match self {
            Self::Event(Event::Unknown(what)) => Onward::Ended(Ended::Unknown(what.clone())),
            Self::Event(Event::Lacks(_)) => Onward::Break,
            _ if on => Onward::On,
            _ => Onward::Break,
        }
    }

    /// The class that was found.
    fn class(&self) -> Option<u32> {
        let Self::Found { found, .. } = self else {
            return None;
        };
        match &found.data {
            Some(Data::Values(values)) => match values.as_slice() {
                [Value::ClassId(class)] => Some(*class),
                _ => None,
            },
            Some(Data::Verdict(_)) | None => None,
        }
    }

    /// The address and port that were found.
    fn target(&self) -> Option<(IpAddr, u16)> {
        let Self::Found { found, .. } = self else {
            return None;
        };
        match &found.data {
            Some(Data::Values(values)) => match values.as_slice() {
                [Value::Ipv4(address), Value::InetService(port)] => {
                    Some(((*address).into(), *port))
                }
                [Value::Ipv6(address), Value::InetService(port)] => {
                    Some(((*address).into(), *port))
                }
                _ => None,
            },
            Some(Data::Verdict(_)) | None => None,
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

fn compare<'t>(comparison: &Match, flight: &Flight<'t>, host: &Host) -> (Event<'t>, Onward) {
    if let Field::Random { .. } = comparison.field {
        return unknown("a comparison of a random number is not followed".to_owned());
    }
    if let (
        Match {
            operator,
            right: Right::Value(Value::CtLabel(bit)),
            ..
        },
        Some(connection),
    ) = (comparison, flight.attached.connection())
    {
        let bit = *bit;
        let set = connection.label >> bit.min(127) & 1 == 1;
        let value = set.then_some(Value::CtLabel(bit));
        return if set == (*operator == Operator::Eq) {
            (Event::Holds(value), Onward::On)
        } else {
            (Event::Fails(value), Onward::Break)
        };
    }
    match load(comparison.field, flight, host) {
        Err(absent) => (Event::Lacks(absent), Onward::Break),
        Ok(value) if holds(comparison, value.as_ref()) => (Event::Holds(value), Onward::On),
        Ok(value) => (Event::Fails(value), Onward::Break),
    }
}

/// Whether a comparison holds; of a value without a name nothing is known but that it is another.
fn holds(comparison: &Match, value: Option<&Value>) -> bool {
    let Match {
        field,
        operator,
        right,
    } = comparison;
    let equal = match (right, value) {
        (_, None) => false,
        (Right::Value(right), Some(value)) => is(value, right, field.kind()),
        (Right::Network(net), Some(Value::Ipv4(address))) => net.contains(&IpAddr::V4(*address)),
        (Right::Network(net), Some(Value::Ipv6(address))) => net.contains(&IpAddr::V6(*address)),
        (Right::Network(_), Some(_)) => false,
        (Right::Range(first, last), Some(value)) => first <= value && value <= last,
        (Right::AnyOf(values), Some(value)) => values.contains(value),
    };
    match operator {
        Operator::Eq => equal,
        Operator::Ne => !equal,
    }
}

fn is(value: &Value, right: &Value, kind: Type) -> bool {
    match (value, right) {
        (Value::CtState(value), Value::CtState(bits))
        | (Value::CtStatus(value), Value::CtStatus(bits)) => value & bits != 0,
        (Value::Ifname(value), Value::Ifname(name)) => match name.strip_suffix('*') {
            Some(start) => value.starts_with(start),
            None => value == name,
        },
        _ => value.kind() == kind && value == right,
    }
}

fn dnat<'t>(
    flight: &mut Flight<'t>,
    family: NatFamily,
    address: IpAddr,
    port: Option<u16>,
) -> (Event<'t>, Onward) {
    let fits = match family {
        NatFamily::Ip => flight.is_v4(),
        NatFamily::Ip6 => !flight.is_v4(),
    };
    if !fits {
        return (Event::OtherFamily, Onward::On);
    }
    if End::of(flight.hook) != Some(End::Destination) {
        return unknown("dnat works in prerouting and output alone".to_owned());
    }
    let Some(connection) = flight.attached.connection_mut() else {
        return unknown("dnat works in translation chains alone".to_owned());
    };
    connection.translate(End::Destination, address, port);
    let to = connection.reply.source;
    (Event::Dnat(to), Onward::Ended(Ended::Accepted))
}

fn masquerade<'t>(flight: &mut Flight<'t>, host: &Host) -> (Event<'t>, Onward) {
    let like = flight.packet.destination;
    let source = flight.oif.and_then(|link| host.source(link, like));
    let Some(source) = source else {
        return (Event::Masquerade(None), Onward::Ended(Ended::Dropped));
    };
    let Some(connection) = flight.attached.connection_mut() else {
        return unknown("masquerade works in translation chains alone".to_owned());
    };
    connection.translate(End::Source, source, None);
    let to = connection.reply.destination;
    (Event::Masquerade(Some(to)), Onward::Ended(Ended::Accepted))
}

fn reject_with<'t>(reject: Reject, flight: &Flight<'t>) -> (Event<'t>, Onward) {
    let presumed = match reject {
        Reject::TcpReset => flight.packet.protocol == crate::l4proto::TCP,
        Reject::PortUnreachable
        | Reject::AdminProhibited
        | Reject::NoRoute
        | Reject::HostUnreachable => true,
    };
    if presumed {
        (Event::Rejected, Onward::Ended(Ended::Rejected(reject)))
    } else {
        (Event::Lacks(super::Absent::Protocol), Onward::Break)
    }
}

fn unknown<'t>(what: String) -> (Event<'t>, Onward) {
    (
        Event::Unknown(what.clone()),
        Onward::Ended(Ended::Unknown(what)),
    )
}

impl<'t> Flight<'t> {
    /// Exempts the packet; one that tracking has seen already stays as it is.
    fn notrack(&mut self) -> Onward {
        match self.attached {
            super::Attached::Nothing => self.attached = super::Attached::Untracked,
            super::Attached::Untracked | super::Attached::Connection { .. } => {}
        }
        Onward::On
    }

    /// What packets, this one included, have put under a key of a set.
    fn learned(&self, set: &str, key: &[Value], host: &Host) -> Option<Vec<Value>> {
        let mut own = self.updates.iter().rev();
        let own = own.find(|update| update.set == set && update.key == key);
        let before = || host.dynamic.get(set)?.get(key);
        own.map(|update| &update.data).or_else(before).cloned()
    }
}

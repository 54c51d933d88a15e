//! Chains and rules, statement by statement, over every way that a packet can take.
//!
//! Each function takes a packet in flight and returns where it may be afterwards: one flight for
//! each outcome of a choice.

use std::net::IpAddr;
use std::time::Duration;

use super::connection::End;
use super::flight::Flight;
use super::index::{Found, Index};
use super::load::load_all;
use super::{Contents, Event, Host, Place, Step, Tracer, Update};
use crate::{
    Base, Chain, Class, Data, Field, Match, NatFamily, NatTarget, Operation, Operator, Policy,
    Reject, Right, Rule, Statement, Type, Value, Verdict, ct_status,
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
            Statement::Match(comparison) => {
                let ways = compare(comparison, &flight, host).into_iter();
                return ways
                    .map(|(share, event, flow)| {
                        let mut flight = flight.clone();
                        flight.share = flight.share.divided(share);
                        note(&mut flight, event);
                        (flight, flow)
                    })
                    .collect();
            }
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
                        note(&mut flight, Event::Carries(class));
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
                let change = Change {
                    operation: *operation,
                    set,
                    key,
                    timeout: *timeout,
                    data: *data,
                };
                let ways = self.changed(flight, host, &change).into_iter();
                return ways
                    .map(|(mut flight, event, flow)| {
                        note(&mut flight, event);
                        (flight, flow)
                    })
                    .collect();
            }
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
            Statement::Masquerade { fully_random } => masquerade(&mut flight, host, *fully_random),
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
        let keys = match load_all(key, &flight, host) {
            Err(absent) => return vec![then(flight, Lookup::Event(Event::Lacks(absent)))],
            Ok(keys) => keys,
        };
        let draws = keys.len() as u64;
        let mut after = Vec::new();
        for key in keys {
            let values: Option<Vec<Value>> = key.iter().cloned().collect();
            let found =
                values.map_or_else(Vec::new, |values| flight.find(index, set, &values, host));
            let ways = draws.saturating_mul(found.len().max(1) as u64);
            let mut flight = flight.clone();
            flight.share = flight.share.divided(ways);
            if found.is_empty() {
                after.push(then(flight, Lookup::Event(Event::Missed { key })));
                continue;
            }
            let found = found.into_iter();
            after.extend(found.map(|found| {
                let key = key.clone();
                then(flight.clone(), Lookup::Found { key, found })
            }));
        }
        after
    }

    /// Changes an element of a dynamic set.
    fn changed(
        &self,
        flight: Flight<'t>,
        host: &Host,
        change: &Change<'_>,
    ) -> Vec<(Flight<'t>, Event<'t>, Onward)> {
        let Change {
            operation,
            set,
            key,
            timeout,
            data,
        } = *change;
        let Some(index) = self.sets.get(set) else {
            let (event, flow) = unknown(format!("there is no set {set}"));
            return vec![(flight, event, flow)];
        };
        let fields: Vec<Field> = key.iter().copied().chain(data).collect();
        let all = match load_all(&fields, &flight, host) {
            Err(absent) => return vec![(flight, Event::Lacks(absent), Onward::Break)],
            Ok(all) => all,
        };
        let draws = all.len() as u64;
        let all = all.into_iter().map(|values| {
            let mut flight = flight.clone();
            flight.share = flight.share.divided(draws);
            let Some(mut values) = values.into_iter().collect::<Option<Vec<Value>>>() else {
                let (event, flow) = unknown(format!("a key of set {set} has no name here"));
                return (flight, event, flow);
            };
            let data = values.split_off(key.len());
            let update = Update {
                operation,
                set: set.to_owned(),
                key: values,
                data,
                timeout: timeout.or(index.set().timeout),
            };
            let (event, flow) = flight.update(index, update, host);
            (flight, event, flow)
        });
        all.collect()
    }
}

/// What a statement does to a dynamic set.
struct Change<'s> {
    operation: Operation,
    set: &'s str,
    key: &'s [Field],
    timeout: Option<Duration>,
    data: Option<Field>,
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

/// What comes of a comparison, once for each value that the field may have, and how many those are.
fn compare<'t>(
    comparison: &Match,
    flight: &Flight<'t>,
    host: &Host,
) -> Vec<(u64, Event<'t>, Onward)> {
    let values = match load_all(&[comparison.field], flight, host) {
        Err(absent) => return vec![(1, Event::Lacks(absent), Onward::Break)],
        Ok(values) => values,
    };
    let ways = values.len() as u64;
    let label = flight
        .attached
        .connection()
        .map_or(0, |connection| connection.label);
    let values = values.into_iter().flatten();
    values
        .map(|value| {
            if holds(comparison, value.as_ref(), label) {
                (ways, Event::Holds(value), Onward::On)
            } else {
                (ways, Event::Fails(value), Onward::Break)
            }
        })
        .collect()
}

/// Whether a comparison holds; of a value without a name nothing is known but that it is another.
fn holds(comparison: &Match, value: Option<&Value>, label: u128) -> bool {
    let Match {
        field,
        operator,
        right,
    } = comparison;
    let equal = match (right, value) {
        (Right::Value(Value::CtLabel(bit)), _) => {
            label.checked_shr(u32::from(*bit)).unwrap_or(0) & 1 != 0
        }
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

fn masquerade<'t>(flight: &mut Flight<'t>, host: &Host, fully_random: bool) -> (Event<'t>, Onward) {
    let like = flight.packet.destination;
    let source = flight.oif.and_then(|link| host.source(link, like));
    let Some(source) = source else {
        return (Event::Masquerade(None), Onward::Ended(Ended::Dropped));
    };
    let Some(connection) = flight.attached.connection_mut() else {
        return unknown("masquerade works in translation chains alone".to_owned());
    };
    connection.translate(End::Source, source, None);
    if fully_random {
        // The port changes even if the address does not.
        connection.status |= ct_status::SNAT;
    }
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

    /// What stands under a key of a set: what packets, this one included, have put there, or else
    /// what the table says.
    fn find(&self, index: &Index<'t>, set: &str, key: &[Value], host: &Host) -> Vec<Found<'t>> {
        let mut own = self.updates.iter().rev();
        let own = own.find(|update| update.set == set && update.key == key);
        let learned = match own {
            Some(update) if update.operation == Operation::Delete => return Vec::new(),
            Some(update) => Some(&update.data),
            None => host.dynamic.get(set).and_then(|contents| contents.get(key)),
        };
        index.find(key, learned.cloned())
    }

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

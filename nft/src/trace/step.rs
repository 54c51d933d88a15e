//! What happened to a packet, one thing after the other, and in words.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Absent, Way};
use crate::{Base, ChainKind, Hook, Operation, Policy, Statement, Value, Verdict};

/// One step of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'t> {
    /// The hook that the packet is in.
    pub hook: Hook,
    /// The statement that it comes from; none for what the kernel does by itself.
    pub place: Option<Place<'t>>,
    /// What happened.
    pub event: Event<'t>,
}

/// Where a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'t> {
    /// Name of the chain.
    pub chain: &'t str,
    /// Number of the rule, from 1.
    pub rule: usize,
    /// The rule's comment.
    pub comment: Option<&'t str>,
    /// The statement.
    pub statement: &'t Statement,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'t> {
    /// Connection tracking looked at the packet: its bits of [`ct_state`](crate::ct_state).
    Tracked(u32),
    /// The packet was routed.
    Routed(Way),
    /// A base chain begins.
    Base(&'t str, Base),
    /// A base chain ended without a verdict.
    Policy(&'t str, Policy),
    /// Translation chains were not asked: the connection's translation is settled.
    Settled,
    /// The packet's source is translated as its connection says.
    SourceBecame(SocketAddr),
    /// The packet's destination is translated as its connection says.
    DestinationBecame(SocketAddr),
    /// The comparison holds; what was loaded (none: a value without a name here).
    Holds(Option<Value>),
    /// The comparison does not hold, and the rule ends.
    Fails(Option<Value>),
    /// A field is not there, and the rule ends.
    Lacks(Absent),
    /// The key is in the set.
    Found {
        /// The key.
        key: Vec<Option<Value>>,
        /// What stands under it, as nft prints it; none in a plain set.
        data: Option<String>,
        /// The element's comment.
        comment: Option<&'t str>,
    },
    /// The key is not in the set.
    Missed {
        /// The key.
        key: Vec<Option<Value>>,
    },
    /// The destination will be this.
    Dnat(SocketAddr),
    /// The source will be this; none if the node has no address to give.
    Masquerade(Option<SocketAddr>),
    /// The statement is for the other family.
    OtherFamily,
    /// The packet is exempt from tracking.
    Notrack,
    /// An element of a dynamic set was added or deleted, or its time starts anew.
    Updated(Update),
    /// A dynamic set did not change: it is full, or the element was there, or was not.
    Unchanged(&'static str),
    /// `meta priority` is this from here on.
    Carries(u32),
    /// A verdict.
    Verdict(Verdict),
    /// The packet was refused with an answer.
    Rejected,
    /// The table has something that cannot be followed.
    Unknown(String),
}

/// What a packet did to an element of a dynamic set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Update {
    /// What it did.
    pub operation: Operation,
    /// The set.
    pub set: String,
    /// The key.
    pub key: Vec<Value>,
    /// The data; empty in a plain set.
    pub data: Vec<Value>,
    /// How long the element stays.
    pub timeout: Option<Duration>,
}

impl Step<'_> {
    /// Whether the step is about a rule that did not apply.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self.event {
            Event::Fails(_) | Event::Lacks(_) | Event::OtherFamily | Event::Missed { .. } => true,
            Event::Tracked(_)
            | Event::Routed(_)
            | Event::Base(..)
            | Event::Policy(..)
            | Event::Settled
            | Event::SourceBecame(_)
            | Event::DestinationBecame(_)
            | Event::Holds(_)
            | Event::Found { .. }
            | Event::Dnat(_)
            | Event::Masquerade(_)
            | Event::Notrack
            | Event::Updated(_)
            | Event::Unchanged(_)
            | Event::Carries(_)
            | Event::Verdict(_)
            | Event::Rejected
            | Event::Unknown(_) => false,
        }
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { hook, place, event } = self;
        let Some(Place {
            chain,
            rule,
            comment: _,
            statement,
        }) = place
        else {
            return write!(f, "{hook}: {event}");
        };
        write!(f, "chain {chain}, rule {rule}: {statement}: {event}")
    }
}

impl Display for Event<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracked(state) => {
                write!(f, "connection tracking says {}", Value::CtState(*state))
            }
            Self::Routed(Way::Local) => f.write_str("routed to the node itself"),
            Self::Routed(Way::Out(link)) => write!(f, "routed to interface {link}"),
            Self::Routed(Way::Nowhere) => f.write_str("no route"),
            Self::Base(name, base) => {
                let Base {
                    kind,
                    hook: _,
                    priority,
                    policy: _,
                } = base;
                let nat = match kind {
                    ChainKind::Nat => ", the first packet of a connection",
                    ChainKind::Filter | ChainKind::Route => "",
                };
                write!(f, "chain {name} (priority {priority}{nat})")
            }
            Self::Policy(name, Policy::Accept) => write!(f, "end of chain {name}: goes on"),
            Self::Policy(name, Policy::Drop) => {
                write!(f, "end of chain {name}: dropped by its policy")
            }
            Self::Settled => f.write_str("translation is settled, its chains are not asked"),
            Self::SourceBecame(to) => write!(f, "source becomes {to}"),
            Self::DestinationBecame(to) => write!(f, "destination becomes {to}"),
            Self::Holds(value) => write!(f, "yes, it is {}", Shown(value)),
            Self::Fails(value) => write!(f, "no, it is {}", Shown(value)),
            Self::Lacks(absent) => write!(f, "no, {absent}"),
            Self::Found { key, data, comment } => {
                write!(f, "{} is there", Key(key))?;
                if let Some(comment) = comment {
                    write!(f, " ({comment})")?;
                }
                match data {
                    Some(data) => write!(f, " -> {data}"),
                    None => Ok(()),
                }
            }
            Self::Missed { key } => write!(f, "{} is not there", Key(key)),
            Self::Dnat(to) => write!(f, "destination shall be {to}"),
            Self::Masquerade(Some(to)) => write!(f, "source shall be {}", to.ip()),
            Self::Masquerade(None) => f.write_str("the node has no address to give: dropped"),
            Self::OtherFamily => f.write_str("the packet is of the other network protocol"),
            Self::Notrack => f.write_str("exempt from connection tracking"),
            Self::Unchanged(why) => f.write_str(why),
            Self::Carries(class) => write!(f, "carries {}", Value::ClassId(*class)),
            Self::Updated(Update {
                operation,
                set,
                key,
                data,
                timeout,
            }) => {
                let has = match operation {
                    Operation::Add | Operation::Update => "has",
                    Operation::Delete => "no longer has",
                };
                write!(f, "@{set} {has} {}", Values(key))?;
                if !data.is_empty() {
                    write!(f, " -> {}", Values(data))?;
                }
                match timeout {
                    Some(timeout) => write!(f, " for {} s", timeout.as_secs_f64()),
                    None => Ok(()),
                }
            }
            Self::Verdict(Verdict::Accept) => f.write_str("accepted, on to the next base chain"),
            Self::Verdict(Verdict::Drop) => f.write_str("dropped"),
            Self::Verdict(Verdict::Return) => f.write_str("back"),
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Rejected => f.write_str("refused"),
            Self::Unknown(what) => write!(f, "cannot be followed: {what}"),
        }
    }
}

/// A loaded value.
struct Shown<'v>(&'v Option<Value>);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("something else"),
        }
    }
}

struct Key<'v>(&'v [Option<Value>]);

impl Display for Key<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        joined(f, self.0.iter().map(Shown))
    }
}

struct Values<'v>(&'v [Value]);

impl Display for Values<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        joined(f, self.0.iter())
    }
}

fn joined(f: &mut Formatter<'_>, parts: impl Iterator<Item = impl Display>) -> fmt::Result {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            f.write_str(" . ")?;
        }
        part.fmt(f)?;
    }
    Ok(())
}

//! What happened to a packet, one thing after the other.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Absent, Way};
use crate::{Base, Hook, Operation, Policy, Statement, Value, Verdict};

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
    /// This bit of its connection's label is set.
    Labelled(u8),
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
    /// Whether a rule ended here without a verdict.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match &self.event {
            Event::Fails(_) | Event::Lacks(_) | Event::OtherFamily => true,
            Event::Missed { .. } => !self.place.is_some_and(|place| match place.statement {
                Statement::Lookup { negated, .. } => *negated,
                _ => false,
            }),
            Event::Found { .. } => self.place.is_some_and(|place| match place.statement {
                Statement::Lookup { negated, .. } => *negated,
                _ => false,
            }),
            Event::Tracked(_)
            | Event::Routed(_)
            | Event::Base(..)
            | Event::Policy(..)
            | Event::Settled
            | Event::SourceBecame(_)
            | Event::DestinationBecame(_)
            | Event::Holds(_)
            | Event::Dnat(_)
            | Event::Masquerade(_)
            | Event::Notrack
            | Event::Labelled(_)
            | Event::Updated(_)
            | Event::Unchanged(_)
            | Event::Carries(_)
            | Event::Verdict(_)
            | Event::Rejected
            | Event::Unknown(_) => false,
        }
    }

    /// Whether the step left something behind, whatever became of its rule.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        match self.event {
            Event::Carries(_)
            | Event::Updated(_)
            | Event::Notrack
            | Event::Labelled(_)
            | Event::Dnat(_)
            | Event::Masquerade(_)
            | Event::Verdict(_)
            | Event::Rejected
            | Event::Unknown(_)
            | Event::SourceBecame(_)
            | Event::DestinationBecame(_) => true,
            Event::Tracked(_)
            | Event::Routed(_)
            | Event::Base(..)
            | Event::Policy(..)
            | Event::Settled
            | Event::Holds(_)
            | Event::Fails(_)
            | Event::Lacks(_)
            | Event::Found { .. }
            | Event::Missed { .. }
            | Event::OtherFamily
            | Event::Unchanged(_) => false,
        }
    }
}

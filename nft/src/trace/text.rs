//! A trace in words, line by line, for people and for golden files.
//!
//! A rule is one line, and only rules that applied are told; a base chain in which none did is left
//! out unless its policy dropped the packet.

use std::fmt::{self, Display, Formatter};

use super::{Direction, Fate, Origin, Packet, Share, Step, Trace, Tracking};
use crate::{Policy, Value, l4proto};

mod event;
mod story;

pub use self::story::story;

impl Trace<'_> {
    /// What the kernel and the rules did, a line for each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        // The base chain whose line waits for a rule that applies.
        let mut chain = None;
        for steps in self.steps.chunk_by(Step::is_of_rule_of) {
            let [first, ..] = steps else { continue };
            match (&first.event, first.place) {
                (super::Event::Base(..), _) => chain = Some(first.to_string()),
                (super::Event::Policy(_, Policy::Accept) | super::Event::Settled, _) => {}
                (_, None) => {
                    let dropped = matches!(first.event, super::Event::Policy(..));
                    lines.extend(chain.take().filter(|_| dropped));
                    lines.push(first.to_string());
                }
                (_, Some(_)) if applied(steps) => {
                    lines.extend(chain.take());
                    lines.push(rule(steps));
                }
                (_, Some(_)) => {}
            }
        }
        lines
    }
}

/// Whether a rule did anything: it was followed to its end, or left something behind.
fn applied(steps: &[Step<'_>]) -> bool {
    let through = steps.last().is_some_and(|last| !last.is_idle());
    through || steps.iter().any(Step::has_effect)
}

/// A rule's steps in one line.
fn rule(steps: &[Step<'_>]) -> String {
    let place = steps.first().and_then(|step| step.place);
    let events: Vec<String> = steps.iter().map(Step::in_words).collect();
    let events = events.join("; ");
    match place {
        Some(place) => format!("{place}: {events}"),
        None => events,
    }
}

impl Step<'_> {
    /// Whether two steps are of one rule, in one passage through it.
    fn is_of_rule_of(&self, after: &Self) -> bool {
        match (self.place, after.place) {
            (Some(before), Some(place)) => {
                let same = (before.chain, before.rule) == (place.chain, place.rule);
                // A rule that ended begins anew.
                same && !self.is_idle() && self.hook == after.hook
            }
            _ => false,
        }
    }
}

impl Trace<'_> {
    /// The packet, in one line.
    pub(super) fn beginning(&self) -> String {
        let Self { arrival, .. } = self;
        let origin = match arrival.origin {
            Origin::Link(index) => format!(" by interface {index}"),
            Origin::Node => " of the node itself".to_owned(),
        };
        format!("{}{origin}, {}", arrival.packet, arrival.tracking)
    }

    /// What became of it, in one line.
    pub(super) fn ending(&self) -> String {
        let Self { outcome, share, .. } = self;
        let mut ending = format!("-> {}", outcome.fate);
        if outcome.arrives() {
            ending.push_str(&format!(" as {}", outcome.packet));
        }
        if *share != Share::ALL {
            ending.push_str(&format!(" ({share} of the packets)"));
        }
        ending
    }
}

impl Display for Trace<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.beginning())?;
        for line in self.lines() {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "  {}", self.ending())
    }
}

impl Display for Packet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            protocol,
            source_port: _,
            destination_port: _,
            icmp_type,
            mark: _,
            priority: _,
        } = self;
        write!(f, "{} ", Value::InetProto(*protocol))?;
        match *protocol {
            l4proto::ICMP | l4proto::ICMPV6 => {
                write!(f, "type {icmp_type} {source} > {destination}")
            }
            _ => write!(f, "{} > {}", self.from(), self.to()),
        }
    }
}

impl Display for Tracking {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new connection",
            Self::Announced => "announced connection",
            Self::Of(_, Direction::Original) => "known connection",
            Self::Of(_, Direction::Reply) => "answer in a known connection",
            Self::Error(..) => "error about a known connection",
            Self::Invalid => "invalid",
        })
    }
}

impl Display for Fate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered to the node itself"),
            Self::Sent { link } => write!(f, "sent by interface {link}"),
            Self::Dropped => f.write_str("dropped"),
            Self::Rejected(reject) => write!(f, "rejected with {reject}"),
            Self::Unroutable => f.write_str("no route"),
            Self::Unknown(what) => write!(f, "unknown: {what}"),
        }
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            numerator,
            denominator,
        } = self;
        write!(f, "{numerator}/{denominator}")
    }
}

//! A packet on its way: what a trace carries along and copies where it branches.

use super::{Attached, Event, Packet, Step, Tracking, Update};
use crate::Hook;

/// A packet in flight.
#[derive(Clone, Debug)]
pub(super) struct Flight<'t> {
    pub(super) packet: Packet,
    /// Interfaces that the hook knows of.
    pub(super) iif: Option<u32>,
    pub(super) oif: Option<u32>,
    /// Where the routing decision sends the packet; a hook keeps the interface that it was called with.
    pub(super) routed: Option<u32>,
    pub(super) hook: Hook,
    pub(super) attached: Attached,
    /// What tracking will find.
    pub(super) tracking: Tracking,
    pub(super) updates: Vec<Update>,
    /// One of how many equally likely ways this is.
    pub(super) share: Share,
    pub(super) steps: Vec<Step<'t>>,
}

/// How large a part of all packets takes a way: a fraction in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// This many
    pub numerator: u64,
    /// of this many, at least 1.
    pub denominator: u64,
}

impl<'t> Flight<'t> {
    /// Adds what happened to the steps.
    pub(super) fn note(&mut self, event: Event<'t>) {
        let hook = self.hook;
        self.steps.push(Step {
            hook,
            place: None,
            event,
        });
    }

    pub(super) fn is_v4(&self) -> bool {
        self.packet.destination.is_ipv4()
    }
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// None of them.
    pub const NONE: Self = Self {
        numerator: 0,
        denominator: 1,
    };

    /// One of `parts` equal parts of this share.
    pub(super) fn divided(self, parts: u64) -> Self {
        Self::reduced(
            self.numerator.into(),
            u128::from(self.denominator) * u128::from(parts.max(1)),
        )
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        let (a, b) = (u128::from(self.denominator), u128::from(other.denominator));
        let sum = u128::from(self.numerator) * b + u128::from(other.numerator) * a;
        Self::reduced(sum, a * b)
    }

    fn reduced(numerator: u128, denominator: u128) -> Self {
        let divisor = common_divisor(numerator, denominator).max(1);
        let narrow = |number: u128| u64::try_from(number / divisor).unwrap_or(u64::MAX);
        Self {
            numerator: narrow(numerator),
            denominator: narrow(denominator),
        }
    }
}

fn common_divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

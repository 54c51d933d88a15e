//! What the carrier (`meta priority`) may hold between two lookups, as numbers that never meet.
//!
//! All begin with the bits 0111, so that no queueing discipline that somebody configured takes them
//! for its classes. Below that:
//!
//! | bits | what | rest |
//! |---|---|---|
//! | 0 | a choice with affinity | 1 inner, 17 seconds, 9 count |
//! | 10 | number of a group of endpoints | 26 |
//! | 110 | number of an endpoint, for affinity | 25 |
//! | 1110 | a choice with affinity among many | 1 inner, 7 units of 1,024 seconds, 16 count |
//! | 1111 00 | refuse, drop, gates | 22 |
//! | 1111 01 | a choice | 22 count |
//! | 1111 10 | a choice, from inside | 22 count |
//!
//! So a number can be computed from what it stands for, after a restart too.

use crate::view::Family;

const HIGH: u32 = 0x7000_0000;
const GROUP: u32 = HIGH | 0b10 << 26;
const ENDPOINT: u32 = HIGH | 0b110 << 25;
const MANY: u32 = HIGH | 0b1110 << 24;
const SPECIAL: u32 = HIGH | 0b11_1100 << 22;
const COUNT: u32 = HIGH | 0b11_1101 << 22;
const INNER_COUNT: u32 = HIGH | 0b11_1110 << 22;
/// Bits of a group's number.
const GROUP_BITS: u32 = 26;
/// Bits of an endpoint's number.
const ENDPOINT_BITS: u32 = 25;
/// Above so many endpoints the time of affinity is rounded up.
const FEW: u32 = 511;
/// The unit that it is rounded up to, in seconds.
const UNIT: u32 = 1024;
/// The largest group with affinity.
pub(super) const MOST_WITH_AFFINITY: u32 = 0xffff;

/// What becomes of a connection to a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// There is no endpoint anywhere.
    Refuse,
    /// There is none that the traffic policy allows.
    Drop,
    /// The source has to be looked at first.
    Gate {
        /// Only some sources are allowed (`loadBalancerSourceRanges`).
        ranges: bool,
        /// Pods and the node choose among other endpoints (`externalTrafficPolicy: Local`).
        inside: bool,
    },
    /// One of several endpoints.
    Pick(Pick),
}

/// A choice among some number of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pick {
    /// The choice of pods and the node, where theirs is another one.
    pub inner: bool,
    /// Number of endpoints, 1 or more.
    pub count: u32,
    /// For how many seconds a client keeps its endpoint.
    pub affinity: Option<u32>,
}

impl Code {
    /// The value that the carrier holds.
    #[must_use]
    pub fn value(self) -> u32 {
        match self {
            Self::Refuse => SPECIAL | 1,
            Self::Drop => SPECIAL | 2,
            Self::Gate { ranges, inside } => {
                SPECIAL | 4 | u32::from(ranges) | u32::from(inside) << 1
            }
            Self::Pick(pick) => pick.value(),
        }
    }
}

impl Pick {
    /// A choice whose time of affinity is one that can be told.
    #[must_use]
    pub fn new(inner: bool, count: u32, affinity: Option<u32>) -> Self {
        let affinity = affinity.map(|seconds| {
            if count > FEW {
                seconds.div_ceil(UNIT) * UNIT
            } else {
                seconds
            }
        });
        Self {
            inner,
            count,
            affinity,
        }
    }

    fn value(self) -> u32 {
        let Self {
            inner,
            count,
            affinity,
        } = self;
        match affinity {
            None if inner => INNER_COUNT | count,
            None => COUNT | count,
            Some(seconds) if count > FEW => {
                MANY | u32::from(inner) << 23 | (seconds / UNIT) << 16 | count
            }
            Some(seconds) => HIGH | u32::from(inner) << 26 | seconds << 9 | count,
        }
    }

    /// The name of the chain that makes the choice.
    #[must_use]
    pub fn chain(self, family: Family) -> String {
        let Self {
            inner,
            count,
            affinity,
        } = self;
        let family = match family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        let inner = if inner { "-inner" } else { "" };
        let affinity = affinity.map_or(String::new(), |seconds| format!("-for-{seconds}s"));
        format!("pick{family}{inner}-n{count}{affinity}")
    }
}

/// The number of a group of endpoints, of any 32 bits.
pub(super) fn group(bits: u32) -> u32 {
    GROUP | bits & ((1 << GROUP_BITS) - 1)
}

/// The number of an endpoint, of any 32 bits.
pub(super) fn endpoint(bits: u32) -> u32 {
    ENDPOINT | bits & ((1 << ENDPOINT_BITS) - 1)
}

/// Whether a value is the number of a group.
pub(super) fn is_group(value: u32) -> bool {
    value >> GROUP_BITS == GROUP >> GROUP_BITS
}

/// Whether a value is the number of an endpoint.
pub(super) fn is_endpoint(value: u32) -> bool {
    value >> ENDPOINT_BITS == ENDPOINT >> ENDPOINT_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn values_never_meet() {
        let mut codes = vec![Code::Refuse, Code::Drop];
        for (ranges, inside) in [(true, false), (false, true), (true, true)] {
            codes.push(Code::Gate { ranges, inside });
        }
        for inner in [false, true] {
            for count in [1, 2, 511, 512, 0xffff] {
                for affinity in [None, Some(1), Some(10_800), Some(86_400)] {
                    codes.push(Code::Pick(Pick::new(inner, count, affinity)));
                }
            }
            codes.push(Code::Pick(Pick::new(inner, 0x003f_ffff, None)));
        }
        let mut values: BTreeSet<u32> = codes.iter().map(|code| code.value()).collect();
        let kinds: BTreeSet<Code> = codes.iter().copied().collect();
        assert_eq!(values.len(), kinds.len());
        for bits in [0, 1, u32::MAX, 0x1234_5678] {
            assert!(is_group(group(bits)) && !is_endpoint(group(bits)));
            assert!(is_endpoint(endpoint(bits)) && !is_group(endpoint(bits)));
            values.extend([group(bits), endpoint(bits)]);
        }
        assert_eq!(values.len(), kinds.len() + 8);
        assert!(values.iter().all(|value| value >> 28 == 7), "{values:x?}");
    }

    #[test]
    fn affinity_among_many_lasts_at_least_as_long() {
        assert_eq!(Pick::new(false, 512, Some(10_800)).affinity, Some(11_264));
        assert_eq!(Pick::new(false, 511, Some(10_800)).affinity, Some(10_800));
    }
}

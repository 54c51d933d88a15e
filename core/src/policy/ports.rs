//! Sets of protocols and ports, and the algebra that rules are settled with.
//!
//! Ranges are kept sorted, apart from each other and as wide as they can be, so that equal sets are
//! equal values.

use weft_nft::l4proto;

use crate::view::Protocol;

/// Protocols and destination ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet {
    /// Ranges of ports, both ends included, of TCP, UDP and SCTP.
    ranges: [Ranges; 3],
    /// Every other protocol, ICMP above all.
    other: bool,
}

type Ranges = Vec<(u16, u16)>;

/// All ports of a protocol.
const ALL: (u16, u16) = (0, u16::MAX);
/// Protocols that have ports, in the order of [`PortSet`]'s lists.
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// A part of a set: what one element, or a few, can stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Everything.
    All,
    /// What is neither TCP, UDP nor SCTP.
    Other,
    /// All ports of a protocol.
    Protocol(Protocol),
    /// Ports of a protocol, both ends included.
    Ports(Protocol, u16, u16),
}

impl PortSet {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self {
            ranges: [vec![ALL], vec![ALL], vec![ALL]],
            other: true,
        }
    }

    /// Nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.other && self.ranges.iter().all(Vec::is_empty)
    }

    /// Protocols other than TCP, UDP and SCTP are in it.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.other
    }

    /// Whether a port is in it; none as a protocol is any other one.
    #[must_use]
    pub fn contains(&self, protocol: Option<Protocol>, port: u16) -> bool {
        let Some(protocol) = protocol else {
            return self.other;
        };
        let of = self.ranges.iter().zip(PROTOCOLS);
        let mut ranges = of
            .filter(|(_, of)| *of == protocol)
            .flat_map(|(ranges, _)| ranges);
        ranges.any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// Adds ports of a protocol, both ends included.
    pub fn add(&mut self, protocol: Protocol, first: u16, last: u16) {
        for (ranges, of) in self.ranges.iter_mut().zip(PROTOCOLS) {
            if of == protocol {
                *ranges = normal(ranges.iter().copied().chain([(first, last)]).collect());
            }
        }
    }

    /// Adds all ports of a protocol.
    pub fn add_protocol(&mut self, protocol: Protocol) {
        self.add(protocol, ALL.0, ALL.1);
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(
            other,
            |a, b| a || b,
            |a, b| normal(a.iter().chain(b).copied().collect()),
        )
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && b, intersect)
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && !b, |a, b| intersect(a, &complement(b)))
    }

    /// What is not in it.
    #[must_use]
    pub fn complement(&self) -> Self {
        Self::all().minus(self)
    }

    /// The parts, none of which meets another.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        if *self == Self::all() {
            return vec![Part::All];
        }
        let mut parts: Vec<Part> = self.other.then_some(Part::Other).into_iter().collect();
        for (ranges, protocol) in self.ranges.iter().zip(PROTOCOLS) {
            parts.extend(ranges.iter().map(|range| match *range {
                ALL => Part::Protocol(protocol),
                (first, last) => Part::Ports(protocol, first, last),
            }));
        }
        parts
    }

    fn combine(
        &self,
        other: &Self,
        flag: impl Fn(bool, bool) -> bool,
        ranges: impl Fn(&Ranges, &Ranges) -> Ranges,
    ) -> Self {
        let [a, b, c] = &self.ranges;
        let [d, e, f] = &other.ranges;
        Self {
            ranges: [ranges(a, d), ranges(b, e), ranges(c, f)],
            other: flag(self.other, other.other),
        }
    }
}

/// Sorted, and joined where they touch.
fn normal(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut joined: Ranges = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn intersect(a: &Ranges, b: &Ranges) -> Ranges {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both = Vec::new();
    while let (Some((af, al)), Some((bf, bl))) = (a.peek(), b.peek()) {
        let (first, last) = (*af.max(bf), *al.min(bl));
        if first <= last {
            both.push((first, last));
        }
        let behind = if al < bl { &mut a } else { &mut b };
        behind.next();
    }
    both
}

fn complement(ranges: &Ranges) -> Ranges {
    let mut rest = Vec::new();
    let mut next = Some(0_u16);
    for (first, last) in ranges {
        if let Some(from) = next.filter(|from| from < first) {
            rest.push((from, *first - 1));
        }
        next = last.checked_add(1);
    }
    rest.extend(next.map(|from| (from, u16::MAX)));
    rest
}

/// The protocol of a number, if it has ports.
pub(super) fn protocol(number: u8) -> Option<Protocol> {
    match number {
        l4proto::TCP => Some(Protocol::Tcp),
        l4proto::UDP => Some(Protocol::Udp),
        l4proto::SCTP => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = PortSet> {
        let range = (0..3_usize, any::<u16>(), any::<u16>());
        (prop::collection::vec(range, 0..5), any::<bool>()).prop_map(|(ranges, other)| {
            let mut set = PortSet {
                other,
                ..PortSet::default()
            };
            for (protocol, a, b) in ranges {
                set.add(PROTOCOLS[protocol], a.min(b), a.max(b));
            }
            set
        })
    }

    proptest! {
        #[test]
        fn operations_hold_for_each_port(a in sets(), b in sets(), port: u16, at in 0..4_usize) {
            let protocol = PROTOCOLS.get(at).copied();
            let (in_a, in_b) = (a.contains(protocol, port), b.contains(protocol, port));
            prop_assert_eq!(a.union(&b).contains(protocol, port), in_a || in_b);
            prop_assert_eq!(a.intersection(&b).contains(protocol, port), in_a && in_b);
            prop_assert_eq!(a.minus(&b).contains(protocol, port), in_a && !in_b);
            prop_assert_eq!(a.complement().contains(protocol, port), !in_a);
        }

        #[test]
        fn equal_sets_are_equal_values(a in sets(), b in sets()) {
            prop_assert_eq!(a.minus(&b).union(&a.intersection(&b)), a);
        }
    }
}

//! From networks that policies name to pieces of the address space that each have one class.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::bulk::Entry;
use super::object::Network;
use super::peers::{PredicateId, Signature};
use crate::view::Family;

/// Addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub first: IpAddr,
    pub last: IpAddr,
}

impl Segment {
    pub fn entry(self, class: u32) -> Entry {
        Entry::Network(self.first, self.last, class)
    }
}

/// What begins or ends at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Inside(PredicateId),
    Except(PredicateId),
    Unknown,
}

/// Cuts the address space at the ends of networks. Pieces that no network contains are left out.
pub(super) fn cut<'a>(
    networks: impl Iterator<Item = (PredicateId, &'a Network)>,
    unknown: &[IpNet],
) -> Vec<(Segment, Signature)> {
    // By family and address, as numbers: what begins and what ends just before.
    let mut events: BTreeMap<(Family, u128), Vec<(Mark, i32)>> = BTreeMap::new();
    let mut add = |net: &IpNet, mark| {
        let (family, first, last) = ends(net);
        events.entry((family, first)).or_default().push((mark, 1));
        if let Some(after) = last.checked_add(1) {
            events.entry((family, after)).or_default().push((mark, -1));
        }
    };
    for (id, Network { cidr, except }) in networks {
        add(cidr, Mark::Inside(id));
        for net in except {
            if cidr.contains(net) {
                add(net, Mark::Except(id));
            }
        }
    }
    for net in unknown {
        add(net, Mark::Unknown);
    }
    let mut depth: BTreeMap<Mark, i32> = BTreeMap::new();
    let mut inside: BTreeSet<PredicateId> = BTreeSet::new();
    let mut pieces: Vec<(Segment, Signature)> = Vec::new();
    let mut family = Family::V4;
    let mut events = events.into_iter().peekable();
    while let Some(((of, first), marks)) = events.next() {
        if of != family {
            family = of;
            depth.clear();
            inside.clear();
        }
        for (mark, step) in marks {
            let level = depth.entry(mark).or_default();
            *level += step;
            if *level == 0 {
                depth.remove(&mark);
            }
            if let Mark::Inside(id) | Mark::Except(id) = mark {
                let is_in =
                    depth.contains_key(&Mark::Inside(id)) && !depth.contains_key(&Mark::Except(id));
                if is_in {
                    inside.insert(id)
                } else {
                    inside.remove(&id)
                };
            }
        }
        let signature = Signature {
            predicates: inside.iter().copied().collect(),
            names: Box::default(),
            unknown: depth.contains_key(&Mark::Unknown),
        };
        let next = events.peek().filter(|((next, _), _)| *next == of);
        let last = next.map_or(last_of(of), |((_, next), _)| next - 1);
        push(&mut pieces, of, first, last, signature);
    }
    pieces
}

/// Adds a piece, or makes the one before longer.
fn push(
    pieces: &mut Vec<(Segment, Signature)>,
    family: Family,
    first: u128,
    last: u128,
    signature: Signature,
) {
    // An end mark one past the last IPv4 address.
    if signature == Signature::default() || first > last_of(family) {
        return;
    }
    let segment = Segment {
        first: address(family, first),
        last: address(family, last),
    };
    if let Some((before, same)) = pieces.last_mut() {
        let touches = first
            .checked_sub(1)
            .is_some_and(|end| address(family, end) == before.last);
        if touches && *same == signature {
            before.last = segment.last;
            return;
        }
    }
    pieces.push((segment, signature));
}

fn ends(net: &IpNet) -> (Family, u128, u128) {
    match net {
        IpNet::V4(net) => (
            Family::V4,
            u32::from(net.network()).into(),
            u32::from(net.broadcast()).into(),
        ),
        IpNet::V6(net) => (Family::V6, net.network().into(), net.broadcast().into()),
    }
}

fn last_of(family: Family) -> u128 {
    match family {
        Family::V4 => u32::MAX.into(),
        Family::V6 => u128::MAX,
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

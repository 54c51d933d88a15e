//! Networks as ranges of numbers: occupied ranges in, the lowest free block out, found from gap to
//! gap and never by trying every block: an IPv6 /48 has 2^74 blocks of /122.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::view::Family;

/// All addresses from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    /// The family of both.
    pub family: Family,
    /// The lowest address, as a number.
    pub first: u128,
    /// The highest address, as a number.
    pub last: u128,
}

impl From<IpNet> for Range {
    fn from(cidr: IpNet) -> Self {
        Self {
            family: Family::of_net(&cidr),
            first: number(cidr.network()),
            last: number(cidr.broadcast()),
        }
    }
}

impl Range {
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }
}

/// Ranges of one family that somebody has, merged where they touch.
#[derive(Clone, Debug, Default)]
pub(super) struct Occupied {
    /// Last address by first address; no two of them touch.
    ranges: BTreeMap<u128, u128>,
}

impl Occupied {
    pub(super) fn insert(&mut self, mut first: u128, mut last: u128) {
        while let Some((&start, &end)) = self
            .ranges
            .range(..=last.saturating_add(1))
            .next_back()
            .filter(|(_, end)| end.saturating_add(1) >= first)
        {
            self.ranges.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
    }

    /// The last occupied address that is reached from `first..=last` without a gap behind it.
    fn end_of_overlap(&self, first: u128, last: u128) -> Option<u128> {
        let (_, &end) = self.ranges.range(..=last).next_back()?;
        (end >= first).then_some(end)
    }

    /// How many addresses of `first..=last` are not occupied.
    pub(super) fn free_within(&self, first: u128, last: u128) -> u128 {
        let before = self.ranges.range(..first).next_back();
        let taken: u128 = before
            .into_iter()
            .chain(self.ranges.range(first..=last))
            .map(|(&start, &end)| {
                let (start, end) = (start.max(first), end.min(last));
                if start > end { 0 } else { end - start + 1 }
            })
            .sum();
        (last - first).saturating_add(1).saturating_sub(taken)
    }

    /// The lowest number of `first..=last` that is not occupied.
    pub(super) fn lowest_free(&self, first: u128, last: u128) -> Option<u128> {
        match self.covers(first, first) {
            // What touches is merged, so the number behind is free.
            Some(end) => end.checked_add(1).filter(|next| *next <= last),
            None => Some(first),
        }
    }

    fn covers(&self, first: u128, last: u128) -> Option<u128> {
        let (_, &end) = self.ranges.range(..=first).next_back()?;
        (end >= last).then_some(end)
    }
}

/// The lowest block of `length` within `cidr`, not below `from`, that touches nothing occupied and
/// has at least one address that is not reserved.
pub(super) fn lowest_gap(
    cidr: IpNet,
    length: u8,
    from: Option<u128>,
    occupied: &Occupied,
    reserved: &Occupied,
) -> Option<IpNet> {
    let bits = u32::from(cidr.max_prefix_len().checked_sub(length)?);
    let size = 1_u128.checked_shl(bits)?;
    let range = Range::from(cidr);
    let mut first = align(from.unwrap_or(range.first).max(range.first), size)?;
    loop {
        let last = first
            .checked_add(size - 1)
            .filter(|last| *last <= range.last)?;
        let end = match occupied.end_of_overlap(first, last) {
            Some(end) => end,
            None => match reserved.covers(first, last) {
                // The block in which the reserved part ends has addresses behind it.
                Some(end) => (end.checked_add(1)? / size * size).checked_sub(1)?,
                None => return network(range.family, first, length),
            },
        };
        first = align(end.checked_add(1)?, size)?;
    }
}

fn align(number: u128, size: u128) -> Option<u128> {
    number.checked_next_multiple_of(size)
}

/// An address as a number.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn network(family: Family, first: u128, length: u8) -> Option<IpNet> {
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(first).ok()?)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(first)),
    };
    IpNet::new(address, length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupied(cidrs: &[&str]) -> Occupied {
        let mut occupied = Occupied::default();
        for cidr in cidrs {
            let range = Range::from(cidr.parse::<IpNet>().unwrap());
            occupied.insert(range.first, range.last);
        }
        occupied
    }

    fn gap(cidr: &str, length: u8, taken: &[&str], reserved: &[&str]) -> Option<String> {
        let cidr = cidr.parse().unwrap();
        lowest_gap(cidr, length, None, &occupied(taken), &occupied(reserved))
            .map(|cidr| cidr.to_string())
    }

    #[test]
    fn the_lowest_gap_is_found() {
        type Case<'a> = (&'a str, u8, &'a [&'a str], &'a [&'a str], Option<&'a str>);
        let cases: [Case<'_>; 9] = [
            ("10.0.0.0/24", 26, &[], &[], Some("10.0.0.0/26")),
            (
                "10.0.0.0/24",
                26,
                &["10.0.0.0/26"],
                &[],
                Some("10.0.0.64/26"),
            ),
            (
                "10.0.0.0/24",
                26,
                &["10.0.0.5/32", "10.0.0.128/25"],
                &[],
                Some("10.0.0.64/26"),
            ),
            (
                "10.0.0.0/24",
                26,
                &["10.0.0.0/25", "10.0.0.128/26"],
                &[],
                Some("10.0.0.192/26"),
            ),
            ("10.0.0.0/24", 26, &["10.0.0.0/22"], &[], None),
            (
                "10.0.0.0/24",
                26,
                &[],
                &["10.0.0.0/26"],
                Some("10.0.0.64/26"),
            ),
            (
                "10.0.0.0/24",
                26,
                &[],
                &["10.0.0.0/27"],
                Some("10.0.0.0/26"),
            ),
            (
                "10.0.0.0/24",
                26,
                &[],
                &["10.0.0.0/26", "10.0.0.64/28"],
                Some("10.0.0.64/26"),
            ),
            ("10.0.0.0/26", 26, &["10.0.0.63/32"], &[], None),
        ];
        for (cidr, length, taken, reserved, expected) in cases {
            assert_eq!(
                gap(cidr, length, taken, reserved).as_deref(),
                expected,
                "{cidr} {length} {taken:?} {reserved:?}"
            );
        }
    }

    #[test]
    fn the_ends_of_the_address_spaces_are_no_trap() {
        let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0/112";
        let full = gap(top, 122, &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:0/112"], &[]);
        assert_eq!(full, None);
        assert_eq!(
            gap("255.255.255.0/24", 26, &["255.255.255.0/24"], &[]),
            None
        );
        assert_eq!(
            gap("::/0", 122, &["::/1"], &[]).as_deref(),
            Some("8000::/122")
        );
        assert_eq!(gap("::/0", 122, &[], &["::/0"]), None);
    }

    #[test]
    fn free_addresses_are_counted_around_what_is_occupied() {
        let reserved = occupied(&["10.0.0.0/28", "10.0.0.32/31", "10.0.1.0/24"]);
        let range = Range::from("10.0.0.0/26".parse::<IpNet>().unwrap());
        assert_eq!(reserved.free_within(range.first, range.last), 64 - 16 - 2);
        let inside = Range::from("10.0.1.64/26".parse::<IpNet>().unwrap());
        assert_eq!(reserved.free_within(inside.first, inside.last), 0);
    }
}

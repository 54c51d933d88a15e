//! What chains a predecessor left in the kernel, as the frame that they were compiled from.
//!
//! An agent that starts knows no Service until the API server has told it all of them. Until then
//! it leaves the chains of its predecessor as they are: it takes over the frame that they show.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use weft_nft::{Key, Part, Table, Value};

use super::{Frame, Pick};
use crate::compile::services::{NETWORKS, OWN, PODS, SERVICES, masquerades_all};
use crate::view::Family;

impl Frame {
    /// The frame that a table's chains and sets show; none if it serves no Services.
    #[must_use]
    pub fn shown_by(table: &Table) -> Option<Self> {
        let chains = &table.chains;
        if !SERVICES.iter().any(|chain| chains.contains_key(*chain)) {
            return None;
        }
        let mut frame = Self {
            pod_networks: networks(table, PODS),
            service_networks: networks(table, NETWORKS),
            own_addresses: networks(table, OWN),
            masquerade_all: false,
            picks: chains
                .keys()
                .filter_map(|name| Pick::of_chain(name))
                .collect(),
        };
        frame.masquerade_all = masquerades_all(table, &frame);
        Some(frame)
    }
}

fn networks(table: &Table, names: [&str; 2]) -> BTreeSet<IpNet> {
    let sets = names.iter().filter_map(|name| table.sets.get(*name));
    let parts = sets.flat_map(|set| set.elements.keys().flat_map(|Key(parts)| parts));
    parts.flat_map(subnets).collect()
}

/// The networks that a range of addresses is made of.
fn subnets(part: &Part) -> Vec<IpNet> {
    let (first, last) = match part {
        Part::One(value) => (value, value),
        Part::Range(first, last) => (first, last),
    };
    match (first, last) {
        (Value::Ipv4(first), Value::Ipv4(last)) => {
            let nets = Ipv4Subnets::new(*first, *last, 0);
            nets.map(IpNet::V4).collect()
        }
        (Value::Ipv6(first), Value::Ipv6(last)) => {
            let nets = Ipv6Subnets::new(*first, *last, 0);
            nets.map(IpNet::V6).collect()
        }
        _ => Vec::new(),
    }
}

impl Pick {
    /// The family and the choice of a chain's name; none if it is another one.
    #[must_use]
    pub fn of_chain(name: &str) -> Option<(Family, Self)> {
        let rest = name.strip_prefix("pick")?;
        let (family, rest) = match rest.split_at_checked(1)? {
            ("4", rest) => (Family::V4, rest),
            ("6", rest) => (Family::V6, rest),
            _ => return None,
        };
        let (inner, rest) = match rest.strip_prefix("-inner") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.strip_prefix("-n")?;
        let (count, affinity) = match rest.split_once("-for-") {
            None => (rest, None),
            Some((count, time)) => (count, Some(time.strip_suffix('s')?.parse().ok()?)),
        };
        let pick = Self {
            inner,
            count: count.parse().ok()?,
            affinity,
        };
        (pick.chain(family) == name).then_some((family, pick))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn chains_of_choices_are_recognised_by_their_names() {
        for family in Family::ALL {
            for inner in [false, true] {
                for affinity in [None, Some(10_800)] {
                    let pick = Pick::new(inner, 3, affinity);
                    assert_eq!(Pick::of_chain(&pick.chain(family)), Some((family, pick)));
                }
            }
        }
        for name in [
            "pick4",
            "pick5-n1",
            "pick4-n",
            "pick4-n1-for-s",
            "pick4-n01",
            "services4",
        ] {
            assert_eq!(Pick::of_chain(name), None, "{name}");
        }
    }

    #[test]
    fn a_range_is_the_networks_that_it_was_made_of() {
        let whole = Part::from("10.64.0.0/16".parse::<IpNet>().unwrap());
        assert_eq!(subnets(&whole), ["10.64.0.0/16".parse().unwrap()]);
        let one = Part::One(Value::Ipv6(Ipv6Addr::LOCALHOST));
        assert_eq!(subnets(&one), ["::1/128".parse().unwrap()]);
        let odd = Part::Range(
            Value::Ipv4(Ipv4Addr::new(10, 0, 0, 1)),
            Value::Ipv4(Ipv4Addr::new(10, 0, 0, 2)),
        );
        let addresses: Vec<IpAddr> = subnets(&odd).iter().map(IpNet::addr).collect();
        assert_eq!(addresses.len(), 2);
    }
}

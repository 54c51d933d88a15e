//! Turns "node 3 in segment 2 of a dual-stack lab" into addresses, always the same ones.
//!
//! All of a lab's networks lie in namespaces of its own, so every lab uses the same plan. Segment
//! `s` is one L2 network, `10.50.<s>.0/24` and `fd50:0:0:<s>::/64`, with the router at `.1`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The address families of nodes, pods and Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Families {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both; IPv4 is the first.
    #[default]
    Dual,
}

impl Families {
    /// Whether IPv4 is there.
    pub fn has_ipv4(self) -> bool {
        self != Self::Ipv6
    }

    /// Whether IPv6 is there.
    pub fn has_ipv6(self) -> bool {
        self != Self::Ipv4
    }

    /// Of a pair of texts, those of the families that are there, IPv4 first.
    pub fn select<'a>(self, ipv4: &'a str, ipv6: &'a str) -> Vec<&'a str> {
        let mut chosen = Vec::new();
        if self.has_ipv4() {
            chosen.push(ipv4);
        }
        if self.has_ipv6() {
            chosen.push(ipv6);
        }
        chosen
    }
}

/// The addresses of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The IPv4 address, if the lab has IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address, if the lab has IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    /// All addresses, IPv4 first.
    pub fn all(&self) -> Vec<IpAddr> {
        let ipv4 = self.ipv4.map(IpAddr::V4);
        ipv4.into_iter().chain(self.ipv6.map(IpAddr::V6)).collect()
    }

    /// The first address: IPv4 if there is one.
    ///
    /// A plan always gives at least one; the loopback address stands in for none.
    pub fn first(&self) -> IpAddr {
        let all = self.all();
        all.first()
            .copied()
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// Services' ranges.
pub const SERVICES_IPV4: &str = "10.96.0.0/16";
/// Services' IPv6 range; the API server takes at most 20 host bits.
pub const SERVICES_IPV6: &str = "fd96::/112";
/// The cluster DNS Service.
pub const DNS_IPV4: &str = "10.96.0.10";
/// The cluster DNS Service's IPv6 address.
pub const DNS_IPV6: &str = "fd96::a";
/// Pods' range, as in `lab/cluster/ippool.yaml`.
pub const PODS_IPV4: &str = "10.64.0.0/16";
/// Pods' IPv6 range, as in `lab/cluster/ippool.yaml`.
pub const PODS_IPV6: &str = "fd00:64::/64";
/// The most nodes a lab can have: their numbers fill the last byte of an IPv4 address.
pub const MAX_NODES: u8 = 240;
/// The most segments.
pub const MAX_SEGMENTS: u8 = 8;

/// Which addresses a lab uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPlan {
    /// The families in use.
    pub families: Families,
}

impl AddressPlan {
    /// The router of a segment (0 is the first).
    pub fn router(&self, segment: u8) -> Addresses {
        self.host(segment, 1)
    }

    /// The control plane, in the first segment.
    pub fn control_plane(&self) -> Addresses {
        self.host(0, 2)
    }

    /// Node `number` (1 to [`MAX_NODES`]) in a segment.
    pub fn node(&self, segment: u8, number: u8) -> Addresses {
        self.host(segment, 10 + number)
    }

    /// The outside world's own address (RFC 5737 and RFC 3849 documentation ranges).
    pub fn outside(&self) -> Addresses {
        self.documentation(10)
    }

    /// The router towards the outside world.
    pub fn outside_router(&self) -> Addresses {
        self.documentation(1)
    }

    /// Pod ranges of node `number` for plugins that take a fixed range per node.
    pub fn pod_ranges(&self, number: u8) -> Vec<String> {
        let ipv4 = format!("10.64.{number}.0/24");
        let ipv6 = format!("fd00:64:0:0:{number:x}::/80");
        let chosen = self.families.select(&ipv4, &ipv6);
        chosen.into_iter().map(str::to_owned).collect()
    }

    fn host(&self, segment: u8, host: u8) -> Addresses {
        let ipv6 = Ipv6Addr::new(0xfd50, 0, 0, segment.into(), 0, 0, 0, host.into());
        self.only(Ipv4Addr::new(10, 50, segment, host), ipv6)
    }

    fn documentation(&self, host: u8) -> Addresses {
        let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, host.into());
        self.only(Ipv4Addr::new(203, 0, 113, host), ipv6)
    }

    fn only(&self, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> Addresses {
        Addresses {
            ipv4: self.families.has_ipv4().then_some(ipv4),
            ipv6: self.families.has_ipv6().then_some(ipv6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn plan(families: Families) -> AddressPlan {
        AddressPlan { families }
    }

    #[test]
    fn a_family_that_was_not_asked_for_has_no_address() {
        let addresses = plan(Families::Ipv4).node(0, 1);
        assert_eq!(
            addresses.all(),
            vec!["10.50.0.11".parse::<IpAddr>().unwrap()]
        );
        let addresses = plan(Families::Ipv6).node(1, 2);
        assert_eq!(
            addresses.all(),
            vec!["fd50:0:0:1::c".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn dual_stack_puts_ipv4_first() {
        let first = plan(Families::Dual).control_plane().first();
        assert_eq!(first, "10.50.0.2".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn no_two_hosts_share_an_address() {
        let plan = plan(Families::Dual);
        let mut seen = BTreeSet::new();
        for segment in 0..MAX_SEGMENTS {
            assert!(
                plan.router(segment)
                    .all()
                    .into_iter()
                    .all(|a| seen.insert(a))
            );
            for number in 1..=MAX_NODES {
                assert!(
                    plan.node(segment, number)
                        .all()
                        .into_iter()
                        .all(|a| seen.insert(a))
                );
            }
        }
        assert!(
            plan.control_plane()
                .all()
                .into_iter()
                .all(|a| seen.insert(a))
        );
        assert!(plan.outside().all().into_iter().all(|a| seen.insert(a)));
    }

    #[test]
    fn pod_ranges_of_a_node_lie_in_the_pods_range() {
        let whole: Vec<ipnet::IpNet> = vec![PODS_IPV4.parse().unwrap(), PODS_IPV6.parse().unwrap()];
        for (range, pods) in plan(Families::Dual).pod_ranges(240).iter().zip(whole) {
            let range: ipnet::IpNet = range.parse().unwrap();
            assert!(pods.contains(&range), "{range} is not in {pods}");
        }
    }
}

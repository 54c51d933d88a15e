//! The node around the table: its interfaces, its routes, and what packets put into dynamic sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Update;
use crate::{Operation, Value};

/// Elements of a dynamic set: data by key, no data in a plain set.
pub type Contents = BTreeMap<Vec<Value>, Vec<Value>>;

/// What a trace must know of the node beside its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Interfaces by index.
    pub links: BTreeMap<u32, Link>,
    /// The node's own addresses (the routing table `local`, which is asked first).
    pub local: BTreeSet<IpNet>,
    /// All other routes; the longest prefix wins.
    pub routes: BTreeMap<IpNet, Route>,
    /// What packets have put into dynamic sets so far, by the set's name.
    pub dynamic: BTreeMap<String, Contents>,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its group (`ip link set group`).
    pub group: u32,
    /// Its addresses, that which others are told first.
    pub addresses: Vec<IpAddr>,
}

/// Where packets to a network go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Out by the interface with this index.
    Link(u32),
    /// Nowhere: `unreachable`, `blackhole`, `prohibit`.
    Unreachable,
}

/// The answer of the routing tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the node itself.
    Local,
    /// Out by the interface with this index.
    Out(u32),
    /// Nowhere.
    Nowhere,
}

impl Host {
    /// Index of `lo` in every network namespace.
    pub const LOOPBACK: u32 = 1;

    /// A node with `lo` and nothing else.
    #[must_use]
    pub fn new() -> Self {
        let host = Self {
            links: BTreeMap::new(),
            local: BTreeSet::new(),
            routes: BTreeMap::new(),
            dynamic: BTreeMap::new(),
        };
        let loopback = [
            ([127, 0, 0, 0].into(), 8),
            ([0, 0, 0, 0, 0, 0, 0, 1].into(), 128),
        ];
        let mut host = host.with_link(Self::LOOPBACK, "lo", 0, []);
        for (address, length) in loopback {
            host.local.extend(IpNet::new(address, length));
        }
        host
    }

    /// The same node with an interface more, which has these addresses in their networks.
    #[must_use]
    pub fn with_link(
        mut self,
        index: u32,
        name: &str,
        group: u32,
        addresses: impl IntoIterator<Item = IpNet>,
    ) -> Self {
        let mut link = Link {
            name: name.to_owned(),
            group,
            addresses: Vec::new(),
        };
        for net in addresses {
            link.addresses.push(net.addr());
            self.local.insert(net.addr().into());
            if net.prefix_len() < net.max_prefix_len() {
                self.routes.insert(net.trunc(), Route::Link(index));
            }
        }
        self.links.insert(index, link);
        self
    }

    /// The same node with a route more.
    #[must_use]
    pub fn with_route(mut self, to: IpNet, route: Route) -> Self {
        self.routes.insert(to.trunc(), route);
        self
    }

    /// Whether an address is the node's own (`fib daddr type local`).
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        longest(address, |net| self.local.contains(&net).then_some(())).is_some()
    }

    /// Where packets to an address go.
    #[must_use]
    pub fn way(&self, to: IpAddr) -> Way {
        if self.is_local(to) {
            return Way::Local;
        }
        match longest(to, |net| self.routes.get(&net)) {
            Some(Route::Link(index)) => Way::Out(*index),
            Some(Route::Unreachable) | None => Way::Nowhere,
        }
    }

    /// The source address that `masquerade` takes for packets out by an interface: the first one
    /// there, or else of any other interface.
    #[must_use]
    pub fn source(&self, link: u32, like: IpAddr) -> Option<IpAddr> {
        let of = |link: &Link| {
            let fits =
                |address: &&IpAddr| address.is_ipv4() == like.is_ipv4() && !address.is_loopback();
            link.addresses.iter().find(fits).copied()
        };
        let there = self.links.get(&link).and_then(of);
        there.or_else(|| self.links.values().find_map(of))
    }

    /// Remembers what a packet put into dynamic sets, for the packets after it.
    pub fn learn(&mut self, updates: &[Update]) {
        for update in updates {
            let Update {
                operation,
                set,
                key,
                data,
                timeout: _,
            } = update;
            let contents = self.dynamic.entry(set.clone()).or_default();
            match operation {
                Operation::Add | Operation::Update => {
                    contents.insert(key.clone(), data.clone());
                }
                Operation::Delete => {
                    contents.remove(key);
                }
            }
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// What the longest network around an address has.
fn longest<T>(address: IpAddr, find: impl Fn(IpNet) -> Option<T>) -> Option<T> {
    let most = IpNet::from(address).max_prefix_len();
    let networks = (0..=most).rev().filter_map(|length| {
        let net = IpNet::new(address, length).ok()?;
        Some(net.trunc())
    });
    networks.into_iter().find_map(find)
}

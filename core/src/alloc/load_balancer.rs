//! Load balancer addresses: pools, Services and the addresses that they hold in, the addresses that
//! each is to hold out. A pure function of what the API has; there is no other record.
//!
//! A Service keeps what it holds, whatever becomes of the pool. Of two that hold one address without
//! being allowed to share it the older keeps it, then the first by name: so two operators that work
//! from old caches end in the same state. Requests come before free choice; sharers of a key join
//! the address that the others hold; otherwise the lowest free address of the first pool that has
//! one, by priority (higher first), then by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::range::{Occupied, Range, number};
use crate::view::{Family, Protocol};

/// Namespace and name of a Service.
pub type ServiceKey = (String, String);

/// Everything that the choice depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerView {
    /// Pools for load balancers by name, those that were not accepted too: what they gave stays.
    pub pools: BTreeMap<String, BalancerPool>,
    /// Services that are to have addresses.
    pub services: BTreeMap<ServiceKey, BalancerService>,
}

/// A pool for load balancers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerPool {
    /// New addresses come from it.
    pub accepted: bool,
    /// Higher is served first.
    pub priority: i32,
    /// Its addresses, in the order of the spec.
    pub ranges: Vec<BalancerRange>,
}

/// Addresses of a pool, from the first to the last, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerRange {
    /// The lowest.
    pub first: IpAddr,
    /// The highest, of the same family.
    pub last: IpAddr,
    /// Networks inside from which nothing is chosen freely. A Service may ask for such an address.
    pub reserved: Vec<IpNet>,
}

/// A Service that is to have addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerService {
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// Families that it serves.
    pub families: BTreeSet<Family>,
    /// One family alone will do (`ipFamilyPolicy: PreferDualStack`).
    pub one_will_do: bool,
    /// Addresses that its status has.
    pub held: BTreeSet<IpAddr>,
    /// Addresses that its owner asks for; empty: any.
    pub requested: BTreeSet<IpAddr>,
    /// With whom it shares an address.
    pub sharing: Option<Sharing>,
    /// What it listens on.
    pub ports: BTreeSet<(Protocol, u16)>,
}

/// Services of one namespace with the same of this may share an address, on different ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sharing {
    /// The key.
    pub key: String,
    /// `externalTrafficPolicy: Local`.
    pub local: bool,
}

/// What one Service is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerGrant {
    /// Addresses with the pool of each; none: it was given by a pool that is gone.
    pub addresses: BTreeMap<IpAddr, Option<String>>,
    /// Why it is not all that it should have.
    pub problem: Option<BalancerProblem>,
}

/// Why a Service does not have the addresses that it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalancerProblem {
    /// No accepted pool for load balancers has addresses of the family.
    NoPool(Family),
    /// Every accepted pool of the family is full.
    Exhausted(Family),
    /// An address is asked for that is in no accepted pool.
    NotInPool(IpAddr),
    /// An address is asked for that another Service has.
    Taken(IpAddr, ServiceKey),
    /// An address is asked for whose family the Service does not serve.
    WrongFamily(IpAddr),
    /// Two addresses of one family are asked for.
    SeveralOf(Family),
}

/// What each Service is to hold.
#[must_use]
pub fn plan_balancers(view: &BalancerView) -> BTreeMap<ServiceKey, BalancerGrant> {
    let mut order: Vec<(&ServiceKey, &BalancerService)> = view.services.iter().collect();
    order.sort_by_key(|(key, service)| (service.created, *key));
    let mut book = Book::new(view);
    for (key, service) in &order {
        book.keep(key, service);
    }
    for (key, service) in &order {
        book.serve(key, service);
    }
    book.grants
}

/// Who holds what, while it is worked out.
struct Book<'v> {
    view: &'v BalancerView,
    /// Accepted pools, in the order in which they are asked.
    order: Vec<(&'v String, &'v BalancerPool)>,
    holders: BTreeMap<IpAddr, BTreeSet<&'v ServiceKey>>,
    /// Held and reserved addresses, IPv4 and IPv6.
    occupied: [Occupied; 2],
    grants: BTreeMap<ServiceKey, BalancerGrant>,
}

impl<'v> Book<'v> {
    fn new(view: &'v BalancerView) -> Self {
        let mut order: Vec<_> = view
            .pools
            .iter()
            .filter(|(_, pool)| pool.accepted)
            .collect();
        order.sort_by_key(|(name, pool)| (std::cmp::Reverse(pool.priority), *name));
        let mut occupied = <[Occupied; 2]>::default();
        let ranges = view.pools.values().flat_map(|pool| &pool.ranges);
        for reserved in ranges.flat_map(|range| &range.reserved) {
            let range = Range::from(*reserved);
            occupied[place(range.family)].insert(range.first, range.last);
        }
        Self {
            view,
            order,
            holders: BTreeMap::new(),
            occupied,
            grants: BTreeMap::new(),
        }
    }

    /// A Service keeps one address of each family that it serves, unless an older one holds it.
    fn keep(&mut self, key: &'v ServiceKey, service: &'v BalancerService) {
        let mut kept = BTreeSet::new();
        for &address in &service.held {
            let family = Family::of(address);
            if service.families.contains(&family)
                && !kept.contains(&family)
                && self.obstacle(key, service, address).is_none()
            {
                kept.insert(family);
                self.hold(key, address);
            }
        }
    }

    /// What is missing, or what is asked for in place of what it holds.
    fn serve(&mut self, key: &'v ServiceKey, service: &'v BalancerService) {
        let problem = if service.requested.is_empty() {
            self.choose(key, service)
        } else {
            self.grant_requests(key, service)
        };
        self.grants.entry(key.clone()).or_default().problem = problem;
    }

    fn grant_requests(
        &mut self,
        key: &'v ServiceKey,
        service: &'v BalancerService,
    ) -> Option<BalancerProblem> {
        let mut families = BTreeSet::new();
        for &address in &service.requested {
            let family = Family::of(address);
            if !service.families.contains(&family) {
                return Some(BalancerProblem::WrongFamily(address));
            }
            if !families.insert(family) {
                return Some(BalancerProblem::SeveralOf(family));
            }
            if self.is_held(key, address) {
                continue;
            }
            if !self.order.iter().any(|(_, pool)| pool.has(address)) {
                return Some(BalancerProblem::NotInPool(address));
            }
            if let Some(other) = self.obstacle(key, service, address) {
                return Some(BalancerProblem::Taken(address, other.clone()));
            }
        }
        // All can be had: what it holds beside them is given up.
        let held: Vec<IpAddr> = self.held(key).collect();
        for address in held {
            if !service.requested.contains(&address) {
                self.give_up(key, address);
            }
        }
        for &address in &service.requested {
            self.hold(key, address);
        }
        None
    }

    fn choose(
        &mut self,
        key: &'v ServiceKey,
        service: &'v BalancerService,
    ) -> Option<BalancerProblem> {
        let mut problem = None;
        for &family in &service.families {
            if self.held(key).any(|address| Family::of(address) == family) {
                continue;
            }
            match self.pick(key, service, family) {
                Ok(address) => self.hold(key, address),
                Err(because) => problem = problem.or(Some(because)),
            }
        }
        problem.filter(|because| {
            let none = self.held(key).next().is_none();
            none || !service.one_will_do || matches!(because, BalancerProblem::Exhausted(_))
        })
    }

    /// The address that sharers hold, or the lowest that is free.
    fn pick(
        &self,
        key: &ServiceKey,
        service: &BalancerService,
        family: Family,
    ) -> Result<IpAddr, BalancerProblem> {
        let shared = self.holders.iter().find(|(address, holders)| {
            service.sharing.is_some()
                && Family::of(**address) == family
                && !holders.is_empty()
                && self.obstacle(key, service, **address).is_none()
        });
        if let Some((address, _)) = shared {
            return Ok(*address);
        }
        let mut none = BalancerProblem::NoPool(family);
        for (_, pool) in &self.order {
            for range in pool.ranges.iter().filter(|range| range.family() == family) {
                none = BalancerProblem::Exhausted(family);
                if let Some(address) = self.occupied[place(family)]
                    .lowest_free(number(range.first), number(range.last))
                    .and_then(|number| address(family, number))
                {
                    return Ok(address);
                }
            }
        }
        Err(none)
    }

    /// A Service that holds the address and with which this one cannot share it.
    fn obstacle(
        &self,
        key: &ServiceKey,
        service: &BalancerService,
        address: IpAddr,
    ) -> Option<&'v ServiceKey> {
        let holders = self.holders.get(&address)?;
        holders.iter().copied().find(|holder| {
            let other = &self.view.services[*holder];
            *holder != key
                && !(holder.0 == key.0
                    && service.sharing.is_some()
                    && service.sharing == other.sharing
                    && service.ports.is_disjoint(&other.ports))
        })
    }

    fn is_held(&self, key: &ServiceKey, address: IpAddr) -> bool {
        self.held(key).any(|held| held == address)
    }

    fn held(&self, key: &ServiceKey) -> impl Iterator<Item = IpAddr> + '_ {
        let grant = self.grants.get(key);
        grant
            .into_iter()
            .flat_map(|grant| grant.addresses.keys().copied())
    }

    fn hold(&mut self, key: &'v ServiceKey, address: IpAddr) {
        self.holders.entry(address).or_default().insert(key);
        let number = number(address);
        self.occupied[place(Family::of(address))].insert(number, number);
        let pool = self.pool_of(address);
        let grant = self.grants.entry(key.clone()).or_default();
        grant.addresses.insert(address, pool);
    }

    /// The number stays occupied until the next round: an address does not change hands within one.
    fn give_up(&mut self, key: &'v ServiceKey, address: IpAddr) {
        if let Some(holders) = self.holders.get_mut(&address) {
            holders.remove(key);
        }
        if let Some(grant) = self.grants.get_mut(key) {
            grant.addresses.remove(&address);
        }
    }

    fn pool_of(&self, address: IpAddr) -> Option<String> {
        let accepted = self.order.iter().map(|(name, pool)| (*name, *pool));
        let mut pools = accepted.chain(&self.view.pools);
        pools
            .find(|(_, pool)| pool.has(address))
            .map(|(name, _)| name.clone())
    }
}

impl BalancerPool {
    /// Whether an address is one of its own.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.has(address))
    }
}

impl BalancerRange {
    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// Whether an address lies within it.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.family() == Family::of(address)
            && (number(self.first)..=number(self.last)).contains(&number(address))
    }

    /// How many addresses can be chosen freely, and how many are reserved.
    #[must_use]
    pub fn sizes(&self) -> (u128, u128) {
        let (first, last) = (number(self.first), number(self.last));
        let mut reserved = Occupied::default();
        for range in self.reserved.iter().copied().map(Range::from) {
            reserved.insert(range.first, range.last);
        }
        let free = reserved.free_within(first, last);
        let all = (last - first).saturating_add(1);
        (free, all.saturating_sub(free))
    }
}

fn place(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

fn address(family: Family, number: u128) -> Option<IpAddr> {
    Some(match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).ok()?).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    })
}

#[cfg(test)]
mod tests;

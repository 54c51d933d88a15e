//! Numbers for the groups of a compiled Service and for their endpoints: those that they had, those that
//! the kernel has, or new ones.

use std::net::IpAddr;

use super::{Compiled, Frontend, Group, Kind};
use crate::services::numbers::Numbers;
use crate::view::Family;

impl Compiled {
    /// Gives numbers to groups: those that they had, or new ones; and gives back what is not needed.
    pub fn number(&mut self, service: &str, old: &Compiled, numbers: &mut Numbers) {
        for unit in &mut self.units {
            let before = old.unit(unit);
            let affinity = unit.affinity.is_some();
            for (local, group) in [(false, &mut unit.cluster), (true, &mut unit.local)] {
                let Some(group) = group else { continue };
                let before = before.and_then(|unit| unit.group(local));
                let outer = if local {
                    unit.external_local
                } else {
                    !unit.external_local
                };
                let identity = Identity {
                    service,
                    port: &unit.name,
                    protocol: unit.protocol,
                    family: unit.family,
                    local,
                    internal: unit.internal_local == local,
                    outer,
                };
                group.number(before, affinity, &identity, &unit.frontends, numbers);
            }
        }
        self.release_all_but(old, numbers);
    }

    /// Gives back the numbers of `old` that are not in use any more.
    fn release_all_but(&self, old: &Compiled, numbers: &mut Numbers) {
        for unit in &old.units {
            let after = self.unit(unit);
            for local in [false, true] {
                let Some(before) = unit.group(local).filter(|group| group.number != 0) else {
                    continue;
                };
                let after = after.and_then(|unit| unit.group(local));
                if after.is_none_or(|group| group.number != before.number) {
                    numbers.release(before.number);
                }
                for number in &before.numbers {
                    if after.is_none_or(|group| !group.numbers.contains(number)) {
                        numbers.release(*number);
                    }
                }
            }
        }
    }
}

/// What a group's number is derived from.
struct Identity<'a> {
    service: &'a str,
    port: &'a str,
    protocol: u8,
    family: Family,
    local: bool,
    /// Cluster IPs lead to it.
    internal: bool,
    /// Other frontends lead to it from outside.
    outer: bool,
}

impl Group {
    fn number(
        &mut self,
        before: Option<&Group>,
        affinity: bool,
        identity: &Identity<'_>,
        frontends: &[Frontend],
        numbers: &mut Numbers,
    ) {
        if self.endpoints.is_empty() {
            return;
        }
        self.number = match before.filter(|group| group.number != 0) {
            Some(group) => group.number,
            None => {
                let adopted = identity.adopted(frontends, numbers);
                numbers.group(&identity.text(), adopted)
            }
        };
        if affinity {
            self.number_endpoints(before, identity.family, numbers);
        }
    }

    fn number_endpoints(&mut self, before: Option<&Group>, family: Family, numbers: &mut Numbers) {
        let group = self.number;
        let mut adopted = numbers.adopted.endpoints_of(family, group);
        let number = |endpoint: &(IpAddr, u16)| {
            let had = before.and_then(|group| group.number_of(endpoint));
            had.unwrap_or_else(|| {
                let adopted = adopted.remove(endpoint);
                numbers.endpoint(group, endpoint.0, endpoint.1, adopted)
            })
        };
        self.numbers = self.endpoints.iter().map(number).collect();
    }

    fn number_of(&self, endpoint: &(IpAddr, u16)) -> Option<u32> {
        let slot = self.endpoints.binary_search(endpoint).ok()?;
        self.numbers.get(slot).copied()
    }
}

impl Identity<'_> {
    fn text(&self) -> String {
        let Self {
            service,
            port,
            protocol,
            family,
            local,
            internal: _,
            outer: _,
        } = self;
        format!("{service}:{port} {protocol} {family} {local}")
    }

    /// The number that the kernel has for the group behind one of these frontends.
    fn adopted(&self, frontends: &[Frontend], numbers: &Numbers) -> Option<u32> {
        let adopted = &numbers.adopted.groups;
        frontends.iter().find_map(|frontend| {
            let tuple = frontend.tuple(self.protocol);
            let leads = match frontend.kind {
                Kind::Cluster => self.internal,
                _ => self.outer,
            };
            match (leads, self.local) {
                (true, _) => adopted.get(&(tuple, false)).copied(),
                (false, false) => adopted.get(&(tuple, true)).copied(),
                (false, true) => None,
            }
        })
    }
}

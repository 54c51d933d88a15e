//! Numbers for groups of endpoints, and for endpoints of services with affinity.
//!
//! A number is the first free one behind the hash of what it stands for, so that a restarted agent
//! comes to the same ones; where two hashes meet, it takes over what the kernel has. A number that
//! was given back is free when the change that removed its last element is committed: no packet
//! is led by a number to what it did not stand for when the packet looked.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use sha2::{Digest, Sha256};
use weft_nft::{Data, Element, Key, Part, Value};

use super::bulk::Bulk;
use super::code;
use crate::view::Family;

/// An address and port that connections are made to, and the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tuple {
    pub address: IpAddr,
    pub protocol: u8,
    pub port: u16,
}

/// All numbers in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    used: HashSet<u32>,
    /// Given back in the changes that are not committed yet.
    resting: Vec<u32>,
    /// How often an endpoint with a number went: a number that comes later is another one, so that
    /// clients of an endpoint that comes back choose anew.
    generation: u32,
    pub adopted: Adopted,
}

/// What the kernel had when the agent started.
#[derive(Clone, Debug, Default)]
pub(super) struct Adopted {
    /// Groups by frontend, and by whether they are for sources inside.
    pub groups: HashMap<(Tuple, bool), u32>,
    /// Endpoints' numbers by family, group and slot.
    pub slots: HashMap<(Family, u32, u32), u32>,
    /// What endpoints' numbers stand for.
    pub endpoints: HashMap<(Family, u32), (IpAddr, u16)>,
}

impl Adopted {
    /// Takes an element that the kernel has.
    pub fn take(&mut self, bulk: Bulk, family: Family, key: &Key, element: &Element) {
        let (Some(Data::Values(values)), key_parts) = (&element.data, key.0.as_slice()) else {
            return;
        };
        match (bulk, key_parts, values.as_slice()) {
            (Bulk::Number | Bulk::InnerNumber, _, [Value::ClassId(number)]) => {
                if let Some(tuple) = Tuple::of(key).filter(|_| code::is_group(*number)) {
                    self.groups
                        .insert((tuple, bulk == Bulk::InnerNumber), *number);
                }
            }
            (
                Bulk::Slots,
                [
                    Part::One(Value::ClassId(group)),
                    Part::One(Value::Mark(slot)),
                ],
                [Value::ClassId(number)],
            ) if code::is_endpoint(*number) => {
                self.slots.insert((family, *group, *slot), *number);
            }
            (
                Bulk::Addresses,
                [Part::One(Value::ClassId(number))],
                [address, Value::InetService(port)],
            ) => {
                let address = match address {
                    Value::Ipv4(address) => IpAddr::V4(*address),
                    Value::Ipv6(address) => IpAddr::V6(*address),
                    _ => return,
                };
                self.endpoints.insert((family, *number), (address, *port));
            }
            _ => {}
        }
    }

    /// The numbers of a group's endpoints.
    pub fn endpoints_of(&self, family: Family, group: u32) -> HashMap<(IpAddr, u16), u32> {
        if self.slots.is_empty() {
            return HashMap::new();
        }
        let numbers = (0..).map_while(|slot| self.slots.get(&(family, group, slot)));
        numbers
            .filter_map(|number| Some((*self.endpoints.get(&(family, *number))?, *number)))
            .collect()
    }
}

impl Numbers {
    /// A number for a group.
    pub fn group(&mut self, identity: &str, adopted: Option<u32>) -> u32 {
        if let Some(number) = adopted.filter(|number| self.used.insert(*number)) {
            return number;
        }
        let start = hash(identity.as_bytes());
        self.first_free(start, code::group)
    }

    /// A number for an endpoint of a group.
    pub fn endpoint(
        &mut self,
        group: u32,
        address: IpAddr,
        port: u16,
        adopted: Option<u32>,
    ) -> u32 {
        if let Some(number) = adopted.filter(|number| self.used.insert(*number)) {
            return number;
        }
        let identity = format!("{group} {address} {port} {}", self.generation);
        let start = hash(identity.as_bytes());
        self.first_free(start, code::endpoint)
    }

    fn first_free(&mut self, start: u32, number: impl Fn(u32) -> u32) -> u32 {
        (0..=u32::MAX)
            .map(|step| number(start.wrapping_add(step)))
            .find(|number| self.used.insert(*number))
            .unwrap_or_default()
    }

    /// Gives a number back.
    pub fn release(&mut self, number: u32) {
        self.resting.push(number);
        if code::is_endpoint(number) {
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// What was given back may be given again.
    pub fn settle(&mut self) {
        for number in self.resting.drain(..) {
            self.used.remove(&number);
        }
    }
}

fn hash(bytes: &[u8]) -> u32 {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(4)
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

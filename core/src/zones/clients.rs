//! From a client's address to its class: the number of the table that it is answered from.
//!
//! Class 0 is everybody of whom nothing special is said. Only others are kept: a pod by its address, a network by where
//! it begins. Snapshots share what did not change between them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// The number of a table.
pub type Class = u32;

/// A change copies one shard.
const SHARDS: usize = 256;

/// Clients by address. A clone costs next to nothing.
#[derive(Clone, Debug)]
pub struct Clients {
    shards: Arc<Vec<Arc<HashMap<IpAddr, Class>>>>,
    networks: Arc<Networks>,
    known: usize,
}

/// Where runs of addresses of one class begin, in order, by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    four: Vec<(u128, Class)>,
    six: Vec<(u128, Class)>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            shards: Arc::new(vec![Arc::default(); SHARDS]),
            networks: Arc::default(),
            known: 0,
        }
    }
}

impl Clients {
    /// The class of a client.
    #[must_use]
    pub fn class(&self, client: IpAddr) -> Class {
        let client = client.to_canonical();
        if self.known > 0
            && let Some(class) = self.shards[shard(client)].get(&client)
        {
            return *class;
        }
        self.networks.class(client)
    }

    /// Whether everybody is alike.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known == 0 && self.networks.is_empty()
    }

    /// The class of a client that is known only by its address.
    #[must_use]
    pub(crate) fn class_of_network(&self, client: IpAddr) -> Class {
        self.networks.class(client.to_canonical())
    }

    /// Puts other networks in force and forgets all addresses.
    pub(crate) fn reset(&mut self, networks: Networks) {
        *self = Self {
            networks: Arc::new(networks),
            ..Self::default()
        };
    }

    /// Says of which class an address is. None: of its network's.
    pub(crate) fn set(&mut self, client: IpAddr, class: Option<Class>) {
        let client = client.to_canonical();
        let at = shard(client);
        if self.shards[at].get(&client).copied() == class {
            return;
        }
        let shards = Arc::make_mut(&mut self.shards);
        let shard = Arc::make_mut(&mut shards[at]);
        let before = shard.len();
        match class {
            Some(class) => shard.insert(client, class),
            None => shard.remove(&client),
        };
        self.known = self.known + shard.len() - before;
    }
}

impl Networks {
    /// Cuts all addresses where a network begins or ends, and asks of each run of which class it is, by its first address.
    pub(crate) fn new(networks: &[IpNet], mut class: impl FnMut(IpAddr) -> Class) -> Self {
        let mut all = Self::default();
        for (six, runs) in [(false, &mut all.four), (true, &mut all.six)] {
            let own = networks
                .iter()
                .filter(|network| network.addr().is_ipv6() == six);
            let mut starts: Vec<u128> = own.clone().map(|network| number(network.addr())).collect();
            let after = |network: &IpNet| number(network.broadcast()).checked_add(1);
            starts.extend(
                own.filter_map(after)
                    .filter(|start| six || *start <= u128::from(u32::MAX)),
            );
            starts.push(0);
            starts.sort_unstable();
            starts.dedup();
            for start in starts {
                let class = class(address(start, six));
                if runs.last().map_or(0, |(_, before)| *before) != class {
                    runs.push((start, class));
                }
            }
        }
        all
    }

    fn is_empty(&self) -> bool {
        self.four.is_empty() && self.six.is_empty()
    }

    fn class(&self, client: IpAddr) -> Class {
        let runs = if client.is_ipv6() {
            &self.six
        } else {
            &self.four
        };
        let number = number(client);
        let after = runs.partition_point(|(start, _)| *start <= number);
        after.checked_sub(1).map_or(0, |index| runs[index].1)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address(number: u128, six: bool) -> IpAddr {
    if six {
        return IpAddr::V6(number.into());
    }
    IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into())
}

/// Pods' addresses differ in their last bytes.
fn shard(address: IpAddr) -> usize {
    let number = number(address);
    let folded = (number ^ (number >> 8) ^ (number >> 16)) & 0xff;
    usize::try_from(folded).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        let network = |text: &&str| text.parse().expect("a network");
        texts.iter().map(network).collect()
    }

    #[test]
    fn every_address_is_of_the_class_that_its_networks_make() {
        let listed = networks(&[
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "255.255.255.255/32",
            "::/0",
            "2001:db8::/32",
        ]);
        let class = |address: IpAddr| {
            let within = listed.iter().filter(|network| network.contains(&address));
            Class::try_from(within.count()).expect("few")
        };
        let made = Networks::new(&listed, class);
        for text in [
            "0.0.0.0",
            "9.255.255.255",
            "10.0.0.0",
            "10.1.0.0",
            "10.1.255.255",
            "10.2.0.0",
            "255.255.255.254",
            "255.255.255.255",
            "::",
            "2001:db7:ffff::",
            "2001:db8::1",
            "2001:db9::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(made.class(address), class(address), "{text}");
        }
        assert_eq!(Networks::default().class([10, 0, 0, 1].into()), 0);
    }

    #[test]
    fn an_address_stands_before_its_network_and_in_either_form() {
        let mut clients = Clients::default();
        assert!(clients.is_empty());
        clients.reset(Networks::new(&networks(&["10.0.0.0/8"]), |address| {
            u32::from(address == IpAddr::from([10, 0, 0, 0]))
        }));
        let before = clients.clone();
        clients.set([10, 0, 0, 1].into(), Some(2));
        let class =
            |clients: &Clients, text: &str| clients.class(text.parse().expect("an address"));
        assert_eq!(class(&clients, "10.0.0.1"), 2);
        assert_eq!(class(&clients, "::ffff:10.0.0.1"), 2);
        assert_eq!(class(&clients, "10.0.0.2"), 1);
        assert_eq!(class(&before, "10.0.0.1"), 1, "a snapshot stays as it is");
        clients.set([10, 0, 0, 1].into(), None);
        assert_eq!(class(&clients, "10.0.0.1"), 1);
        assert_eq!(class(&clients, "192.0.2.1"), 0);
    }
}

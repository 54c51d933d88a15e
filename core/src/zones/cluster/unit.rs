//! One service and its slices, compiled to what its names answer with.
//!
//! Endpoints are in the order of their addresses, so that a name made from an address is found by it; those
//! with names of their own are listed once more in the order of the names.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::zones::config::Config;
use crate::zones::input::{Face, Port, ServiceInput, SliceInput};
use crate::zones::name::Name;

/// All names of one service.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    /// The labels of the service and its namespace, in wire form.
    pub key: Arc<[u8]>,
    /// What the service's own name leads to.
    pub face: Face,
    /// Ports of the service.
    pub ports: Box<[Port]>,
    /// Its ready endpoints.
    pub endpoints: Endpoints,
    /// Its addresses outside the cluster.
    pub external: Box<[IpAddr]>,
    /// Its load balancer's name, where that has no address.
    pub external_name: Option<Name>,
}

/// Ready endpoints of a service.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// In the order of addresses: IPv4 first.
    pub list: Box<[Endpoint]>,
    /// Ports of any of them.
    pub ports: Box<[Port]>,
    /// Sets of indexes into `ports`.
    sets: Box<[Box<[u16]>]>,
    /// Labels in wire form, each set of labels ending in a zero.
    labels: Box<[u8]>,
    /// Endpoints that have a name, in the order of names.
    named: Box<[u32]>,
    /// How many of `list` are IPv4.
    four: usize,
    /// Whether any name has more than one label: those of imported endpoints.
    deep: bool,
}

/// One ready endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Where its name begins in `labels`; [`UNNAMED`] where it is called after its address.
    label: u32,
    /// Which of `sets` it serves.
    set: u16,
}

const UNNAMED: u32 = u32::MAX;

impl Unit {
    /// Compiles a service; none where nothing of it has a name.
    #[must_use]
    pub fn compile(
        key: Arc<[u8]>,
        service: &ServiceInput,
        slices: &[&SliceInput],
        config: &Config,
    ) -> Option<Self> {
        let endpoints = Endpoints::merge(slices);
        let exists = match service.face {
            Face::Headless => !endpoints.list.is_empty() || !service.external.is_empty(),
            Face::Addresses(_) => !config.ignore_empty_services || !endpoints.list.is_empty(),
            Face::Alias(_) => true,
        };
        exists.then(|| Self {
            key,
            face: service.face.clone(),
            ports: service.ports.clone(),
            endpoints,
            external: service.external.clone(),
            external_name: service.external_name.clone(),
        })
    }

    /// All addresses that have a reverse name because of this service, in order, each once.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let own = match &self.face {
            Face::Addresses(addresses) => addresses.as_ref(),
            Face::Headless | Face::Alias(_) => &[],
        };
        let endpoints = self.endpoints.list.iter().map(|endpoint| endpoint.address);
        let mut all: Vec<_> = own.iter().copied().chain(endpoints).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// An endpoint before its name and its ports have found their places.
type Raw<'a> = BTreeMap<(IpAddr, Vec<u8>), Vec<&'a Port>>;

impl Endpoints {
    /// Puts slices together. An endpoint that several of them list counts once, with the ports of all.
    fn merge(slices: &[&SliceInput]) -> Self {
        let mut raw: Raw<'_> = BTreeMap::new();
        for slice in slices {
            let mut labels = slice.labels.as_ref();
            for &address in &slice.addresses {
                let name = next_label(&mut labels);
                let name = full_name(name, address, slice.cluster.as_deref());
                let ports = raw.entry((address, name)).or_default();
                ports.extend(slice.ports.iter());
            }
        }
        Self::arrange(raw)
    }

    fn arrange(raw: Raw<'_>) -> Self {
        let mut ports: Vec<Port> = raw.values().flatten().map(|&port| port.clone()).collect();
        ports.sort();
        ports.dedup();
        let (mut list, mut labels, mut sets) = (
            Vec::with_capacity(raw.len()),
            Vec::new(),
            Vec::<Box<[u16]>>::new(),
        );
        for ((address, name), mut own) in raw {
            own.sort();
            own.dedup();
            let indexes = own
                .into_iter()
                .filter_map(|port| ports.binary_search(port).ok());
            let indexes: Box<[u16]> = indexes
                .filter_map(|index| u16::try_from(index).ok())
                .collect();
            let set = sets
                .iter()
                .position(|set| *set == indexes)
                .unwrap_or_else(|| {
                    sets.push(indexes);
                    sets.len() - 1
                });
            let label = match name.is_empty() {
                true => UNNAMED,
                false => u32::try_from(labels.len()).unwrap_or(UNNAMED),
            };
            if label != UNNAMED {
                labels.extend_from_slice(&name);
                labels.push(0);
            }
            let set = u16::try_from(set).unwrap_or_default();
            list.push(Endpoint {
                address,
                label,
                set,
            });
        }
        let four = list.partition_point(|endpoint: &Endpoint| endpoint.address.is_ipv4());
        let mut all = Self {
            list: list.into(),
            ports: ports.into(),
            sets: sets.into(),
            labels: labels.into(),
            named: Box::default(),
            four,
            deep: false,
        };
        let mut named: Vec<u32> = (0_u32..).take(all.list.len()).collect();
        named.retain(|&index| all.at(index).label != UNNAMED);
        named.sort_by_key(|&index| (all.stored(all.at(index)), index));
        all.deep = named.iter().any(|&index| {
            all.stored(all.at(index)).len() > usize::from(all.stored(all.at(index))[0]) + 1
        });
        all.named = named.into();
        all
    }

    fn at(&self, index: u32) -> &Endpoint {
        &self.list[index as usize]
    }

    /// The name of an endpoint that has one of its own.
    fn stored(&self, endpoint: &Endpoint) -> &[u8] {
        let labels = &self.labels[endpoint.label as usize..];
        let mut end = 0;
        while labels[end] != 0 {
            end += usize::from(labels[end]) + 1;
        }
        &labels[..end]
    }

    /// The labels of an endpoint in wire form; `buffer` is room for those made from its address.
    #[must_use]
    pub fn label<'a>(&'a self, endpoint: &Endpoint, buffer: &'a mut [u8; 64]) -> &'a [u8] {
        match endpoint.label {
            UNNAMED => dashed(endpoint.address, buffer),
            _ => self.stored(endpoint),
        }
    }

    /// The ports of an endpoint.
    pub fn ports_of(&self, endpoint: &Endpoint) -> impl Iterator<Item = &Port> {
        self.sets[usize::from(endpoint.set)]
            .iter()
            .map(|&index| &self.ports[usize::from(index)])
    }

    /// Where the endpoints of a family stand in the list.
    #[must_use]
    pub fn family(&self, four: bool) -> Range<usize> {
        match four {
            true => 0..self.four,
            false => self.four..self.list.len(),
        }
    }

    /// The endpoints that have a name: one label or more in wire form, lower case.
    pub fn find(&self, name: &[u8]) -> impl Iterator<Item = &Endpoint> {
        let from = self
            .named
            .partition_point(|&index| self.stored(self.at(index)) < name);
        let named = self.named[from..].iter().map(|&index| self.at(index));
        let named = named.take_while(move |endpoint| self.stored(endpoint) == name);
        named.chain(self.by_address(name))
    }

    /// Whether names of endpoints stand below these labels.
    #[must_use]
    pub fn has_below(&self, name: &[u8]) -> bool {
        let mut named = self.named.iter().map(|&index| self.stored(self.at(index)));
        self.deep
            && named.any(|stored| {
                stored.len() == usize::from(stored[0]) + 1 + name.len() && stored.ends_with(name)
            })
    }

    /// The endpoints called after an address; there is one at most.
    fn by_address(&self, name: &[u8]) -> Option<&Endpoint> {
        let (&length, label) = name.split_first()?;
        let address = undashed(label).filter(|_| usize::from(length) == label.len())?;
        let mut buffer = [0; 64];
        let exact = dashed(address, &mut buffer) == name;
        let mut holders = self.holders(address);
        holders.find(|endpoint| exact && endpoint.label == UNNAMED)
    }

    /// The endpoints at an address, one for each of its names.
    pub fn holders(&self, address: IpAddr) -> impl Iterator<Item = &Endpoint> {
        let from = self
            .list
            .partition_point(|endpoint| endpoint.address < address);
        self.list[from..]
            .iter()
            .take_while(move |endpoint| endpoint.address == address)
    }

    /// Whether this is the first endpoint of its name, and its first port, of this number among those chosen:
    /// a name and a number are one SRV record, whoever shares them.
    pub fn is_first(
        &self,
        endpoint: &Endpoint,
        port: &Port,
        chosen: impl Fn(&Port) -> bool,
    ) -> bool {
        let same = |other: &&Port| other.number == port.number && chosen(other);
        let own = self.ports_of(endpoint).find(same);
        if !own.is_some_and(|own| std::ptr::eq(own, port)) {
            return false;
        }
        if endpoint.label == UNNAMED {
            return true;
        }
        let mut sharing = self.find(self.stored(endpoint));
        let first = sharing.find(|other| self.ports_of(other).any(|other| same(&other)));
        first.is_some_and(|first| first.address == endpoint.address)
    }
}

/// Takes the next label off, its length included; empty where the endpoint has none.
fn next_label<'a>(labels: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::from(labels.first().copied().unwrap_or_default());
    let (label, rest) = labels.split_at((length + 1).min(labels.len()));
    *labels = rest;
    &label[..if length == 0 { 0 } else { label.len() }]
}

/// A name as it is kept: with the cluster of imported endpoints, empty where it follows from the address.
fn full_name(label: &[u8], address: IpAddr, cluster: Option<&[u8]>) -> Vec<u8> {
    let mut buffer = [0; 64];
    let dashed = dashed(address, &mut buffer);
    match cluster {
        None if label == dashed => Vec::new(),
        None => label.to_vec(),
        Some(cluster) if label.is_empty() => [dashed, cluster].concat(),
        Some(cluster) => [label, cluster].concat(),
    }
}

/// The label of an address: dots and colons become dashes, and no label ends in one.
#[must_use]
pub fn dashed(address: IpAddr, buffer: &mut [u8; 64]) -> &[u8] {
    let mut rest = &mut buffer[1..];
    let room = rest.len();
    // 63 bytes take any address.
    let _ = match address {
        IpAddr::V4(address) => write!(rest, "{address}"),
        IpAddr::V6(address) => write!(rest, "{address}"),
    };
    let mut length = room - rest.len();
    for byte in &mut buffer[1..=length] {
        if matches!(byte, b'.' | b':') {
            *byte = b'-';
        }
    }
    if buffer[length] == b'-' {
        length += 1;
        buffer[length] = b'0';
    }
    buffer[0] = u8::try_from(length).unwrap_or_default();
    &buffer[..=length]
}

/// The address that a label is made from.
#[must_use]
pub fn undashed(label: &[u8]) -> Option<IpAddr> {
    let mut text = [0; 64];
    let text = text.get_mut(..label.len())?;
    text.copy_from_slice(label);
    let dashes = label.iter().filter(|&&byte| byte == b'-').count();
    let double = label.windows(2).any(|pair| pair == b"--");
    let separator = if dashes == 3 && !double { b'.' } else { b':' };
    for byte in text.iter_mut().filter(|byte| **byte == b'-') {
        *byte = separator;
    }
    let text = std::str::from_utf8(text).ok()?;
    let address: IpAddr = text.parse().ok()?;
    (address.is_ipv4() == (separator == b'.')).then_some(address)
}

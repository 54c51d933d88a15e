//! What a name in a built-in zone is: found by its labels, at a cost that does not grow with the cluster.

use std::net::IpAddr;
use std::sync::Arc;

use super::unit::{Endpoint, Unit, undashed};
use super::{Data, number};
use crate::zones::config::{Config, PodMode, ZoneKind};
use crate::zones::input::{Face, Port, Protocol};

/// What stands at a name.
pub(crate) enum Node<'a> {
    /// Nothing, and nothing below.
    Missing,
    /// Nothing, but names below.
    Empty,
    /// The zone itself.
    Apex,
    /// The name of the zone's server.
    Server,
    /// The version of the schema.
    Version,
    /// A service.
    Service(&'a Arc<Unit>),
    /// A named port of a service.
    Port(&'a Arc<Unit>, PortName<'a>),
    /// An endpoint of a service; the labels are those before the service's.
    Endpoint(&'a Arc<Unit>, &'a [u8]),
    /// An address that a pod is called after.
    Pod(IpAddr),
    /// An address with a reverse name.
    Address(IpAddr),
}

/// A port by its name.
#[derive(Clone, Copy)]
pub(crate) struct PortName<'a> {
    pub name: &'a [u8],
    pub protocol: Protocol,
}

impl PortName<'_> {
    pub fn is(&self, port: &Port) -> bool {
        port.protocol == self.protocol && port.name.as_bytes() == self.name
    }
}

/// Where the labels of a name begin; a name has 127 at most.
struct Labels<'a> {
    bytes: &'a [u8],
    starts: [u8; 128],
    count: usize,
}

impl<'a> Labels<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut labels = Self {
            bytes,
            starts: [0; 128],
            count: 0,
        };
        let mut at = 0;
        while at < bytes.len() && labels.count < 128 {
            labels.starts[labels.count] = u8::try_from(at).unwrap_or_default();
            labels.count += 1;
            at += usize::from(bytes[at]) + 1;
        }
        labels
    }

    fn start(&self, index: usize) -> usize {
        match index < self.count {
            true => usize::from(self.starts[index]),
            false => self.bytes.len(),
        }
    }

    /// The label with this many behind it, without its length.
    fn back(&self, behind: usize) -> &'a [u8] {
        let index = self.count - 1 - behind;
        &self.bytes[self.start(index) + 1..self.start(index + 1)]
    }

    /// The bytes from the label with `from` behind it up to the one with `to` behind it, both included.
    fn span(&self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[self.start(self.count - 1 - from)..self.start(self.count - to)]
    }
}

impl Data {
    /// Finds what stands at the labels before a zone's own, which are in lower case.
    pub(crate) fn find<'a>(
        &'a self,
        config: &Config,
        kind: ZoneKind,
        zone: &[u8],
        relative: &'a [u8],
    ) -> Node<'a> {
        let labels = Labels::new(relative);
        if labels.count == 0 {
            return Node::Apex;
        }
        match kind {
            ZoneKind::Cluster | ZoneKind::ClusterSet => self.find_internal(config, kind, &labels),
            ZoneKind::External => self.find_external(config, &labels),
            ZoneKind::Reverse => self.find_reverse(zone, relative),
        }
    }

    fn find_internal<'a>(
        &'a self,
        config: &Config,
        kind: ZoneKind,
        labels: &Labels<'a>,
    ) -> Node<'a> {
        match labels.back(0) {
            b"svc" => match labels.count {
                1 => Node::Empty,
                2 => self.namespace(labels.span(1, 1)),
                _ => {
                    let units = if kind == ZoneKind::ClusterSet {
                        &self.imports
                    } else {
                        &self.services
                    };
                    let unit = units.get(labels.span(2, 1));
                    unit.map_or(Node::Missing, |unit| below(unit, labels, 3))
                }
            },
            b"pod" => self.find_pod(config, labels),
            b"dns" => server(labels, b"ns"),
            b"dns-version" if labels.count == 1 => Node::Version,
            _ => Node::Missing,
        }
    }

    fn namespace(&self, label: &[u8]) -> Node<'_> {
        match self.namespaces.contains(label) {
            true => Node::Empty,
            false => Node::Missing,
        }
    }

    fn find_pod<'a>(&'a self, config: &Config, labels: &Labels<'a>) -> Node<'a> {
        if labels.count == 1 {
            return Node::Empty;
        }
        let namespace = labels.span(1, 1);
        if config.pods == PodMode::Disabled || !self.namespaces.contains(namespace) {
            return Node::Missing;
        }
        if labels.count == 2 {
            return Node::Empty;
        }
        let address = undashed(labels.back(2)).filter(|_| labels.count == 3);
        match address {
            Some(address) if config.pods == PodMode::Insecure => Node::Pod(address),
            Some(address) if self.holds_pod(address, namespace) => Node::Pod(address),
            _ => Node::Missing,
        }
    }

    fn holds_pod(&self, address: IpAddr, namespace: &[u8]) -> bool {
        let number = number(address);
        self.pods
            .range(number, number)
            .any(|(_, owner)| **owner == *namespace)
    }

    fn find_external<'a>(&'a self, config: &Config, labels: &Labels<'a>) -> Node<'a> {
        if labels.back(0) == b"dns" {
            return server(labels, b"ns1");
        }
        if labels.count == 1 {
            return self.namespace(labels.span(0, 0));
        }
        let unit = self.services.get(labels.span(1, 0));
        let Some(unit) = unit.filter(|unit| is_external(unit, config)) else {
            return Node::Missing;
        };
        match below(unit, labels, 2) {
            Node::Endpoint(..) if has_outside(unit) => Node::Missing,
            node => node,
        }
    }

    fn find_reverse<'a>(&'a self, zone: &[u8], relative: &'a [u8]) -> Node<'a> {
        let Some((first, last)) = prefix(zone, relative) else {
            return Node::Missing;
        };
        let ours = |entries: &super::Ordered| entries.range(first, last).next().is_some();
        match first == last {
            _ if !ours(&self.reverse) && !ours(&self.external) => Node::Missing,
            true => Node::Address(address(first)),
            false => Node::Empty,
        }
    }

    /// The services that hold an address inside the cluster.
    pub(crate) fn owners(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Unit>> {
        let number = number(address);
        self.reverse
            .range(number, number)
            .filter_map(|(_, key)| self.services.get(key))
    }

    /// The services that hold an address outside the cluster.
    pub(crate) fn external_owners(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Unit>> {
        let number = number(address);
        self.external
            .range(number, number)
            .filter_map(|(_, key)| self.services.get(key))
    }

    /// A service by its key.
    pub(crate) fn service(&self, key: &[u8]) -> Option<&Arc<Unit>> {
        self.services.get(key)
    }
}

/// Whether a service has anything outside the cluster.
pub(crate) fn has_outside(unit: &Unit) -> bool {
    !unit.external.is_empty() || unit.external_name.is_some()
}

fn is_external(unit: &Unit, config: &Config) -> bool {
    let headless =
        unit.face == Face::Headless && config.external_headless && !unit.endpoints.list.is_empty();
    has_outside(unit) || headless
}

/// `ns.dns` and the names on the way to it.
fn server<'a>(labels: &Labels<'a>, name: &[u8]) -> Node<'a> {
    match labels.count {
        1 => Node::Empty,
        2 if labels.back(1) == name => Node::Server,
        _ => Node::Missing,
    }
}

/// What stands below a service, whose labels and those behind it are `own`.
fn below<'a>(unit: &'a Arc<Unit>, labels: &Labels<'a>, own: usize) -> Node<'a> {
    let left = labels.count - own;
    if left == 0 {
        return Node::Service(unit);
    }
    if matches!(unit.face, Face::Alias(_)) {
        return Node::Missing;
    }
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = protocols
        .into_iter()
        .find(|protocol| labels.back(own) == protocol.label());
    if let Some(protocol) = protocol {
        return match left {
            1 if ports(unit).any(|port| port.protocol == protocol && !port.name.is_empty()) => {
                Node::Empty
            }
            2 => named_port(unit, labels.back(own + 1), protocol),
            _ => Node::Missing,
        };
    }
    let name = labels.span(labels.count - 1, own);
    if unit.endpoints.find(name).next().is_some() {
        return Node::Endpoint(unit, name);
    }
    match unit.endpoints.has_below(name) {
        true => Node::Empty,
        false => Node::Missing,
    }
}

/// The ports that have names: those of the endpoints where there is no address of the service's own.
pub(crate) fn ports(unit: &Unit) -> impl Iterator<Item = &Port> {
    match unit.face {
        Face::Headless if unit.external.is_empty() => unit.endpoints.ports.iter(),
        _ => unit.ports.iter(),
    }
}

fn named_port<'a>(unit: &'a Arc<Unit>, label: &'a [u8], protocol: Protocol) -> Node<'a> {
    let Some(name) = label.strip_prefix(b"_").filter(|name| !name.is_empty()) else {
        return Node::Missing;
    };
    let name = PortName { name, protocol };
    match ports(unit).any(|port| name.is(port)) {
        true => Node::Port(unit, name),
        false => Node::Missing,
    }
}

/// Selects endpoints by a port's name, or all of them.
pub(crate) fn serves(unit: &Unit, endpoint: &Endpoint, port: Option<PortName<'_>>) -> bool {
    port.is_none_or(|name| unit.endpoints.ports_of(endpoint).any(|port| name.is(port)))
}

fn address(number: u128) -> IpAddr {
    IpAddr::from(number.to_be_bytes()).to_canonical()
}

/// The addresses below a reverse name, first and last; none where no address has such a name.
fn prefix(zone: &[u8], relative: &[u8]) -> Option<(u128, u128)> {
    let four = zone.ends_with(b"\x07in-addr\x04arpa\0");
    let tail = if four { 14 } else { 10 };
    let own = zone.get(..zone.len().checked_sub(tail)?)?;
    let mut number: u128 = 0;
    let (mut bits, step) = (0_u32, if four { 8 } else { 4 });
    let labels = crate::zones::name::labels(relative).chain(crate::zones::name::labels(own));
    for label in labels {
        let value = if four { octet(label) } else { nibble(label) }?;
        if bits >= if four { 32 } else { 128 } {
            return None;
        }
        number |= u128::from(value) << bits;
        bits += step;
    }
    let (all, base) = if four {
        (32, 0xffff_0000_0000_u128)
    } else {
        (128, 0)
    };
    let rest = all - bits;
    let first = base | number.checked_shl(rest).unwrap_or_default();
    let last = first | 1_u128.checked_shl(rest).unwrap_or_default().wrapping_sub(1);
    Some((first, last))
}

fn octet(label: &[u8]) -> Option<u8> {
    let plain = label == b"0" || label.first().is_some_and(|first| *first != b'0');
    let text = std::str::from_utf8(label).ok().filter(|_| plain)?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn nibble(label: &[u8]) -> Option<u8> {
    match *label {
        [digit] => char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok()),
        _ => None,
    }
}

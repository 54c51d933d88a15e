//! The records at a name of a built-in zone, written one by one without an allocation.

use std::net::IpAddr;
use std::ops::Range;

use super::Data;
use super::lookup::{Node, PortName, has_outside, serves};
use super::unit::{Endpoint, Unit};
use crate::zones::answer::{Question, Section, Sections};
use crate::zones::builtin::{BuiltIn, Context};
use crate::zones::config::ZoneKind;
use crate::zones::input::{Face, Port};
use crate::zones::name::NameBuf;
use crate::zones::record::RecordType;

/// Version of the specification that the names follow (Kubernetes DNS-Based Service Discovery).
const SCHEMA: &[u8] = b"\x051.1.0";
/// Time to live of the version, which changes with the software alone, in seconds.
const SCHEMA_TTL: u32 = 28_800;

/// What came of looking for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// They are written.
    Written,
    /// The name exists and has none of the type.
    Nothing,
    /// The name does not exist.
    Missing,
    /// The name is an alias, which is written; its target is the next to look for.
    Alias,
}

/// Writes records at one name.
struct Writer<'a, S: Sections + ?Sized> {
    context: &'a Context<'a>,
    zone: &'a BuiltIn,
    question: &'a Question<'a>,
    out: &'a mut S,
    found: Found,
}

impl Data {
    /// Writes what is asked for of what stands at a name.
    pub(crate) fn write<S: Sections + ?Sized>(
        &self,
        context: &Context<'_>,
        zone: &BuiltIn,
        node: &Node<'_>,
        question: &Question<'_>,
        out: &mut S,
        next: &mut NameBuf,
    ) -> Found {
        let mut writer = Writer {
            context,
            zone,
            question,
            out,
            found: Found::Nothing,
        };
        match *node {
            Node::Missing => return Found::Missing,
            Node::Empty => {}
            Node::Apex => writer.apex(),
            Node::Server => writer.server(),
            Node::Version => writer.version(),
            Node::Service(unit) => return writer.service(unit, next),
            Node::Port(unit, name) => return writer.named_port(unit, name, next),
            Node::Endpoint(unit, name) => writer.endpoint(unit, name),
            Node::Pod(address) => writer.addresses(&[address]),
            Node::Address(address) => writer.reverse(self, address),
        }
        writer.found
    }
}

impl<S: Sections + ?Sized> Writer<'_, S> {
    fn answer(&mut self, kind: RecordType, ttl: u32, data: &[u8]) -> bool {
        self.found = Found::Written;
        self.out
            .put(Section::Answer, self.question.name, kind, ttl, data)
    }

    fn ttl(&self) -> u32 {
        self.context.config.ttl
    }

    fn apex(&mut self) {
        match self.question.kind {
            RecordType::SOA => {
                let mut buffer = [0; 530];
                let data = self.zone.soa(self.context, &mut buffer);
                self.answer(RecordType::SOA, self.context.soa_ttl(), data);
            }
            RecordType::NS => {
                self.answer(RecordType::NS, self.ttl(), self.zone.server.wire());
                for &address in &self.context.config.addresses {
                    self.additional(self.zone.server.wire(), address);
                }
            }
            _ => {}
        }
    }

    fn server(&mut self) {
        self.addresses(&self.context.config.addresses);
    }

    fn version(&mut self) {
        if self.question.kind == RecordType::TXT {
            self.answer(RecordType::TXT, SCHEMA_TTL, SCHEMA);
        }
    }

    fn service(&mut self, unit: &Unit, next: &mut NameBuf) -> Found {
        match face(unit, self.zone.kind) {
            Front::Alias(target)
                if self.question.kind != RecordType::SRV
                    || self.zone.kind != ZoneKind::External =>
            {
                self.answer(RecordType::CNAME, self.ttl(), target);
                if self.question.kind != RecordType::CNAME {
                    next.set(target);
                    return Found::Alias;
                }
            }
            Front::Alias(target) => self.service_ports(unit, &[], Some(target), None),
            Front::Addresses(addresses) if self.question.kind == RecordType::SRV => {
                self.service_ports(unit, addresses, None, None);
            }
            Front::Addresses(addresses) => self.addresses(addresses),
            Front::Endpoints if self.question.kind == RecordType::SRV => {
                self.endpoint_ports(unit, None)
            }
            Front::Endpoints => self.endpoint_addresses(unit, None),
        }
        self.found
    }

    fn named_port(&mut self, unit: &Unit, name: PortName<'_>, next: &mut NameBuf) -> Found {
        let srv = self.question.kind == RecordType::SRV;
        match face(unit, self.zone.kind) {
            Front::Alias(target) if srv => self.service_ports(unit, &[], Some(target), Some(name)),
            Front::Alias(_) => return self.service(unit, next),
            Front::Addresses(addresses) if srv => {
                self.service_ports(unit, addresses, None, Some(name))
            }
            Front::Addresses(addresses) => self.addresses(addresses),
            Front::Endpoints if srv => self.endpoint_ports(unit, Some(name)),
            Front::Endpoints => self.endpoint_addresses(unit, Some(name)),
        }
        self.found
    }

    /// Addresses of the family asked for.
    fn addresses(&mut self, addresses: &[IpAddr]) {
        let Some(four) = family(self.question.kind) else {
            return;
        };
        for index in turned(0..addresses.len(), self.question.rotation) {
            if addresses[index].is_ipv4() == four && !self.address(addresses[index]) {
                return;
            }
        }
    }

    fn address(&mut self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.answer(RecordType::A, self.ttl(), &address.octets()),
            IpAddr::V6(address) => self.answer(RecordType::AAAA, self.ttl(), &address.octets()),
        }
    }

    fn additional(&mut self, owner: &[u8], address: IpAddr) -> bool {
        let ttl = self.ttl();
        match address {
            IpAddr::V4(address) => self.out.put(
                Section::Additional,
                owner,
                RecordType::A,
                ttl,
                &address.octets(),
            ),
            IpAddr::V6(address) => self.out.put(
                Section::Additional,
                owner,
                RecordType::AAAA,
                ttl,
                &address.octets(),
            ),
        }
    }

    /// Addresses of endpoints that serve a port, each once.
    fn endpoint_addresses(&mut self, unit: &Unit, port: Option<PortName<'_>>) {
        let Some(four) = family(self.question.kind) else {
            return;
        };
        let list = &unit.endpoints.list;
        for index in turned(unit.endpoints.family(four), self.question.rotation) {
            let twice = index > 0 && list[index - 1].address == list[index].address;
            if !twice && serves(unit, &list[index], port) && !self.address(list[index].address) {
                return;
            }
        }
    }

    /// SRV records of a service: its name under each port.
    fn service_ports(
        &mut self,
        unit: &Unit,
        addresses: &[IpAddr],
        alias: Option<&[u8]>,
        name: Option<PortName<'_>>,
    ) {
        let chosen = || {
            unit.ports
                .iter()
                .filter(|port| name.is_none_or(|name| name.is(port)))
        };
        let weight = weight(chosen().count() * addresses.len().max(1));
        let mut target = NameBuf::default();
        match alias {
            Some(alias) => target.set(alias),
            None => self.target(&mut target, &[], unit),
        }
        let mut written = false;
        for (at, port) in chosen().enumerate() {
            let twice = chosen().take(at).any(|before| before.number == port.number);
            if !twice && !self.location(weight, port, &target) {
                return;
            }
            written = true;
        }
        for &address in addresses.iter().filter(|_| written) {
            self.additional(target.wire(), address);
        }
    }

    /// SRV records of endpoints: the name of each under each of its ports.
    fn endpoint_ports(&mut self, unit: &Unit, name: Option<PortName<'_>>) {
        let range = 0..unit.endpoints.list.len();
        self.locate(unit, range, |index| Some(&unit.endpoints.list[index]), name);
    }

    /// The records of one endpoint name, which several addresses may share.
    fn endpoint(&mut self, unit: &Unit, name: &[u8]) {
        let endpoints = || unit.endpoints.find(name);
        let count = endpoints().count();
        if self.question.kind == RecordType::SRV {
            self.locate(unit, 0..count, |index| endpoints().nth(index), None);
            return;
        }
        let Some(four) = family(self.question.kind) else {
            return;
        };
        for index in turned(0..count, self.question.rotation) {
            let endpoint = endpoints()
                .nth(index)
                .filter(|endpoint| endpoint.address.is_ipv4() == four);
            if endpoint.is_some_and(|endpoint| !self.address(endpoint.address)) {
                return;
            }
        }
    }

    fn locate<'u>(
        &mut self,
        unit: &'u Unit,
        range: Range<usize>,
        at: impl Fn(usize) -> Option<&'u Endpoint>,
        name: Option<PortName<'_>>,
    ) {
        let chosen = |endpoint: &Endpoint| {
            let ports = unit.endpoints.ports_of(endpoint);
            ports
                .filter(|port| name.is_none_or(|name| name.is(port)))
                .count()
        };
        let weight = weight(range.clone().filter_map(&at).map(chosen).sum());
        let (mut target, mut buffer) = (NameBuf::default(), [0; 64]);
        for endpoint in turned(range.clone(), self.question.rotation).filter_map(&at) {
            target.truncate(0);
            self.target(
                &mut target,
                unit.endpoints.label(endpoint, &mut buffer),
                unit,
            );
            let ports = unit.endpoints.ports_of(endpoint);
            let wanted = |port: &Port| name.is_none_or(|name| name.is(port));
            for port in ports.filter(|port| wanted(port)) {
                let first = unit.endpoints.is_first(endpoint, port, wanted);
                if first && !self.location(weight, port, &target) {
                    return;
                }
            }
        }
        for endpoint in turned(range, self.question.rotation).filter_map(&at) {
            if chosen(endpoint) > 0 {
                target.truncate(0);
                self.target(
                    &mut target,
                    unit.endpoints.label(endpoint, &mut buffer),
                    unit,
                );
                if !self.additional(target.wire(), endpoint.address) {
                    return;
                }
            }
        }
    }

    fn location(&mut self, weight: u16, port: &Port, target: &NameBuf) -> bool {
        let mut data = [0; 6 + crate::zones::name::MAX_NAME];
        data[2..4].copy_from_slice(&weight.to_be_bytes());
        data[4..6].copy_from_slice(&port.number.to_be_bytes());
        let end = 6 + target.wire().len();
        data[6..end].copy_from_slice(target.wire());
        self.answer(RecordType::SRV, self.ttl(), &data[..end])
    }

    /// The full name of a service or of something below it. Names that are too long do not arise: the question held as much.
    fn target(&self, target: &mut NameBuf, labels: &[u8], unit: &Unit) {
        let parts = [labels, &unit.key, &self.zone.base];
        if parts
            .into_iter()
            .try_for_each(|part| target.append(part))
            .is_err()
        {
            target.truncate(0);
        }
    }

    fn reverse(&mut self, data: &Data, address: IpAddr) {
        if self.question.kind != RecordType::PTR {
            return;
        }
        let context = self.context;
        let own = |unit: &&std::sync::Arc<Unit>| matches!(&unit.face, Face::Addresses(own) if own.contains(&address));
        if let Some(unit) = data.owners(address).find(own) {
            self.pointer(&[], unit, context.base);
            return;
        }
        for unit in data.owners(address) {
            let mut buffer = [0; 64];
            for endpoint in unit.endpoints.holders(address) {
                let label = unit.endpoints.label(endpoint, &mut buffer).len();
                let label = &unit.endpoints.label(endpoint, &mut buffer)[..label];
                self.pointer(label, unit, context.base);
            }
        }
        let Some(base) = context
            .external_base
            .filter(|_| self.found == Found::Nothing)
        else {
            return;
        };
        for unit in data.external_owners(address) {
            self.pointer(&[], unit, base);
        }
    }

    fn pointer(&mut self, label: &[u8], unit: &Unit, base: &[u8]) {
        let mut target = NameBuf::default();
        let parts = [label, &unit.key, base];
        if parts
            .into_iter()
            .try_for_each(|part| target.append(part))
            .is_ok()
        {
            self.answer(RecordType::PTR, self.ttl(), target.wire());
        }
    }
}

/// What the name of a service leads to, inside or outside the cluster.
enum Front<'a> {
    Addresses(&'a [IpAddr]),
    Endpoints,
    Alias(&'a [u8]),
}

fn face(unit: &Unit, kind: ZoneKind) -> Front<'_> {
    if kind == ZoneKind::External && has_outside(unit) {
        return match &unit.external_name {
            Some(name) if unit.external.is_empty() => Front::Alias(name.wire()),
            _ => Front::Addresses(&unit.external),
        };
    }
    match &unit.face {
        Face::Addresses(addresses) => Front::Addresses(addresses),
        Face::Headless => Front::Endpoints,
        Face::Alias(name) => Front::Alias(name.wire()),
    }
}

fn family(kind: RecordType) -> Option<bool> {
    match kind {
        RecordType::A => Some(true),
        RecordType::AAAA => Some(false),
        _ => None,
    }
}

/// Weights of 100 shared out, rounded down, at least 1.
fn weight(count: usize) -> u16 {
    u16::try_from((100 / count.max(1)).max(1)).unwrap_or(1)
}

/// A range that begins somewhere else each time.
fn turned(range: Range<usize>, rotation: u32) -> impl Iterator<Item = usize> {
    let middle = range.start
        + (rotation as usize)
            .checked_rem(range.len())
            .unwrap_or_default();
    (middle..range.end).chain(range.start..middle)
}

//! What one Service compiles to: for each port and family its frontends and the endpoints behind them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::choice::{self, Candidate};
use super::code::{Code, Pick};
use super::numbers::Tuple;
use super::object::{ServiceObject, ServicePort};
use super::slices::{Places, Slice, protocol_number};
use crate::view::{Family, Protocol};

mod numbering;

/// What an address of a Service is to it, in the order of who has it if several claim it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cluster,
    LoadBalancer,
    External,
    NodePort,
}

/// An address and port that connections are made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frontend {
    pub address: IpAddr,
    pub port: u16,
    pub kind: Kind,
}

/// Endpoints that a connection may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Its number; 0 while there is no endpoint.
    pub number: u32,
    /// In the order of their slots.
    pub endpoints: Box<[(IpAddr, u16)]>,
    /// The endpoints' numbers, if the Service has affinity.
    pub numbers: Box<[u32]>,
}

/// A port of a Service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub name: Box<str>,
    pub family: Family,
    pub protocol: u8,
    pub affinity: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// Sources that load balancer addresses are for; empty: all.
    pub ranges: Box<[IpNet]>,
    pub frontends: Box<[Frontend]>,
    pub any: bool,
    pub cluster: Option<Group>,
    pub local: Option<Group>,
}

/// What one Service compiles to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compiled {
    pub units: Box<[Unit]>,
    /// Health check node port, and how many endpoints here are ready.
    pub health: Option<(u16, usize)>,
}

/// Families that a Service has a cluster IP of: in others it is not served.
fn families(object: &ServiceObject) -> impl Iterator<Item = Family> + '_ {
    object.cluster_ips.iter().map(|ip| Family::of(*ip))
}

/// Frontends of a port in a family, each once.
fn frontends(
    object: &ServiceObject,
    port: &ServicePort,
    family: Family,
    node_ports: &[IpAddr],
) -> Vec<Frontend> {
    let lists = [
        (Kind::Cluster, &*object.cluster_ips, Some(port.port)),
        (
            Kind::LoadBalancer,
            &*object.load_balancer_ips,
            Some(port.port),
        ),
        (Kind::External, &*object.external_ips, Some(port.port)),
        (Kind::NodePort, node_ports, port.node_port),
    ];
    let mut frontends: Vec<Frontend> = Vec::new();
    for (kind, addresses, port) in lists {
        let Some(port) = port else { continue };
        for &address in addresses.iter().filter(|ip| Family::of(**ip) == family) {
            if !frontends
                .iter()
                .any(|other| other.address == address && other.port == port)
            {
                frontends.push(Frontend {
                    address,
                    port,
                    kind,
                });
            }
        }
    }
    frontends
}

/// What a Service claims.
pub(super) fn claims(object: &ServiceObject, node_ports: &[IpAddr]) -> Vec<(Tuple, Kind)> {
    let mut claims = Vec::new();
    for family in families(object) {
        for port in &object.ports {
            let protocol = protocol_number(port.protocol);
            for frontend in frontends(object, port, family, node_ports) {
                claims.push((frontend.tuple(protocol), frontend.kind));
            }
        }
    }
    claims
}

/// Endpoints that serve and get no new connections, by the UDP frontends that led to them.
pub(super) fn finishing(
    object: &ServiceObject,
    slices: &[Slice],
    compiled: &Compiled,
    places: &Places,
) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let mut finishing = BTreeMap::new();
    let udp = |unit: &&Unit| unit.protocol == weft_nft::l4proto::UDP;
    for unit in compiled.units.iter().filter(udp) {
        let of_unit =
            |port: &&ServicePort| port.name == unit.name && port.protocol == Protocol::Udp;
        let Some(port) = object.ports.iter().find(of_unit) else {
            continue;
        };
        let candidates = candidates(slices, unit.family, port, places);
        for frontend in &unit.frontends {
            let answers = unit.answers(frontend);
            let serving = candidates.iter().filter(|one| one.facts.serving);
            let more: Vec<SocketAddr> = serving
                .map(|one| SocketAddr::new(one.address, one.port))
                .filter(|endpoint| answers.binary_search(endpoint).is_err())
                .collect();
            if !more.is_empty() {
                finishing.insert(SocketAddr::new(frontend.address, frontend.port), more);
            }
        }
    }
    finishing
}

/// What the compilation of a Service looks at besides itself.
pub(super) struct Surroundings<'a> {
    pub places: &'a Places,
    pub node_ports: &'a [IpAddr],
    /// Whether a frontend is this Service's own.
    pub owns: &'a dyn Fn(&Tuple) -> bool,
}

/// Compiles a Service, without numbers.
pub(super) fn compile(
    object: &ServiceObject,
    slices: &[Slice],
    around: &Surroundings<'_>,
) -> Compiled {
    let externals = |port: &ServicePort| {
        port.node_port.is_some()
            || !object.external_ips.is_empty()
            || !object.load_balancer_ips.is_empty()
    };
    let mut units = Vec::with_capacity(object.ports.len() * object.cluster_ips.len());
    let mut ready: Vec<IpAddr> = Vec::new();
    for family in families(object) {
        for port in &object.ports {
            let candidates = candidates(slices, family, port, around.places);
            ready.extend(locals(&candidates));
            // Where traffic comes from outside, pods and the node use all endpoints even under policy Local.
            let external = externals(port);
            let cluster = !object.internal_local || external;
            let local = object.internal_local || (object.external_local && external);
            let choice = choice::choose(&candidates, cluster, local);
            let protocol = protocol_number(port.protocol);
            let mut frontends = frontends(object, port, family, around.node_ports);
            frontends.retain(|frontend| (around.owns)(&frontend.tuple(protocol)));
            let ranges = object.source_ranges.iter().copied();
            units.push(Unit {
                name: port.name.clone(),
                family,
                protocol,
                affinity: object.affinity,
                internal_local: object.internal_local,
                external_local: object.external_local,
                ranges: ranges.filter(|net| Family::of_net(net) == family).collect(),
                frontends: frontends.into(),
                any: choice.any,
                cluster: choice.cluster.map(Group::new),
                local: choice.local.map(Group::new),
            });
        }
    }
    ready.sort_unstable();
    ready.dedup();
    let of = |family| ready.iter().filter(|ip| Family::of(**ip) == family).count();
    let most = Family::ALL.map(of).into_iter().max().unwrap_or(0);
    Compiled {
        units: units.into(),
        health: object.health_check_node_port.map(|port| (port, most)),
    }
}

fn candidates(
    slices: &[Slice],
    family: Family,
    port: &ServicePort,
    places: &Places,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for slice in slices {
        slice.candidates(family, port, places, &mut candidates);
    }
    choice::unite(&mut candidates);
    candidates
}

fn locals(candidates: &[Candidate]) -> impl Iterator<Item = IpAddr> + '_ {
    let counts = candidates
        .iter()
        .filter(|one| one.facts.local && one.facts.ready);
    counts.map(|one| one.address)
}

impl Compiled {
    fn unit(&self, of: &Unit) -> Option<&Unit> {
        let same = |unit: &&Unit| {
            unit.family == of.family && unit.protocol == of.protocol && unit.name == of.name
        };
        self.units.iter().find(same)
    }

    /// Slots in maps, per family.
    pub fn slots(&self, family: Family) -> usize {
        let units = self.units.iter().filter(|unit| unit.family == family);
        units
            .flat_map(Unit::groups)
            .map(|group| group.endpoints.len())
            .sum()
    }

    /// The largest group of a Service with affinity.
    pub fn largest_with_affinity(&self) -> usize {
        let units = self.units.iter().filter(|unit| unit.affinity.is_some());
        let sizes = units
            .flat_map(Unit::groups)
            .map(|group| group.endpoints.len());
        sizes.max().unwrap_or(0)
    }

    /// Addresses of endpoints, as often as they are used.
    pub fn endpoint_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let groups = self.units.iter().flat_map(Unit::groups);
        groups.flat_map(|group| group.endpoints.iter().map(|(address, _)| *address))
    }

    /// Cluster IPs, as often as they are used.
    pub fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let frontends = self.units.iter().flat_map(|unit| &unit.frontends);
        frontends
            .filter(|frontend| frontend.kind == Kind::Cluster)
            .map(|frontend| frontend.address)
    }

    /// By traffic policy, internal and external: only endpoints of this node are wanted, there are
    /// some, and none is on this node.
    pub fn lacks_local(&self, family: Family) -> [bool; 2] {
        let lacks = |unit: &Unit| {
            let local = unit.local.as_ref();
            unit.family == family
                && unit.any
                && local.is_some_and(|group| group.endpoints.is_empty())
        };
        let policy = |is: fn(&Unit) -> bool| self.units.iter().any(|unit| is(unit) && lacks(unit));
        [
            policy(|unit| unit.internal_local),
            policy(|unit| unit.external_local),
        ]
    }

    /// The choices that are made.
    pub fn picks(&self) -> impl Iterator<Item = (Family, Pick)> + '_ {
        self.units.iter().flat_map(Unit::picks)
    }
}

impl Group {
    fn new(endpoints: Vec<(IpAddr, u16)>) -> Self {
        Self {
            endpoints: endpoints.into(),
            ..Self::default()
        }
    }
}

impl Frontend {
    pub fn tuple(&self, protocol: u8) -> Tuple {
        Tuple {
            address: self.address,
            protocol,
            port: self.port,
        }
    }
}

/// What stands behind a frontend.
pub(super) struct Behind<'a> {
    /// For everybody, or for sources outside.
    pub outer: Option<&'a Group>,
    /// For pods and the node, where that is another one.
    pub inner: Option<&'a Group>,
    /// Only some sources are let in.
    pub ranges: bool,
}

impl Unit {
    fn group(&self, local: bool) -> Option<&Group> {
        if local {
            self.local.as_ref()
        } else {
            self.cluster.as_ref()
        }
    }

    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.cluster.iter().chain(&self.local)
    }

    /// What stands behind a frontend.
    pub fn behind(&self, frontend: &Frontend) -> Behind<'_> {
        let local = match frontend.kind {
            Kind::Cluster => self.internal_local,
            Kind::LoadBalancer | Kind::External | Kind::NodePort => self.external_local,
        };
        let split = frontend.kind != Kind::Cluster && self.external_local && self.any;
        Behind {
            outer: self.group(local),
            inner: split.then(|| self.group(false)).flatten(),
            ranges: frontend.kind == Kind::LoadBalancer && !self.ranges.is_empty(),
        }
    }

    /// What becomes of a connection that a group is for.
    pub fn code(&self, group: Option<&Group>, inner: bool) -> Code {
        match group.map_or(0, |group| group.endpoints.len()) {
            0 if self.any => Code::Drop,
            0 => Code::Refuse,
            count => {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                Code::Pick(Pick::new(inner, count, self.affinity))
            }
        }
    }

    fn picks(&self) -> impl Iterator<Item = (Family, Pick)> + '_ {
        self.frontends.iter().flat_map(|frontend| {
            let behind = self.behind(frontend);
            let outer = Some(self.code(behind.outer, false));
            let inner = behind.inner.map(|group| self.code(Some(group), true));
            [outer, inner].into_iter().filter_map(|code| match code {
                Some(Code::Pick(pick)) => Some((self.family, pick)),
                _ => None,
            })
        })
    }

    /// Endpoints that may answer what was sent to a frontend.
    pub fn answers(&self, frontend: &Frontend) -> Vec<SocketAddr> {
        let behind = self.behind(frontend);
        let groups = behind.outer.into_iter().chain(behind.inner);
        let mut all: Vec<SocketAddr> = groups
            .flat_map(|group| group.endpoints.iter().copied().map(SocketAddr::from))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

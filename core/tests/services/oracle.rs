//! What must become of a connection, from the prose of the API and of kube-proxy's contract.
//!
//! Written without a look at the compiler: everything is looked at for every question, nothing is
//! remembered. Facts from the Service and EndpointSlice API and from `tests/conformance/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weft_core::services::object::{ServicePort, SliceEndpoint};
use weft_core::services::{
    Config, NodePortAddresses, ServiceName, ServiceObject, SliceName, SliceObject,
};
use weft_core::view::Protocol;

/// Everything there is.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub config: Config,
    pub services: BTreeMap<ServiceName, ServiceObject>,
    pub slices: BTreeMap<SliceName, SliceObject>,
}

/// What must become of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Untouched,
    Reject,
    Drop,
    Reach {
        endpoints: BTreeSet<SocketAddr>,
        masqueraded: BTreeSet<SocketAddr>,
        affinity: u32,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Cluster,
    LoadBalancer,
    External,
    NodePort,
}

impl World {
    pub fn judge(&self, from: IpAddr, protocol: Protocol, to: SocketAddr) -> Verdict {
        let mut claims: Vec<(Kind, i64, &ServiceName, &ServiceObject, &ServicePort)> = Vec::new();
        for (name, service) in &self.services {
            if !service
                .cluster_ips
                .iter()
                .any(|ip| ip.is_ipv4() == to.is_ipv4())
            {
                continue;
            }
            for port in service
                .ports
                .iter()
                .filter(|port| port.protocol == protocol)
            {
                if let Some(kind) = self.kind(service, port, to) {
                    claims.push((kind, service.created, name, service, port));
                }
            }
        }
        claims.sort_by_key(|(kind, created, name, ..)| (*kind, *created, (*name).clone()));
        match claims.first() {
            Some((kind, _, name, service, port)) => {
                self.serve(from, to, *kind, name, service, port)
            }
            None => self.nobodys(to.ip()),
        }
    }

    fn kind(&self, service: &ServiceObject, port: &ServicePort, to: SocketAddr) -> Option<Kind> {
        let has = |list: &[IpAddr]| list.contains(&to.ip()) && to.port() == port.port;
        if has(&service.cluster_ips) {
            Some(Kind::Cluster)
        } else if has(&service.load_balancer_ips) {
            Some(Kind::LoadBalancer)
        } else if has(&service.external_ips) {
            Some(Kind::External)
        } else if port.node_port == Some(to.port()) && self.serves_node_ports(to.ip()) {
            Some(Kind::NodePort)
        } else {
            None
        }
    }

    fn serves_node_ports(&self, address: IpAddr) -> bool {
        let own = &self.config.node_addresses;
        match &self.config.node_port_addresses {
            NodePortAddresses::Within(nets) if !nets.is_empty() => {
                let mut of_family = nets
                    .iter()
                    .filter(|net| net.addr().is_ipv4() == address.is_ipv4());
                let any = of_family.clone().next().is_some();
                own.contains(&address) && (!any || of_family.any(|net| net.contains(&address)))
            }
            NodePortAddresses::Primary | NodePortAddresses::Within(_) => {
                own.iter().find(|own| own.is_ipv4() == address.is_ipv4()) == Some(&address)
            }
        }
    }

    fn nobodys(&self, address: IpAddr) -> Verdict {
        let with_ports = |service: &&ServiceObject| !service.ports.is_empty();
        let mut services = self.services.values().filter(with_ports);
        if services.any(|service| service.cluster_ips.contains(&address)) {
            Verdict::Reject
        } else if self
            .config
            .service_networks
            .iter()
            .any(|net| net.contains(&address))
        {
            Verdict::Drop
        } else {
            Verdict::Untouched
        }
    }

    fn serve(
        &self,
        from: IpAddr,
        to: SocketAddr,
        kind: Kind,
        name: &ServiceName,
        service: &ServiceObject,
        port: &ServicePort,
    ) -> Verdict {
        let ranges: Vec<_> = service
            .source_ranges
            .iter()
            .filter(|net| net.addr().is_ipv4() == to.is_ipv4())
            .collect();
        if kind == Kind::LoadBalancer
            && !ranges.is_empty()
            && !ranges.iter().any(|net| net.contains(&from))
        {
            return Verdict::Drop;
        }
        let endpoints = self.endpoints(name, port, to.is_ipv4());
        let usable = |one: &SliceEndpoint| one.ready || (one.serving && one.terminating);
        // A port that is for nobody outside and only for this node's pods looks at all endpoints too,
        // to tell "none here" from "none anywhere".
        if !endpoints.values().any(usable) {
            return Verdict::Reject;
        }
        let own = self.config.node_addresses.contains(&from) || from.is_loopback();
        let pods = &self.config.pod_networks;
        let pod = pods.iter().any(|net| net.contains(&from));
        let local = match kind {
            Kind::Cluster => service.internal_local,
            _ => service.external_local && !own && !pod,
        };
        let chosen = if local {
            here(&endpoints)
        } else {
            self.anywhere(&endpoints)
        };
        if chosen.is_empty() {
            return Verdict::Drop;
        }
        let known = pods.iter().any(|net| net.addr().is_ipv4() == to.is_ipv4());
        // An address that is a cluster IP is one for everybody, also where another Service has written
        // it into its `externalIPs`.
        let to_cluster_ip = self.nobodys(to.ip()) == Verdict::Reject;
        let all = (to_cluster_ip && (self.config.masquerade_all || (known && !pod)))
            || (kind != Kind::Cluster && (!service.external_local || own));
        let masqueraded = chosen
            .iter()
            .filter(|to| all || to.ip() == from)
            .copied()
            .collect();
        Verdict::Reach {
            endpoints: chosen,
            masqueraded,
            affinity: service.affinity.unwrap_or(0),
        }
    }

    /// Endpoints of a service port: slices in the order of their names, each address and port once.
    fn endpoints(
        &self,
        name: &ServiceName,
        port: &ServicePort,
        v4: bool,
    ) -> BTreeMap<SocketAddr, SliceEndpoint> {
        let mut all: BTreeMap<SocketAddr, SliceEndpoint> = BTreeMap::new();
        for slice in self.slices.values().filter(|slice| slice.service == *name) {
            for own in &slice.ports {
                if own.name != port.name || own.protocol != port.protocol {
                    continue;
                }
                for endpoint in slice
                    .endpoints
                    .iter()
                    .filter(|one| one.address.is_ipv4() == v4)
                {
                    let at = SocketAddr::new(endpoint.address, own.port);
                    let known = all
                        .get(&at)
                        .is_some_and(|known| is_here(known) || !is_here(endpoint));
                    if !known {
                        all.insert(at, endpoint.clone());
                    }
                }
            }
        }
        all
    }

    fn anywhere(&self, endpoints: &BTreeMap<SocketAddr, SliceEndpoint>) -> BTreeSet<SocketAddr> {
        let ready = pick(endpoints, |one| one.ready);
        if ready.is_empty() {
            return pick(endpoints, |one| one.serving && one.terminating);
        }
        let node = &self.config.node;
        let for_node = |one: &SliceEndpoint| one.for_nodes.iter().any(|name| **name == **node);
        let all_have_nodes = endpoints
            .values()
            .all(|one| !one.ready || !one.for_nodes.is_empty());
        let mine = pick(endpoints, |one| one.ready && for_node(one));
        if all_have_nodes && !mine.is_empty() {
            return mine;
        }
        let zone = self.config.zone.as_deref();
        let for_zone = |one: &SliceEndpoint| one.for_zones.iter().any(|name| Some(&**name) == zone);
        let all_have_zones = endpoints
            .values()
            .all(|one| !one.ready || !one.for_zones.is_empty());
        let mine = pick(endpoints, |one| one.ready && for_zone(one));
        if all_have_zones && !mine.is_empty() {
            return mine;
        }
        ready
    }
}

fn here(endpoints: &BTreeMap<SocketAddr, SliceEndpoint>) -> BTreeSet<SocketAddr> {
    let ready = pick(endpoints, |one| is_here(one) && one.ready);
    if ready.is_empty() {
        return pick(endpoints, |one| {
            is_here(one) && one.serving && one.terminating
        });
    }
    ready
}

fn is_here(endpoint: &SliceEndpoint) -> bool {
    endpoint.node.as_deref() == Some(super::cluster::NODE)
}

fn pick(
    endpoints: &BTreeMap<SocketAddr, SliceEndpoint>,
    wanted: impl Fn(&SliceEndpoint) -> bool,
) -> BTreeSet<SocketAddr> {
    let chosen = endpoints.iter().filter(|(_, one)| wanted(one));
    chosen.map(|(at, _)| *at).collect()
}

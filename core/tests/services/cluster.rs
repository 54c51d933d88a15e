//! Small random clusters: few names, addresses and ports, so that they meet often.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use weft_core::services::object::{ServicePort, SliceEndpoint, SlicePort};
use weft_core::services::{
    Config, NodePortAddresses, ServiceName, ServiceObject, SliceName, SliceObject,
};
use weft_core::view::{Family, Protocol};

pub const NODE: &str = "node-1";
pub const NODE_ADDRESSES: [&str; 3] = ["192.168.0.2", "192.168.1.2", "2001:db8::2"];
/// Pods, endpoints among them; outsiders; the node.
pub const SOURCES: [&str; 9] = [
    "10.0.0.2",
    "10.0.1.1",
    "10.0.1.2",
    "203.0.113.2",
    "203.0.113.200",
    "192.168.0.2",
    "fd00:10::11",
    "2001:db8:99::1",
    "2001:db8::2",
];
/// Cluster IPs, external addresses, addresses of the node, and some that nobody has.
pub const DESTINATIONS: [&str; 13] = [
    "172.30.0.1",
    "172.30.0.2",
    "172.30.0.3",
    "172.30.0.99",
    "198.51.100.1",
    "198.51.100.2",
    "192.168.0.2",
    "192.168.1.2",
    "8.8.8.8",
    "fd00:172::1",
    "fd00:172::99",
    "2001:db8:f::1",
    "2001:db8::2",
];
pub const PORTS: [u16; 4] = [80, 443, 30_080, 30_443];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// One thing that happens to a node.
#[derive(Clone, Debug)]
pub enum Event {
    Service(ServiceName, Option<ServiceObject>),
    Slice(SliceName, Option<SliceObject>),
    Config(Config),
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(texts: &'static [&'static str], most: usize) -> impl Strategy<Value = Box<[IpAddr]>> {
    subsequence(texts, 0..=most).prop_map(|texts| texts.into_iter().map(ip).collect())
}

fn networks(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<IpNet>> {
    subsequence(texts, 0..=texts.len()).prop_map(|texts| {
        texts
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect()
    })
}

pub fn config() -> impl Strategy<Value = Config> {
    (
        option::of(select(vec!["zone-a".to_owned(), "zone-b".to_owned()])),
        subsequence(&NODE_ADDRESSES[..], 1..=3),
        option::of(networks(&["192.168.1.0/24", "2001:db8::/64"])),
        networks(&["10.0.0.0/8", "fd00:10::/32"]),
        networks(&["172.30.0.0/16", "fd00:172::/112"]),
        any::<bool>(),
    )
        .prop_map(
            |(zone, node_addresses, within, pods, services, masquerade_all)| Config {
                node: NODE.to_owned(),
                zone,
                node_addresses: node_addresses.into_iter().map(ip).collect(),
                node_port_addresses: within
                    .map_or(NodePortAddresses::Primary, NodePortAddresses::Within),
                pod_networks: pods,
                service_networks: services,
                masquerade_all,
            },
        )
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    let kind = (select(&PROTOCOLS[..]), any::<bool>(), any::<bool>());
    kind.prop_map(|(protocol, secure, node_port)| {
        let (name, port, number) = if secure {
            ("https", 443, 30_443)
        } else {
            ("http", 80, 30_080)
        };
        let name = if protocol == Protocol::Udp {
            format!("{name}-udp")
        } else {
            name.to_owned()
        };
        ServicePort {
            name: name.into(),
            protocol,
            port,
            node_port: node_port.then_some(number),
        }
    })
}

pub fn service() -> impl Strategy<Value = ServiceObject> {
    let cluster_ips = (
        select(&["172.30.0.1", "172.30.0.2", "172.30.0.3"][..]),
        any::<bool>(),
    );
    (
        0..3_i64,
        cluster_ips,
        addresses(
            &["198.51.100.1", "192.168.0.2", "2001:db8:f::1", "172.30.0.1"],
            2,
        ),
        addresses(&["198.51.100.2", "2001:db8:f::1"], 2),
        networks(&["203.0.113.0/25", "2001:db8:99::/64"]),
        vec(service_port(), 0..3),
        (any::<bool>(), any::<bool>()),
        option::weighted(0.3, select(vec![10_u32, 10_800])),
        option::weighted(0.2, 32_000..32_003_u16),
    )
        .prop_map(
            |(created, (first, dual), external, lb, ranges, mut ports, local, affinity, health)| {
                ports.sort_by_key(|port| port.name.clone());
                ports.dedup_by_key(|port| port.name.clone());
                let mut cluster_ips = vec![ip(first)];
                cluster_ips.extend(dual.then(|| ip("fd00:172::1")));
                ServiceObject {
                    created,
                    cluster_ips: cluster_ips.into(),
                    external_ips: external,
                    load_balancer_ips: lb,
                    source_ranges: ranges.into(),
                    ports: ports.into(),
                    internal_local: local.0,
                    external_local: local.1,
                    affinity,
                    health_check_node_port: health,
                }
            },
        )
}

fn endpoint(family: Family) -> impl Strategy<Value = SliceEndpoint> {
    let pool = match family {
        Family::V4 => vec!["10.0.1.1", "10.0.1.2", "10.0.2.1", "192.168.7.7"],
        Family::V6 => vec!["fd00:10::11", "fd00:10::12"],
    };
    let names = |list: &[&str]| {
        vec(
            select(
                list.iter()
                    .map(|name| Box::from(*name))
                    .collect::<Vec<Box<str>>>(),
            ),
            0..2,
        )
    };
    (
        select(pool),
        (
            prop::bool::weighted(0.7),
            prop::bool::weighted(0.8),
            prop::bool::weighted(0.3),
        ),
        option::of(select(vec![Box::<str>::from(NODE), "node-2".into()])),
        names(&["zone-a", "zone-b"]),
        names(&[NODE, "node-2"]),
    )
        .prop_map(
            |(address, (ready, serving, terminating), node, zones, nodes)| SliceEndpoint {
                address: ip(address),
                ready,
                serving,
                terminating,
                node,
                for_zones: zones.into(),
                for_nodes: nodes.into(),
            },
        )
}

pub fn slice() -> impl Strategy<Value = SliceObject> {
    let ports = subsequence(
        vec![
            ("http", Protocol::Tcp),
            ("https", Protocol::Tcp),
            ("http-udp", Protocol::Udp),
            ("https-udp", Protocol::Udp),
        ],
        1..=4,
    );
    let family = select(vec![Family::V4, Family::V4, Family::V6]);
    (0..3_usize, family, ports, 8080..8082_u16).prop_flat_map(|(service, family, ports, number)| {
        vec(endpoint(family), 0..5).prop_map(move |endpoints| SliceObject {
            service: service_name(service),
            family,
            ports: ports
                .iter()
                .map(|(name, protocol)| SlicePort {
                    name: (*name).into(),
                    protocol: *protocol,
                    port: number,
                })
                .collect(),
            endpoints: endpoints.into(),
        })
    })
}

pub fn service_name(index: usize) -> ServiceName {
    ServiceName::new("ns", ["a", "b", "c"][index])
}

pub fn slice_name(index: usize) -> SliceName {
    SliceName::new("ns", ["p", "q", "r", "s", "t"][index])
}

pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..3_usize, option::weighted(0.8, service()))
            .prop_map(|(index, object)| Event::Service(service_name(index), object)),
        6 => (0..5_usize, option::weighted(0.85, slice()))
            .prop_map(|(index, object)| Event::Slice(slice_name(index), object)),
        1 => config().prop_map(Event::Config),
    ]
}

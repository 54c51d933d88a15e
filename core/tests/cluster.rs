//! From a file of ordinary objects, and one description of a node, to what `parse` takes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_core::names;
use weft_core::view::{
    AttachmentKey, BlockObject, DnsView, HostInterface, HostPort, HostView, Parsed, PodView,
    Protocol, Raw, parse,
};
use weft_crds::{IPBlock, NodeNetwork, NodeNetworkSpec};

/// What no API object says: the node's kernel, and the pods that were wired.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Host {
    #[allow(dead_code, reason = "names the kind of document")]
    kind: String,
    node: String,
    #[serde(default)]
    no_ipv6: bool,
    #[serde(default)]
    no_force_forwarding: bool,
    #[serde(default)]
    no_vxlan: bool,
    #[serde(default)]
    dns: Option<Dns>,
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    pods: Vec<Pod>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dns {
    addresses: BTreeSet<IpAddr>,
    serving: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Interface {
    name: String,
    mtu: u32,
    addresses: Vec<IpNet>,
    #[serde(default)]
    default_route: bool,
    #[serde(default)]
    router_advertisements: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pod {
    name: String,
    index: Option<u32>,
    addresses: Vec<IpAddr>,
    #[serde(default)]
    host_ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Port {
    host_port: u16,
    container_port: u16,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: Option<IpAddr>,
}

/// Reads the file and validates what is in it.
pub fn load(text: &str) -> Parsed {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let of = |kind: &'static str| {
        documents
            .iter()
            .filter(move |document| document["kind"] == kind)
    };
    let host: Host = read(of("Host").next().expect("one document of kind Host"));
    let mut network = NodeNetworkSpec::default();
    let mut peers = BTreeMap::new();
    for object in of("NodeNetwork").map(read::<NodeNetwork>) {
        let name = object.metadata.name.unwrap();
        if name == host.node {
            network = object.spec;
        } else if let Some(status) = object.status {
            peers.insert(name, status);
        }
    }
    let mut internal_ips = Vec::new();
    let mut other_addresses = BTreeMap::new();
    for node in of("Node").map(read::<Node>) {
        let ips = internal(&node);
        let name = node.metadata.name.unwrap();
        if name == host.node {
            internal_ips = ips;
        } else if !peers.contains_key(&name) {
            other_addresses.insert(name, ips);
        }
    }
    let blocks: Vec<BlockObject> = of("IPBlock").map(read::<IPBlock>).map(block).collect();
    let pods = host.pods.iter().map(pod).collect();
    let mut parsed = parse(&Raw {
        node: &host.node,
        internal_ips: &internal_ips,
        network: &network,
        peers: &peers,
        other_addresses: &other_addresses,
        blocks: &blocks,
        host: &view(&host),
        pods: &pods,
    });
    parsed.view.dns = host.dns.map(|dns| DnsView {
        addresses: dns.addresses,
        serving: dns.serving,
    });
    parsed
}

fn read<T: DeserializeOwned>(document: &Value) -> T {
    serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document}"))
}

fn internal(node: &Node) -> Vec<IpAddr> {
    let addresses = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    addresses
        .filter(|address| address.type_ == "InternalIP")
        .map(|address| address.address.parse().unwrap())
        .collect()
}

fn block(object: IPBlock) -> BlockObject {
    let created = object
        .metadata
        .creation_timestamp
        .map_or(0, |time| time.0.as_second());
    BlockObject {
        name: object.metadata.name.unwrap(),
        uid: object.metadata.uid.unwrap_or_default(),
        resource_version: object.metadata.resource_version.unwrap_or_default(),
        created,
        spec: object.spec,
    }
}

fn view(host: &Host) -> HostView {
    let interface = |(index, interface): (usize, &Interface)| {
        let view = HostInterface {
            index: u32::try_from(index).unwrap() + 2,
            mtu: interface.mtu,
            addresses: interface.addresses.iter().copied().collect(),
            default_route: interface.default_route,
            router_advertisements: interface.router_advertisements,
        };
        (interface.name.clone(), view)
    };
    HostView {
        internal_ips: Vec::new(),
        interfaces: host.interfaces.iter().enumerate().map(interface).collect(),
        ipv6: !host.no_ipv6,
        force_forwarding: !host.no_force_forwarding,
        vxlan: !host.no_vxlan,
    }
}

fn pod(pod: &Pod) -> (AttachmentKey, PodView) {
    let key = AttachmentKey {
        container_id: format!("sandbox of {}", pod.name),
        ifname: "eth0".to_owned(),
    };
    let view = PodView {
        pod: pod.name.clone(),
        host_link: names::pod_link(&key),
        host_index: pod.index,
        host_mac: names::host_mac(&key),
        pod_mac: names::pod_mac(&key),
        addresses: pod.addresses.clone(),
        host_ports: pod.host_ports.iter().map(port).collect(),
    };
    (key, view)
}

fn port(port: &Port) -> HostPort {
    HostPort {
        host_port: port.host_port,
        host_ip: port.host_ip,
        container_port: port.container_port,
        protocol: match port.protocol.as_str() {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            other => panic!("{other} is no protocol"),
        },
    }
}

//! Which tracked connections an update leaves behind.

use std::net::{IpAddr, SocketAddr};

use weft_core::services::object::{ServicePort, SliceEndpoint, SlicePort};
use weft_core::services::{
    Config, ServiceName, ServiceObject, Services, SliceName, SliceObject, StaleFlows,
};
use weft_core::view::{Family, Protocol};

fn services() -> Services {
    let mut services = Services::new(Config {
        node: "n1".to_owned(),
        ..Config::default()
    });
    let port = |name: &str, protocol| ServicePort {
        name: name.into(),
        protocol,
        port: 53,
        node_port: None,
    };
    let object = ServiceObject {
        created: 0,
        cluster_ips: ["10.96.0.10".parse().unwrap()].into(),
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        source_ranges: [].into(),
        ports: [port("udp", Protocol::Udp), port("tcp", Protocol::Tcp)].into(),
        internal_local: false,
        external_local: false,
        affinity: None,
        health_check_node_port: None,
    };
    services.set_service(&ServiceName::new("default", "dns"), Some(object));
    services
}

/// Endpoints by address: ready, or shutting down while they serve.
fn endpoints(services: &mut Services, endpoints: &[(&str, bool)]) -> Vec<StaleFlows> {
    let port = |name: &str, protocol| SlicePort {
        name: name.into(),
        protocol,
        port: 5353,
    };
    let endpoint = |(address, ready): &(&str, bool)| SliceEndpoint {
        address: address.parse::<IpAddr>().unwrap(),
        ready: *ready,
        serving: true,
        terminating: !ready,
        node: None,
        for_zones: [].into(),
        for_nodes: [].into(),
    };
    let slice = SliceObject {
        service: ServiceName::new("default", "dns"),
        family: Family::V4,
        ports: [port("udp", Protocol::Udp), port("tcp", Protocol::Tcp)].into(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    };
    services.set_slice(&SliceName::new("default", "dns-1"), Some(slice));
    let stale = services.compile().stale;
    services.committed();
    stale
}

fn flows(endpoints: &[&str]) -> Vec<StaleFlows> {
    let at = |text: &&str| SocketAddr::new(text.parse().unwrap(), 5353);
    vec![StaleFlows {
        protocol: Protocol::Udp,
        frontend: "10.96.0.10:53".parse().unwrap(),
        endpoints: endpoints.iter().map(at).collect(),
    }]
}

#[test]
fn connections_to_an_endpoint_end_when_it_does_not_serve_any_more() {
    let mut services = services();
    let both = [("10.64.0.1", true), ("10.64.0.2", true)];
    // Entries from before there was an endpoint.
    assert_eq!(
        endpoints(&mut services, &both),
        flows(&["10.64.0.1", "10.64.0.2"])
    );
    assert_eq!(endpoints(&mut services, &both), []);
    // It takes no new connections, and keeps what it has.
    let leaving = [("10.64.0.1", true), ("10.64.0.2", false)];
    assert_eq!(
        endpoints(&mut services, &leaving),
        flows(&["10.64.0.1", "10.64.0.2"])
    );
    let one = [("10.64.0.1", true)];
    endpoints(&mut services, &one);
    let other = [("10.64.0.3", true)];
    assert_eq!(endpoints(&mut services, &other), flows(&["10.64.0.3"]));
    assert_eq!(endpoints(&mut services, &[]), flows(&[]));
}

/// An endpoint that ends after it has shut down was not chosen any more: nothing compiled changes.
#[test]
fn connections_to_an_endpoint_that_was_not_chosen_any_more_end_too() {
    let mut services = services();
    endpoints(&mut services, &[("10.64.0.1", true), ("10.64.0.2", false)]);
    let one = [("10.64.0.1", true)];
    assert_eq!(endpoints(&mut services, &one), flows(&["10.64.0.1"]));
}

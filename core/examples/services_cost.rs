//! What the state of Services costs: time of a cold load and of one change, and memory.
//!
//! `cargo run --release -p weft-core --example services_cost`: a line for each size, times in milliseconds, memory
//! in MiB (`RssAnon` of this process after the load, its batches rendered and dropped). Memory is told apart best
//! by one run for each size: `… services_cost 10000 15`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use weft_core::services::object::{ServicePort, SliceEndpoint, SlicePort};
use weft_core::services::{
    Bulk, Config, ServiceName, ServiceObject, Services, SliceName, SliceObject,
};
use weft_core::view::{Family, Protocol};

fn main() {
    println!(
        "{:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "services", "endpoints", "parse", "compile", "render", "audit", "change", "MiB"
    );
    let numbers: Vec<u32> = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse().ok())
        .collect();
    let sizes = match numbers.as_slice() {
        [services, each] => vec![(*services, *each)],
        _ => vec![(10_000, 2), (45_000, 1), (5_000, 50), (10_000, 15)],
    };
    for (services, each) in sizes {
        let before = memory();
        let mut state = Services::new(config());
        let started = Instant::now();
        for index in 0..services {
            state.set_service(&name(index), Some(service(index)));
            state.set_slice(&slice_name(index), Some(slice(index, each, 0)));
        }
        let parsed = started.elapsed();
        let started = Instant::now();
        let changes = state.compile();
        let compiled = started.elapsed();
        let started = Instant::now();
        let batches = changes
            .batches
            .map(|batch| batch.changes.len())
            .sum::<usize>();
        let rendered = started.elapsed();
        state.committed();
        let started = Instant::now();
        let audited: usize = Bulk::ALL
            .into_iter()
            .flat_map(|bulk| Family::ALL.map(|family| (bulk, family)))
            .map(|set| state.audit(set).repair().additions.len())
            .sum();
        assert!(audited > 0);
        let audit = started.elapsed();
        let after = memory();
        let mut times: Vec<Duration> = (0..101)
            .map(|round| change(&mut state, services, each, round))
            .collect();
        times.sort_unstable();
        println!(
            "{services:>9} {:>9} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.3} {:>9.1}   {batches} changes",
            services * each,
            milliseconds(parsed),
            milliseconds(compiled),
            milliseconds(rendered),
            milliseconds(audit),
            milliseconds(times[50]),
            after - before,
        );
    }
}

/// One endpoint of one service becomes another one.
fn change(state: &mut Services, services: u32, each: u32, round: u32) -> Duration {
    let index = round * 7919 % services;
    let started = Instant::now();
    state.set_slice(&slice_name(index), Some(slice(index, each, 1)));
    let changes = state.compile();
    assert!(
        changes
            .batches
            .map(|batch| batch.changes.len())
            .sum::<usize>()
            > 0
    );
    state.committed();
    started.elapsed()
}

fn config() -> Config {
    Config {
        node: "node-1".to_owned(),
        node_addresses: vec![Ipv4Addr::new(192, 168, 0, 2).into()],
        ..Config::default()
    }
}

fn name(index: u32) -> ServiceName {
    ServiceName::new(
        &format!("namespace-{}", index % 100),
        &format!("service-{index}"),
    )
}

fn slice_name(index: u32) -> SliceName {
    SliceName::new(
        &format!("namespace-{}", index % 100),
        &format!("service-{index}-abcde"),
    )
}

fn service(index: u32) -> ServiceObject {
    ServiceObject {
        created: 0,
        cluster_ips: [IpAddr::from(Ipv4Addr::from(0xac10_0000 + index))].into(),
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        source_ranges: [].into(),
        ports: [ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }]
        .into(),
        internal_local: false,
        external_local: false,
        affinity: None,
        health_check_node_port: None,
    }
}

fn slice(index: u32, each: u32, shift: u32) -> SliceObject {
    let endpoint = |number: u32| SliceEndpoint {
        address: Ipv4Addr::from(0x0a00_0000 + index * each + number).into(),
        ready: number >= shift || each == 1,
        serving: true,
        terminating: false,
        node: Some(format!("node-{}", number % 3).into()),
        for_zones: [].into(),
        for_nodes: [].into(),
    };
    let mut endpoints: Vec<SliceEndpoint> = (0..each).map(endpoint).collect();
    if shift > 0 && each == 1 {
        endpoints[0].address = Ipv4Addr::from(0x0b00_0000 + index).into();
    }
    SliceObject {
        service: name(index),
        family: Family::V4,
        ports: [SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }]
        .into(),
        endpoints: endpoints.into(),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Anonymous memory of this process in MiB (`RssAnon`, proc(5)).
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

//! What surrounds the rules of Services: tracked connections, health checks, the cost of an update,
//! an engine that dies in the middle, and the end of serving.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use weft_agent::engine::{Balanced, Effort, FaultPoint, Faults, Output, ServiceInput};
use weft_core::view::Family;

use super::node::{Node, Pod, eventually};
use super::services::{V4, V6, node, send, serving, tell, tell_all};

/// A Service with one port, and its slices of both families.
fn objects(
    name: &str,
    ips: [&str; 2],
    port: Value,
    more: Value,
    pods: &[[IpAddr; 2]],
) -> [Value; 3] {
    let mut spec = json!({"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips,
        "ipFamilies": ["IPv4", "IPv6"], "ports": [port]});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let service = json!({"kind": "Service", "spec": spec,
        "metadata": {"name": name, "namespace": "default"}});
    let [v4, v6] = [("IPv4", 0), ("IPv6", 1)].map(|(family, index)| {
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|ips| json!({"addresses": [ips[index]], "nodeName": "n1"}))
            .collect();
        json!({"kind": "EndpointSlice", "addressType": family, "endpoints": endpoints,
            "metadata": {"name": format!("{name}-{family}"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": port["name"], "port": 8080, "protocol": port["protocol"]}]})
    });
    [service, v4, v6]
}

fn udp(pods: &[[IpAddr; 2]]) -> [Value; 3] {
    let port = json!({"name": "echo", "port": 7, "protocol": "UDP"});
    objects("echo", [V4, V6], port, json!({}), pods)
}

fn tcp(number: usize, pods: &[[IpAddr; 2]]) -> [Value; 3] {
    let port = json!({"name": "http", "port": 80, "protocol": "TCP"});
    let ips = [format!("10.96.1.{number}"), format!("fd96::1:{number:x}")];
    let ips = [ips[0].as_str(), ips[1].as_str()];
    objects(&format!("s{number}"), ips, port, json!({}), pods)
}

/// Endpoints that nobody needs to reach.
fn pod(number: u8) -> [IpAddr; 2] {
    [
        format!("10.64.9.{number}").parse().unwrap(),
        format!("fd64::9:{number:x}").parse().unwrap(),
    ]
}

fn both(addresses: &[IpAddr]) -> [IpAddr; 2] {
    addresses.try_into().unwrap()
}

/// Answers each datagram with a name.
fn echo(pod: &Pod, name: &'static str) {
    let socket = pod
        .namespace()
        .inside(|| UdpSocket::bind("[::]:8080").unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(name.as_bytes(), from);
        }
    });
}

/// A client that keeps its port.
fn client(pod: &Pod, to: &str) -> UdpSocket {
    let to: SocketAddr = to.parse().unwrap();
    pod.namespace().inside(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        socket
    })
}

fn answer(client: &UdpSocket) -> Option<String> {
    client.send(b"who?").ok()?;
    let mut buffer = [0; 64];
    let length = client.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn tell_each(node: &Node, objects: &[Value]) {
    objects.iter().for_each(|object| tell(node, object));
}

#[test]
fn a_udp_client_that_keeps_its_port_follows_the_endpoints() {
    let node = node(&[]);
    let (a, b, c) = (Pod::new("a"), Pod::new("b"), Pod::new("c"));
    let (of_a, of_b) = (
        both(&node.must_add(&a).addresses),
        both(&node.must_add(&b).addresses),
    );
    node.must_add(&c);
    echo(&a, "a");
    echo(&b, "b");
    let clients = [format!("{V4}:7"), format!("[{V6}]:7")].map(|to| client(&c, &to));
    for client in &clients {
        assert_eq!(answer(client), None, "nobody serves");
    }
    for (pods, name) in [(of_a, "a"), (of_b, "b"), (of_a, "a")] {
        tell_each(&node, &udp(&[pods]));
        for client in &clients {
            eventually(&format!("{name} answers"), || {
                answer(client).as_deref() == Some(name)
            });
        }
    }
}

/// Elements of a set.
fn held(table: &weft_nft::Table, set: &str) -> usize {
    table.sets.get(set).map_or(0, |set| set.elements.len())
}

/// The next output that says that all is in the kernel, once so much was heard.
fn balanced(node: &mut Node, slices: u64) -> Balanced {
    let is =
        |output: &Output| matches!(output, Output::Balanced(balanced) if balanced.slices >= slices);
    match node.wait_for(is) {
        Output::Balanced(balanced) => balanced,
        other => panic!("{other:?}"),
    }
}

/// What it costs to add an endpoint where there are so many Services.
fn cost(services: usize) -> Effort {
    let all: Vec<Value> = (1..=services)
        .flat_map(|number| tcp(number, &[pod(1), pod(2)]))
        .collect();
    let mut node = node(&all);
    let told = 1 + 2 * services as u64;
    balanced(&mut node, told);
    // The first with three endpoints makes the chain for three.
    let [_, v4, _] = tcp(1, &[pod(1), pod(2), pod(3)]);
    tell(&node, &v4);
    balanced(&mut node, told + 1);
    let [_, v4, _] = tcp(2, &[pod(1), pod(2), pod(3)]);
    let at = SystemTime::now();
    let family = Family::V4;
    send(&node, ServiceInput::Triggered { family, at });
    tell(&node, &v4);
    let update = balanced(&mut node, told + 2);
    assert!(!update.whole);
    assert_eq!(update.programmed.len(), 1);
    update.effort
}

#[test]
fn an_update_lists_nothing_and_costs_the_same_among_many_services() {
    let few = cost(4);
    assert_eq!(few.dumps, 0);
    assert!(few.transactions > 0 && few.messages > 0, "{few:?}");
    assert_eq!(cost(120), few);
}

#[test]
fn health_check_node_ports_follow_the_endpoints_of_this_node() {
    let mut node = node(&[]);
    let more = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30999});
    let port = json!({"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080});
    let ips = ["10.96.0.20", "fd96::20"];
    let made = objects("front", ips, port, more, &[pod(1), pod(2)]);
    let [service, v4, v6] = made;
    let ready = |node: &mut Node, wanted: usize| {
        let is = |output: &Output| {
            matches!(output, Output::ServiceChecks(checks)
            if checks.get(&30999).is_some_and(|check| check.ready == wanted && check.service.as_str() == "default/front"))
        };
        node.wait_for(is);
        node.seen.clear();
    };
    tell(&node, &service);
    ready(&mut node, 0);
    tell(&node, &v4);
    ready(&mut node, 2);
    tell(&node, &v6);
    let mut elsewhere = v4.clone();
    elsewhere["endpoints"][0]["nodeName"] = json!("n2");
    tell(&node, &elsewhere);
    let mut elsewhere = v6.clone();
    elsewhere["endpoints"][0]["nodeName"] = json!("n2");
    tell(&node, &elsewhere);
    ready(&mut node, 1);
}

#[test]
fn an_update_that_was_cut_off_is_finished_by_the_next_engine() {
    // Chains for so many are there while they are needed.
    let pods = |range: std::ops::RangeInclusive<u8>| -> Vec<_> { range.map(pod).collect() };
    let before = tcp(1, &pods(1..=10));
    let after = [tcp(1, &pods(5..=15)), tcp(2, &pods(1..=12))].concat();
    let undisturbed = node(&before);
    tell_each(&undisturbed, &after);
    let complete = |node: &Node| {
        let table = node.table();
        held(&table, "count4") == 2
            && held(&table, "eps6") == 23
            && !table.chains.contains_key("pick4-n10")
    };
    eventually("all is in the kernel", || complete(&undisturbed));
    let wanted = undisturbed.table();
    for point in [
        FaultPoint::Framed,
        FaultPoint::Batched,
        FaultPoint::Balanced,
    ] {
        let arm = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&arm);
        let faults = Faults::at(move |at| at == point && asked.swap(false, Ordering::SeqCst));
        let mut node = serving(faults, &before);
        eventually("the first is served", || held(&node.table(), "eps4") == 10);
        arm.store(true, Ordering::SeqCst);
        // The engine may be gone before it has heard all.
        for object in &after {
            super::services::try_tell(&node, object);
        }
        let mut engine = node.engine.take().unwrap();
        while engine.outputs.blocking_recv().is_some() {}
        node.restart();
        tell_all(&node, &after);
        eventually(&format!("{point:?}: the table is as wanted"), || {
            node.table() == wanted
        });
    }
}

#[test]
fn a_node_that_serves_no_services_any_more_has_nothing_of_them() {
    let mut node = node(&tcp(1, &[pod(1)]));
    eventually("it is served", || held(&node.table(), "count4") == 1);
    node.services = None;
    node.restart();
    eventually("nothing of services is left", || {
        let table = node.table();
        !table.sets.contains_key("count4") && !table.chains.contains_key("services4")
    });
}

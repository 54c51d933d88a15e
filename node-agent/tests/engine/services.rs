//! Services: what the API says becomes connections that reach endpoints.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use weft_agent::engine::{Faults, Input, Output, ServiceInput, ServiceSettings};
use weft_agent::watch::Update;
use weft_core::services::object;

use super::node::{Namespace, Node, Pod, eventually};

pub(crate) const V4: &str = "10.96.0.10";
pub(crate) const V6: &str = "fd96::10";

/// A node that serves Services, and has heard of all there are.
pub(crate) fn node(objects: &[Value]) -> Node {
    serving(Faults::none(), objects)
}

/// The same, with faults.
pub(crate) fn serving(faults: Faults, objects: &[Value]) -> Node {
    let mut node = Node::new();
    node.services = Some(ServiceSettings::default());
    node.start(faults);
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    node.wait_for(|output| *output == Output::Ready);
    tell_all(&node, objects);
    node
}

pub(crate) fn tell_all(node: &Node, objects: &[Value]) {
    let networks = ["10.96.0.0/16", "fd96::/112"].map(|net| net.parse().unwrap());
    send(node, ServiceInput::Networks(networks.to_vec()));
    send(node, ServiceInput::Service(Update::Reset([].into())));
    send(node, ServiceInput::Slice(Update::Reset([].into())));
    for object in objects {
        tell(node, object);
    }
    send(node, ServiceInput::Synced);
}

pub(crate) fn send(node: &Node, input: ServiceInput) {
    node.send(Input::Services(input));
}

pub(crate) fn tell(node: &Node, object: &Value) {
    send(node, input(object));
}

/// The same to an engine that may be dead.
pub(crate) fn try_tell(node: &Node, object: &Value) {
    let inputs = &node.engine.as_ref().unwrap().inputs;
    let _ = inputs.send(Input::Services(input(object)));
}

fn input(object: &Value) -> ServiceInput {
    let name = object["metadata"]["name"].as_str().unwrap();
    let key = format!("default/{name}");
    match object["kind"].as_str() {
        Some("Service") => {
            let service: Service = serde_json::from_value(object.clone()).unwrap();
            ServiceInput::Service(Update::Apply(key, object::service(&service).object))
        }
        _ => {
            let slice: EndpointSlice = serde_json::from_value(object.clone()).unwrap();
            ServiceInput::Slice(Update::Apply(key, object::slice(&slice).object))
        }
    }
}

fn service() -> Value {
    json!({"kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": {
        "type": "ClusterIP", "clusterIP": V4, "clusterIPs": [V4, V6], "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}})
}

fn slices(pods: &[&[IpAddr]]) -> [Value; 2] {
    [("IPv4", 0), ("IPv6", 1)].map(|(family, index)| {
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|addresses| json!({"addresses": [addresses[index]], "conditions": {"ready": true}, "nodeName": "n1"}))
            .collect();
        json!({"kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": format!("web-{family}"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints})
    })
}

/// Answers each connection with a name and the address that it came from.
fn serve(pod: &Pod, name: &'static str) {
    let listener = pod
        .namespace()
        .inside(|| TcpListener::bind("[::]:8080").unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let from = match from.ip() {
                IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
                ip => ip,
            };
            let _ = write!(stream, "{name} {from}");
        }
    });
}

/// What is answered at an address; none if the connection is refused or nobody answers.
fn dial(place: &Namespace, to: &str) -> Result<String, std::io::ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    place.inside(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))
            .map_err(|error| error.kind())?;
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .map_err(|error| error.kind())?;
        Ok(text)
    })
}

/// Dials until these names, and for a while no others, answer.
fn answered_by(place: &Namespace, to: &str, names: &[&str]) {
    eventually(&format!("{to} is answered by {names:?}"), || {
        let answers: Vec<_> = (0..20).map(|_| dial(place, to)).collect();
        let seen: Option<std::collections::BTreeSet<String>> = answers
            .into_iter()
            .map(|answer| Some(answer.ok()?.split(' ').next()?.to_owned()))
            .collect();
        seen.is_some_and(|seen| seen.iter().map(String::as_str).eq(names.iter().copied()))
    });
}

#[test]
fn connections_reach_the_endpoints_that_there_are() {
    let node = node(&[service()]);
    let (a, b, client) = (Pod::new("a"), Pod::new("b"), Pod::new("c"));
    let (of_a, of_b, own) = (
        node.must_add(&a).addresses,
        node.must_add(&b).addresses,
        node.must_add(&client).addresses,
    );
    serve(&a, "a");
    serve(&b, "b");
    let frontends = [format!("{V4}:80"), format!("[{V6}]:80")];
    eventually("without endpoints a connection is refused", || {
        dial(client.namespace(), &frontends[0]) == Err(std::io::ErrorKind::ConnectionRefused)
    });
    slices(&[&of_a, &of_b])
        .iter()
        .for_each(|slice| tell(&node, slice));
    for (frontend, own) in frontends.iter().zip(&own) {
        answered_by(client.namespace(), frontend, &["a", "b"]);
        answered_by(&node.namespace, frontend, &["a", "b"]);
        let answer = dial(client.namespace(), frontend).unwrap();
        assert!(
            answer.ends_with(&own.to_string()),
            "{answer}: not the client's own address"
        );
    }
    slices(&[&of_a]).iter().for_each(|slice| tell(&node, slice));
    for frontend in &frontends {
        answered_by(client.namespace(), frontend, &["a"]);
        // The endpoint reaches itself.
        answered_by(a.namespace(), frontend, &["a"]);
    }
    let unknown = dial(client.namespace(), &format!("{V4}:81"));
    assert_eq!(unknown, Err(std::io::ErrorKind::ConnectionRefused));
}

#[test]
fn a_restart_keeps_serving_and_changes_nothing_that_is_right() {
    let objects = |of_a: &[IpAddr]| {
        let [v4, v6] = slices(&[of_a]);
        [service(), v4, v6]
    };
    let mut node = node(&[]);
    let (a, client) = (Pod::new("a"), Pod::new("c"));
    let of_a = node.must_add(&a).addresses;
    node.must_add(&client);
    serve(&a, "a");
    objects(&of_a).iter().for_each(|object| tell(&node, object));
    let frontend = format!("{V4}:80");
    answered_by(client.namespace(), &frontend, &["a"]);
    let table = node.table();
    node.stop();
    answered_by(client.namespace(), &frontend, &["a"]);
    node.restart();
    // The engine has not heard of any Service yet.
    answered_by(client.namespace(), &frontend, &["a"]);
    assert_eq!(node.table(), table);
    tell_all(&node, &objects(&of_a));
    answered_by(client.namespace(), &frontend, &["a"]);
    eventually("the table is the same", || node.table() == table);
    // What is gone meanwhile goes now.
    node.restart();
    tell_all(&node, &[]);
    eventually("nobody answers", || {
        dial(client.namespace(), &frontend).is_err()
    });
}

#[test]
fn a_table_that_was_deleted_comes_back_with_all_elements() {
    let mut node = node(&[]);
    let (a, client) = (Pod::new("a"), Pod::new("c"));
    let of_a = node.must_add(&a).addresses;
    node.must_add(&client);
    serve(&a, "a");
    let [v4, v6] = slices(&[&of_a]);
    let objects = [service(), v4, v6];
    objects.iter().for_each(|object| tell(&node, object));
    let frontend = format!("{V4}:80");
    answered_by(client.namespace(), &frontend, &["a"]);
    let table = node.table();
    node.stop();
    node.namespace.must("nft flush ruleset");
    node.start(Faults::none());
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    node.wait_for(|output| *output == Output::Ready);
    tell_all(&node, &objects);
    answered_by(client.namespace(), &frontend, &["a"]);
    eventually("the table is as it was", || node.table() == table);
}

//! Network policies: what the API says becomes packets that pass or do not.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::error::TryRecvError;
use weft_agent::engine::{
    Enforced, FaultPoint, Faults, Input, Output, OwnPod, PeerPod, PolicyInput,
};
use weft_agent::watch::Update;
use weft_core::policy::{Bulk, Known, Labels, NodeObject, PodObject, Policy, object};
use weft_kernel::nft::NftSocket;
use weft_nft::{Batch, Change};

use super::node::{Namespace, Node, Pod, answer, eventually, failure};

/// How long nothing must come where nothing may.
const SILENCE: Duration = Duration::from_millis(400);

fn labels(app: &str) -> Labels {
    Labels::new(&BTreeMap::from([("app".to_owned(), app.to_owned())]))
}

fn send(node: &Node, input: PolicyInput) {
    node.send(Input::Policy(Box::new(input)));
}

fn policy(spec: Value) -> Option<Policy> {
    let object = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    let parsed = object::network_policy(&serde_json::from_value(object).unwrap());
    assert_eq!(parsed.rejections, []);
    parsed.policy
}

fn cluster_policy(spec: Value) -> Option<Policy> {
    let object = json!({"metadata": {"name": "c"}, "spec": spec});
    let parsed = object::cluster_network_policy(&serde_json::from_value(object).unwrap());
    assert_eq!(parsed.rejections, []);
    parsed.policy
}

fn set(node: &Node, name: &str, spec: Value) {
    let update = Update::Apply(format!("default/{name}"), policy(spec));
    send(node, PolicyInput::NetworkPolicy(update));
}

fn unset(node: &Node, name: &str) {
    let update = Update::Delete(format!("default/{name}"));
    send(node, PolicyInput::NetworkPolicy(update));
}

/// A pod of this node, whose label is its name.
fn own(pod: &Pod, app: &str) -> (String, OwnPod) {
    let own = OwnPod {
        static_uid: None,
        namespace: "default".into(),
        name: pod.attachment.pod_name.as_str().into(),
        known: Known {
            labels: labels(app),
            ports: [].into(),
        },
    };
    (pod.attachment.pod_uid.clone(), own)
}

fn peer(on: &str, app: &str, addresses: &[&str]) -> PeerPod {
    PeerPod {
        node: on.into(),
        pod: PodObject {
            namespace: "default".into(),
            labels: labels(app),
            ports: [].into(),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            created: 1,
        },
    }
}

/// All of the API but the pods of other nodes.
fn tell_all(node: &Node, policies: &[(&str, Value)], pods: &[(&Pod, &str)]) {
    let policies = policies.iter();
    let policies = policies.map(|(name, spec)| (format!("default/{name}"), policy(spec.clone())));
    send(
        node,
        PolicyInput::NetworkPolicy(Update::Reset(policies.collect())),
    );
    send(
        node,
        PolicyInput::ClusterNetworkPolicy(Update::Reset([].into())),
    );
    let namespaces = [("default".to_owned(), Labels::default())].into();
    send(node, PolicyInput::Namespace(Update::Reset(namespaces)));
    let nodes = [
        ("n1", "192.0.2.10", "2001:db8::10"),
        ("n2", "192.0.2.11", "2001:db8::11"),
    ];
    let nodes = nodes.map(|(name, v4, v6)| {
        let addresses = [v4.parse().unwrap(), v6.parse().unwrap()].into();
        let labels = labels(name);
        (name.to_owned(), NodeObject { labels, addresses })
    });
    send(node, PolicyInput::Node(Update::Reset(nodes.into())));
    let own = pods.iter().map(|(pod, app)| own(pod, app)).collect();
    send(node, PolicyInput::Own(Update::Reset(own)));
}

fn no_peers(node: &Node) {
    send(node, PolicyInput::Pod(Update::Reset([].into())));
}

/// A node that enforces policies and is ready; of policies it has heard nothing yet.
fn started(faults: Faults) -> Node {
    let mut node = Node::new();
    node.policies = true;
    node.start(faults);
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    node.wait_for(|output| *output == Output::Ready);
    node
}

/// Answers each connection at a port with everything that comes, after a first word of its own.
fn serve(pod: &Pod, port: u16) {
    let listener = pod
        .namespace()
        .inside(|| TcpListener::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let _ = stream.write_all(b"first");
                let mut buffer = [0; 64];
                while let Ok(count) = stream.read(&mut buffer) {
                    if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn call(place: &Namespace, to: IpAddr, port: u16) -> Option<TcpStream> {
    place.inside(|| {
        let to = SocketAddr::new(to, port);
        let mut stream = TcpStream::connect_timeout(&to, SILENCE).ok()?;
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).ok()?;
        Some(stream)
    })
}

/// Whether a pod is answered at all addresses, or at none.
fn reaches(pod: &Pod, to: &[IpAddr], port: u16) -> bool {
    // What changes in between is in force for one family and not for the other.
    for _ in 0..20 {
        let answers: Vec<bool> = to
            .iter()
            .map(|to| call(pod.namespace(), *to, port).is_some())
            .collect();
        if answers.iter().all(|answer| *answer == answers[0]) {
            return answers[0];
        }
    }
    panic!("one family is answered, and the other is not");
}

/// Whether what is said over a connection comes back.
fn goes_on(stream: &mut TcpStream) -> bool {
    let _ = stream.write_all(b"more!");
    let mut word = [0; 5];
    stream.read_exact(&mut word).is_ok()
}

fn from(app: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": app}}}],
            "ports": [{"port": 8080}]}]})
}

/// Changes the table behind the engine's back, by the socket that owns it.
fn commit(node: &Node, change: Change) {
    let socket = node.nft().as_fd().try_clone_to_owned().unwrap();
    let batch = Batch {
        table: "weftnet".to_owned(),
        changes: vec![change],
    };
    node.inside(|| NftSocket::from_fd(socket).unwrap().commit(&batch).unwrap());
}

struct Trio {
    node: Node,
    server: Pod,
    client: Pod,
    other: Pod,
    at: Vec<IpAddr>,
}

fn trio(policies: &[(&str, Value)]) -> Trio {
    let node = started(Faults::none());
    let (server, client, other) = (Pod::new("server"), Pod::new("client"), Pod::new("other"));
    let at = node.must_add(&server).addresses;
    node.must_add(&client);
    node.must_add(&other);
    serve(&server, 8080);
    serve(&server, 8081);
    tell_all(
        &node,
        policies,
        &[(&server, "server"), (&client, "client"), (&other, "other")],
    );
    no_peers(&node);
    Trio {
        node,
        server,
        client,
        other,
        at,
    }
}

#[test]
fn a_policy_allows_what_it_names_and_nothing_else() {
    let Trio {
        node,
        server: _server,
        client,
        other,
        at,
    } = trio(&[]);
    eventually("all is open", || {
        reaches(&client, &at, 8080) && reaches(&other, &at, 8081)
    });
    set(&node, "server", from("client"));
    eventually("the other is not let in", || !reaches(&other, &at, 8080));
    assert!(reaches(&client, &at, 8080));
    assert!(!reaches(&client, &at, 8081), "another port");
    assert!(
        call(&node.namespace, at[0], 8081).is_some(),
        "a node reaches its own pods"
    );
    // What tells a client is its label.
    let relabelled = own(&other, "client");
    send(
        &node,
        PolicyInput::Own(Update::Apply(relabelled.0, relabelled.1)),
    );
    eventually("the label counts", || reaches(&other, &at, 8080));
    unset(&node, "server");
    eventually("all is open again", || reaches(&other, &at, 8081));
}

#[test]
fn a_pod_is_let_in_only_when_its_isolation_stands() {
    let node = started(Faults::none());
    let client = Pod::new("client");
    node.must_add(&client);
    // Nothing is known of policies: whoever is new is isolated.
    let early = Pod::new("early");
    let at = node.must_add(&early).addresses;
    serve(&early, 8080);
    assert!(!reaches(&client, &at, 8080));
    tell_all(
        &node,
        &[("server", from("nobody"))],
        &[(&client, "client"), (&early, "early")],
    );
    no_peers(&node);
    eventually("no policy is about it", || reaches(&client, &at, 8080));
    // Its Pod object has not been seen: a policy may be about it.
    let late = Pod::new("late");
    let at = node.must_add(&late).addresses;
    serve(&late, 8080);
    assert!(!reaches(&client, &at, 8080), "not known yet");
    let (uid, told) = own(&late, "late");
    send(&node, PolicyInput::Own(Update::Apply(uid, told)));
    eventually("known by now", || reaches(&client, &at, 8080));
    // Known before its link is there.
    let server = Pod::new("server");
    let (uid, told) = own(&server, "server");
    send(&node, PolicyInput::Own(Update::Apply(uid, told)));
    let at = node.must_add(&server).addresses;
    serve(&server, 8080);
    assert!(!reaches(&client, &at, 8080));
}

#[test]
fn a_restart_opens_and_closes_nothing_until_all_is_told() {
    let mut trio = trio(&[("server", from("client"))]);
    let Trio {
        node,
        server,
        client,
        other,
        at,
    } = &mut trio;
    eventually("the client is let in", || {
        reaches(client, at, 8080) && !reaches(other, at, 8080)
    });
    let (server, client, other, at) = (&*server, &*client, &*other, &*at);
    let mut talk = call(client.namespace(), at[0], 8080).unwrap();
    let table = node.table();
    node.stop();
    assert!(reaches(client, at, 8080) && !reaches(other, at, 8080));
    node.restart();
    // The engine has heard of no policy yet.
    assert_eq!(node.table(), table);
    tell_all(
        node,
        &[("server", from("client"))],
        &[(server, "server"), (client, "client"), (other, "other")],
    );
    node.wait_for(|output| *output == Output::PodsNeeded(true));
    assert!(reaches(client, at, 8080) && !reaches(other, at, 8080));
    assert_eq!(node.table(), table);
    no_peers(node);
    node.wait_for(|output| matches!(output, Output::Enforced(Enforced { whole: true, .. })));
    assert_eq!(node.table(), table);
    assert!(goes_on(&mut talk));
    // What was taken away meanwhile goes now, with its connections.
    node.restart();
    tell_all(
        node,
        &[("server", from("other"))],
        &[(server, "server"), (client, "client"), (other, "other")],
    );
    no_peers(node);
    eventually("the other is let in", || {
        reaches(other, at, 8080) && !reaches(client, at, 8080)
    });
    eventually("the connection has ended", || !goes_on(&mut talk));
}

#[test]
fn connections_end_when_policies_do_not_allow_them_any_more() {
    let Trio {
        node,
        server: _server,
        client,
        other,
        at,
    } = trio(&[]);
    eventually("all is open", || {
        reaches(&client, &at, 8080) && reaches(&other, &at, 8080)
    });
    let place = client.namespace();
    let mut talks: Vec<TcpStream> = at
        .iter()
        .map(|to| call(place, *to, 8080).unwrap())
        .collect();
    let mut kept = call(other.namespace(), at[0], 8080).unwrap();
    set(&node, "server", from("other"));
    for talk in &mut talks {
        eventually("it has ended", || !goes_on(talk));
    }
    assert!(goes_on(&mut kept), "a connection that is allowed goes on");
    assert!(talks.iter_mut().all(|talk| !goes_on(talk)));
    set(&node, "server", from("client"));
    for talk in &mut talks {
        eventually("it is allowed again", || goes_on(talk));
    }
    eventually("the other one has ended", || !goes_on(&mut kept));
}

#[test]
fn a_peer_is_believed_within_its_own_nodes_blocks() {
    let node = started(Faults::none());
    let server = Pod::new("server");
    let at = node.must_add(&server).addresses[0];
    node.hear_with_peer();
    serve(&server, 8080);
    tell_all(&node, &[("server", from("client"))], &[(&server, "server")]);
    let tell = |on: &str, address: &str| {
        let pods = [("default/u".to_owned(), peer(on, "client", &[address]))].into();
        send(&node, PolicyInput::Pod(Update::Reset(pods)));
    };
    let place = node.outside_as("10.64.0.70");
    tell("n2", "10.64.0.70");
    eventually("let in", || call(place, at, 8080).is_some());
    tell("n1", "10.64.0.70");
    eventually("not of that node", || call(place, at, 8080).is_none());
    tell("n2", "10.64.0.70");
    eventually("let in again", || call(place, at, 8080).is_some());
    tell("n2", "10.64.0.71");
    eventually("another address", || call(place, at, 8080).is_none());
}

#[test]
fn a_rule_about_nodes_that_comes_last_holds() {
    let Trio {
        node,
        server: _server,
        client,
        other: _other,
        at,
    } = trio(&[("server", from("client"))]);
    eventually("the client is let in", || reaches(&client, &at, 8080));
    assert!(client.reaches("192.0.2.10".parse().unwrap()));
    let spec = json!({"tier": "Admin", "priority": 1,
        "subject": {"namespaces": {}},
        "egress": [{"action": "Deny", "to": [{"nodes": {"matchLabels": {"app": "n1"}}}]}]});
    let update = Update::Apply("c".to_owned(), cluster_policy(spec));
    send(&node, PolicyInput::ClusterNetworkPolicy(update));
    eventually("the node is not reached", || {
        client.namespace().run("ping -c1 -W1 192.0.2.10").is_none()
    });
    assert!(reaches(&client, &at, 8080), "a pod still is");
}

#[test]
fn a_table_that_was_deleted_comes_back_with_all_elements() {
    let Trio {
        mut node,
        server,
        client,
        other,
        at,
    } = trio(&[("server", from("client"))]);
    eventually("in force", || {
        reaches(&client, &at, 8080) && !reaches(&other, &at, 8080)
    });
    let table = node.table();
    node.stop();
    commit(&node, Change::DeleteTable);
    node.restart();
    tell_all(
        &node,
        &[("server", from("client"))],
        &[(&server, "server"), (&client, "client"), (&other, "other")],
    );
    no_peers(&node);
    eventually("the table is as it was", || node.table() == table);
}

#[test]
fn what_is_missing_at_a_start_is_put_right() {
    let Trio {
        mut node,
        server,
        client,
        other,
        at,
    } = trio(&[("server", from("client"))]);
    eventually("in force", || {
        reaches(&client, &at, 8080) && !reaches(&other, &at, 8080)
    });
    let table = node.table();
    let name = Bulk::Subjects(
        weft_core::policy::Direction::In,
        weft_core::policy::Default::Deny,
    )
    .name();
    node.stop();
    let keys = table.sets[&name].elements.keys().cloned().collect();
    let lost = Change::DeleteElements {
        set: name,
        interval: false,
        keys,
    };
    commit(&node, lost);
    assert!(reaches(&other, &at, 8080), "the control: it is open now");
    node.restart();
    let pods = [(&server, "server"), (&client, "client"), (&other, "other")];
    tell_all(&node, &[("server", from("client"))], &pods);
    no_peers(&node);
    eventually("it is as it was", || node.table() == table);
    assert!(!reaches(&other, &at, 8080));
}

#[test]
fn killed_at_each_step_a_pod_is_never_open() {
    for point in [
        FaultPoint::Wired,
        FaultPoint::Isolated,
        FaultPoint::Committed,
        FaultPoint::Enforced,
    ] {
        let armed = Arc::new(AtomicBool::new(false));
        let asked = armed.clone();
        let faults = Faults::at(move |at| at == point && asked.load(Ordering::SeqCst));
        let mut node = started(faults);
        let (client, server) = (Pod::new("client"), Pod::new("server"));
        node.must_add(&client);
        let told = [(&client, "client"), (&server, "server")];
        tell_all(&node, &[("server", from("nobody"))], &told);
        no_peers(&node);
        node.wait_for(|output| matches!(output, Output::Enforced(_)));
        armed.store(true, Ordering::SeqCst);
        // Who does not wait for the answer is not served.
        let mut adding = Some(node.begin_add(&server));
        if point == FaultPoint::Enforced {
            // Not a step of ADD: an update is needed.
            adding.take().map(answer);
            let more = json!({"podSelector": {"matchLabels": {"app": "client"}}});
            set(&node, "more", more);
        }
        eventually("it is dead", || {
            let outputs = &mut node.engine.as_mut().unwrap().outputs;
            matches!(outputs.try_recv(), Err(TryRecvError::Disconnected))
        });
        drop(adding);
        node.restart();
        let at = node.must_add(&server).addresses;
        serve(&server, 8080);
        assert!(!reaches(&client, &at, 8080), "{point:?}");
        tell_all(&node, &[("server", from("client"))], &told);
        no_peers(&node);
        eventually("in force", || reaches(&client, &at, 8080));
    }
}

#[test]
fn without_its_isolation_no_pod_is_let_in() {
    let node = started(Faults::none());
    tell_all(&node, &[("deny", json!({"podSelector": {}}))], &[]);
    let first = Pod::new("a");
    node.must_add(&first);
    commit(&node, Change::DeleteTable);
    let second = Pod::new("b");
    let (_, text) = failure(node.add(&second));
    assert!(text.contains("isolation is not"), "{text}");
    assert!(node.pod_links().len() <= 1, "nothing is left of it");
}

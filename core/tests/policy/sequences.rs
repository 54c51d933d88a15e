//! Random sequences of changes end where telling everything at once ends, transaction by transaction.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use weft_core::policy::Policies;
use weft_core::policy::conformance::{Container, Labelled, Node, Pod, Port, World, WorldNode};
use weft_core::view::Protocol;

/// Pods, half of them on the node that is looked at.
const PODS: usize = 6;
const APPS: [&str; 3] = ["web", "db", "other"];

fn named(kind: &str, name: &str, spec: Value) -> Value {
    json!({"kind": kind, "metadata": {"name": name, "namespace": "a"}, "spec": spec})
}

/// Policies that come and go.
fn templates() -> Vec<Value> {
    let app = |app: &str| json!({"matchLabels": {"app": app}});
    let team = |team: &str| json!({"matchLabels": {"team": team}});
    let pods = |namespaces: Value, pods: Value| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}});
    vec![
        named(
            "NetworkPolicy",
            "from-db",
            json!({"podSelector": app("web"),
            "ingress": [{"from": [{"podSelector": app("db")}], "ports": [{"port": 80}]}]}),
        ),
        named(
            "NetworkPolicy",
            "from-team",
            json!({"podSelector": {},
            "ingress": [{"from": [{"namespaceSelector": team("red")}]}]}),
        ),
        named(
            "NetworkPolicy",
            "from-block",
            json!({"podSelector": app("db"),
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.2/31"]}}],
                "ports": [{"port": 80, "endPort": 200}]}]}),
        ),
        named(
            "NetworkPolicy",
            "out",
            json!({"podSelector": app("other"), "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": app("web")}], "ports": [{"port": "http"}]},
                {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}),
        ),
        named(
            "NetworkPolicy",
            "deny",
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        ),
        named(
            "ClusterNetworkPolicy",
            "nodes",
            json!({"tier": "Admin", "priority": 5,
            "subject": {"namespaces": {}},
            "egress": [{"action": "Deny", "to": [{"nodes": {"matchLabels": {"rack": "1"}}}]}]}),
        ),
        named(
            "ClusterNetworkPolicy",
            "deny-db",
            json!({"tier": "Admin", "priority": 7,
            "subject": pods(json!({}), app("web")).as_object().unwrap(),
            "ingress": [{"action": "Pass", "from": [pods(team("red"), app("db"))]},
                {"action": "Deny", "from": [pods(json!({}), app("db"))],
                    "protocols": [{"tcp": {"destinationPort": {"number": 80}}}]}]}),
        ),
        named(
            "ClusterNetworkPolicy",
            "base",
            json!({"tier": "Baseline", "priority": 1,
            "subject": {"namespaces": team("red")},
            "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}),
        ),
        // The same question as the first one, asked for other pods.
        named(
            "NetworkPolicy",
            "also-from-db",
            json!({"podSelector": app("db"),
            "ingress": [{"from": [{"podSelector": app("db")}]}]}),
        ),
    ]
}

fn labelled(key: &str, value: &str) -> BTreeMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

fn world() -> World {
    let pods = (0..PODS).map(|at| Pod {
        name: format!("p{at}"),
        namespace: if at % 3 == 2 { "b" } else { "a" }.to_owned(),
        labels: labelled("app", APPS[at % 3]),
        ips: vec![IpAddr::from([10, 0, 0, u8::try_from(at).unwrap()])],
        node: if at % 2 == 0 { "n1" } else { "n2" }.to_owned(),
        host_network: false,
        containers: vec![Container {
            ports: vec![Port {
                name: Some("http".to_owned()),
                container_port: 80,
                protocol: "TCP".to_owned(),
            }],
        }],
    });
    let namespace = |name: &str, team: &str| Labelled {
        name: name.to_owned(),
        labels: labelled("team", team),
    };
    let node = |name: &str, at| WorldNode {
        name: name.to_owned(),
        labels: labelled("rack", "0"),
        ips: vec![IpAddr::from([192, 0, 2, at])],
    };
    World {
        pods: pods.collect(),
        namespaces: vec![namespace("a", "red"), namespace("b", "blue")],
        nodes: vec![node("n1", 1), node("n2", 2)],
        policies: Vec::new(),
    }
}

/// A change.
#[derive(Clone, Debug)]
enum Change {
    Policy(usize),
    App(usize, usize),
    Presence(usize),
    Team(usize),
    Rack(usize),
    /// What was said so far goes into the kernel.
    Compile,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (0..templates().len()).prop_map(Change::Policy),
        2 => (0..PODS, 0..APPS.len()).prop_map(|(pod, app)| Change::App(pod, app)),
        2 => (0..PODS).prop_map(Change::Presence),
        1 => (0..2_usize).prop_map(Change::Team),
        1 => (0..2_usize).prop_map(Change::Rack),
        3 => Just(Change::Compile),
    ];
    prop::collection::vec(change, 1..40)
}

/// Changes the world.
fn make(world: &mut World, change: &Change) {
    let turn = |labels: &mut BTreeMap<String, String>, key: &str, values: [&str; 2]| {
        let [one, other] = values;
        let now = if labels[key] == one { other } else { one };
        *labels = labelled(key, now);
    };
    match change {
        Change::Policy(number) => {
            let policy = templates().swap_remove(*number);
            match world.policies.iter().position(|known| *known == policy) {
                Some(at) => drop(world.policies.remove(at)),
                None => world.policies.push(policy),
            }
        }
        Change::App(at, app) => world.pods[*at].labels = labelled("app", APPS[*app]),
        // A pod that is gone is one without a network of its own.
        Change::Presence(at) => world.pods[*at].host_network ^= true,
        Change::Team(at) => turn(&mut world.namespaces[*at].labels, "team", ["red", "blue"]),
        Change::Rack(at) => turn(&mut world.nodes[*at].labels, "rack", ["0", "1"]),
        Change::Compile => {}
    }
}

/// Who may ask whom, by the table.
fn answers(node: &Node, world: &World) -> Vec<bool> {
    let judge = node.judge();
    let pods = world.pods.iter().filter(|pod| !pod.host_network);
    let nodes = world.nodes.iter().filter(|node| node.name != "n1");
    let places: Vec<IpAddr> = pods
        .flat_map(|pod| pod.ips.clone())
        .chain(nodes.flat_map(|node| node.ips.clone()))
        .chain([IpAddr::from([203, 0, 113, 1])])
        .collect();
    let mut answers = Vec::new();
    for from in &places {
        for to in &places {
            for port in [80, 443] {
                answers.push(judge.passes(*from, *to, Protocol::Tcp, port).unwrap());
            }
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn sequences_end_where_telling_all_at_once_ends(changes in changes()) {
        let mut world = world();
        let mut node = Node::in_world("n1", &world).unwrap();
        for change in changes.iter().chain([&Change::Compile]) {
            make(&mut world, change);
            if !matches!(change, Change::Compile) {
                continue;
            }
            node.go_to(&world).unwrap();
            prop_assert_eq!(node.drifted(), Vec::<String>::new());
            let fresh = Node::in_world("n1", &world).unwrap();
            prop_assert_eq!(answers(&node, &world), answers(&fresh, &world), "{:?}", &world);
        }
    }
}

#[test]
fn nodes_have_identities_when_the_first_rule_about_them_comes_after_one_about_pods() {
    let mut world = world();
    make(&mut world, &Change::Policy(0));
    make(&mut world, &Change::Rack(1));
    let mut node = Node::in_world("n1", &world).unwrap();
    make(&mut world, &Change::Policy(5));
    node.go_to(&world).unwrap();
    let pod = world.pods[0].ips[0];
    let asks = |policies: &Policies, to: [u8; 4]| policies.allows(pod, to.into(), 6, 443);
    let policies = node.policies();
    assert!(!asks(policies, [192, 0, 2, 2]), "a node that is denied");
    assert!(asks(policies, [192, 0, 2, 1]), "another one");
}

#[test]
fn what_another_pod_asks_from_now_on_keeps_its_class() {
    let mut world = world();
    make(&mut world, &Change::Policy(0));
    let mut node = Node::in_world("n1", &world).unwrap();
    // The one who asked goes, and somebody else asks the same, in one update.
    make(&mut world, &Change::Policy(0));
    make(&mut world, &Change::Policy(8));
    let batches = node.go_to(&world).unwrap();
    let sets = batches.iter().flat_map(|batch| &batch.changes);
    let touches_classes = |change: &weft_nft::Change| match change {
        weft_nft::Change::AddElements { set, .. }
        | weft_nft::Change::DeleteElements { set, .. } => {
            set == "classes" || set.starts_with("identities")
        }
        _ => false,
    };
    assert!(!batches.is_empty());
    assert_eq!(sets.filter(|change| touches_classes(change)).count(), 0);
}

#[test]
fn a_pod_elsewhere_that_is_like_another_is_one_element() {
    let mut world = world();
    make(&mut world, &Change::Policy(0));
    let mut node = Node::in_world("n1", &world).unwrap();
    let like = world.pods[1].clone();
    world.pods.push(Pod {
        name: "late".to_owned(),
        ips: vec![IpAddr::from([10, 0, 0, 77])],
        ..like
    });
    for there in [true, false] {
        let batches = node.go_to(&world).unwrap();
        let [batch] = batches.as_slice() else {
            panic!("{batches:?}");
        };
        let (set, count) = match batch.changes.as_slice() {
            [weft_nft::Change::AddElements { set, elements, .. }] if there => (set, elements.len()),
            [weft_nft::Change::DeleteElements { set, keys, .. }] if !there => (set, keys.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!((set.as_str(), count), ("identities4", 1));
        world.pods.pop();
    }
}

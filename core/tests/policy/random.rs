//! Random clusters, and random ways from one to the next: tables that were changed step by step do what
//! the API's prose says of the last state.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use weft_core::policy::conformance::{Combined, Judge, Node, Row, World, steps};

use super::oracle;

/// Pods of the universe; a world has some of them.
const PODS: usize = 7;
const NODES: [&str; 2] = ["one", "two"];
/// Networks that lie within each other.
const NETWORKS: [&str; 6] = [
    "0.0.0.0/0",
    "10.0.0.0/16",
    "10.0.0.0/24",
    "10.0.0.0/29",
    "10.0.0.4/30",
    "192.0.2.0/24",
];
const OUTSIDE: [&str; 2] = ["192.0.2.7", "198.51.100.1"];
const QUESTIONS: [(&str, u16); 4] = [("TCP", 80), ("TCP", 8080), ("UDP", 80), ("SCTP", 81)];

fn selector() -> impl Strategy<Value = Value> {
    let value = 0..3_usize;
    prop_oneof![
        2 => Just(json!({})),
        4 => value.clone().prop_map(|v| json!({"matchLabels": {"l": format!("v{v}")}})),
        1 => value.clone().prop_map(|v| json!({"matchExpressions": [
            {"key": "l", "operator": "NotIn", "values": [format!("v{v}")]}]})),
        1 => value.prop_map(|v| json!({"matchExpressions": [
            {"key": "l", "operator": "In", "values": [format!("v{v}"), "v0"]},
            {"key": "gone", "operator": "DoesNotExist"}]})),
    ]
}

fn network() -> impl Strategy<Value = Value> {
    (0..NETWORKS.len(), 0..NETWORKS.len(), any::<bool>()).prop_map(|(at, other, less)| {
        // An exception lies within: the later of two nested ones.
        let (cidr, except) = (NETWORKS[at], NETWORKS[other]);
        let is_within = at < other && (at == 0 || other < 5);
        if less && is_within {
            json!({"cidr": cidr, "except": [except]})
        } else {
            json!({"cidr": cidr})
        }
    })
}

fn network_peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|s| json!({"podSelector": s})),
        selector().prop_map(|s| json!({"namespaceSelector": s})),
        (selector(), selector())
            .prop_map(|(n, p)| json!({"namespaceSelector": n, "podSelector": p})),
        network().prop_map(|block| json!({"ipBlock": block})),
    ]
}

fn network_port() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"protocol": "TCP"})),
        Just(json!({"port": 80})),
        Just(json!({"port": "web"})),
        Just(json!({"protocol": "UDP", "port": "web"})),
        Just(json!({"port": 79, "endPort": 90})),
        Just(json!({"port": 80, "endPort": 9000})),
        Just(json!({"protocol": "SCTP", "port": 81})),
    ]
}

fn network_rules(side: &'static str) -> impl Strategy<Value = Value> {
    let peers = prop::option::of(prop::collection::vec(network_peer(), 0..3));
    let ports = prop::option::of(prop::collection::vec(network_port(), 0..3));
    let rule = (peers, ports).prop_map(move |(peers, ports)| {
        let mut rule = json!({});
        if let Some(peers) = peers {
            rule[side] = peers.into();
        }
        if let Some(ports) = ports {
            rule["ports"] = ports.into();
        }
        rule
    });
    prop::collection::vec(rule, 0..3).prop_map(Value::from)
}

fn network_policy() -> impl Strategy<Value = Value> {
    let types = prop_oneof![
        Just(json!(null)),
        Just(json!(["Ingress"])),
        Just(json!(["Egress"])),
        Just(json!(["Ingress", "Egress"])),
    ];
    let rules = (network_rules("from"), network_rules("to"));
    (0..3_usize, selector(), types, rules).prop_map(|(namespace, pods, types, (ingress, egress))| {
        let mut spec = json!({"podSelector": pods, "ingress": ingress, "egress": egress});
        if !types.is_null() {
            spec["policyTypes"] = types;
        }
        json!({"kind": "NetworkPolicy", "metadata": {"namespace": format!("n{namespace}")}, "spec": spec})
    })
}

fn cluster_pods() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|s| json!({"namespaces": s})),
        (selector(), selector())
            .prop_map(|(n, p)| json!({"pods": {"namespaceSelector": n, "podSelector": p}})),
    ]
}

fn cluster_rules(ingress: bool) -> impl Strategy<Value = Value> {
    let peer = if ingress {
        cluster_pods().boxed()
    } else {
        prop_oneof![
            3 => cluster_pods(),
            1 => selector().prop_map(|s| json!({"nodes": s})),
            2 => (0..NETWORKS.len()).prop_map(|at| json!({"networks": [NETWORKS[at]]})),
        ]
        .boxed()
    };
    let protocol = prop_oneof![
        Just(json!({"tcp": {}})),
        Just(json!({"tcp": {"destinationPort": {"number": 80}}})),
        Just(json!({"udp": {"destinationPort": {"range": {"start": 1, "end": 100}}}})),
        Just(json!({"destinationNamedPort": "web"})),
    ];
    let action = prop::sample::select(vec!["Accept", "Deny", "Pass"]);
    let protocols = prop::option::of(prop::collection::vec(protocol, 1..3));
    let rule = (action, prop::collection::vec(peer, 1..3), protocols);
    let rule = rule.prop_map(move |(action, peers, protocols)| {
        let mut rule = json!({"action": action});
        rule[if ingress { "from" } else { "to" }] = peers.into();
        if let Some(protocols) = protocols {
            rule["protocols"] = protocols.into();
        }
        rule
    });
    prop::collection::vec(rule, 0..3).prop_map(Value::from)
}

fn cluster_policy() -> impl Strategy<Value = Value> {
    let tier = prop::sample::select(vec!["Admin", "Baseline"]);
    let rules = (cluster_rules(true), cluster_rules(false));
    (tier, cluster_pods(), rules).prop_map(|(tier, subject, (ingress, egress))| {
        json!({"kind": "ClusterNetworkPolicy", "metadata": {}, "spec": {
            "tier": tier, "subject": subject, "ingress": ingress, "egress": egress}})
    })
}

/// Policies by name; the priority of each is its own.
fn policies() -> impl Strategy<Value = Vec<Value>> {
    let policy = prop_oneof![3 => network_policy(), 2 => cluster_policy()];
    prop::collection::vec(policy, 1..7).prop_map(|mut policies| {
        for (at, policy) in policies.iter_mut().enumerate() {
            policy["metadata"]["name"] = format!("p{at}").into();
            if policy["kind"] == "ClusterNetworkPolicy" {
                policy["spec"]["priority"] = ((at * 7) % 11).into();
            }
        }
        policies
    })
}

/// What of the universe is in a world.
#[derive(Clone, Debug)]
struct Choice {
    /// For each pod: whether it is there, its label, what it calls `web`.
    pods: Vec<(bool, usize, usize)>,
    /// Labels of namespaces and of nodes.
    labels: Vec<usize>,
    /// For each policy, whether it is in force.
    policies: Vec<bool>,
}

fn choice() -> impl Strategy<Value = Choice> {
    let pod = (prop::bool::weighted(0.8), 0..3_usize, 0..3_usize);
    let pods = prop::collection::vec(pod, PODS);
    let labels = prop::collection::vec(0..3_usize, 5);
    let policies = prop::collection::vec(prop::bool::weighted(0.7), 7);
    (pods, labels, policies).prop_map(|(pods, labels, policies)| Choice {
        pods,
        labels,
        policies,
    })
}

fn world(choice: &Choice, policies: &[Value]) -> World {
    let Choice {
        pods,
        labels,
        policies: in_force,
    } = choice;
    let label = |value: usize| json!({"l": format!("v{value}")});
    let there = pods.iter().enumerate().filter(|(_, (there, ..))| *there);
    let pods: Vec<Value> = there
        .map(|(at, (_, value, port))| {
            let port = match port {
                0 => json!({"name": "web", "containerPort": 80, "protocol": "TCP"}),
                1 => json!({"name": "web", "containerPort": 8080, "protocol": "TCP"}),
                _ => json!({"name": "web", "containerPort": 80, "protocol": "UDP"}),
            };
            json!({
                "name": format!("p{at}"), "namespace": format!("n{}", at % 3), "labels": label(*value),
                "ips": [format!("10.0.0.{}", at + 1)], "node": NODES[at % 2], "containers": [{"ports": [port]}],
            })
        })
        .collect();
    let namespaces: Vec<Value> = (0..3)
        .map(|at| json!({"name": format!("n{at}"), "labels": label(labels[at])}))
        .collect();
    let nodes: Vec<Value> = (0..2)
        .map(|at| {
            json!({"name": NODES[at], "labels": label(labels[3 + at]), "ips": [format!("172.16.0.{}", at + 1)]})
        })
        .collect();
    let policies = policies.iter().zip(in_force);
    let policies: Vec<&Value> = policies.filter(|(_, is)| **is).map(|(p, _)| p).collect();
    let file = json!({
        "cluster": {"pods": pods, "namespaces": namespaces, "nodes": nodes},
        "steps": [{"case": "random", "policies": policies, "rows": []}],
    });
    steps(&file).unwrap().remove(0).world
}

/// All questions that have an answer.
fn rows(world: &World) -> Vec<Row> {
    let pods: Vec<String> = world.pods.iter().map(|pod| pod.id()).collect();
    let nodes = world.nodes.iter().map(|node| node.ips[0].to_string());
    let mut ends = pods.clone();
    ends.extend(nodes);
    ends.extend(OUTSIDE.map(str::to_owned));
    let node_of = |end: &str| {
        let own = world
            .nodes
            .iter()
            .find(|node| node.ips[0].to_string() == end);
        match world.pod(end) {
            Some(pod) => Some(pod.node.clone()),
            None => own.map(|node| node.name.clone()),
        }
    };
    let mut rows = Vec::new();
    for from in &ends {
        for to in &ends {
            let both_outside = !pods.contains(from) && !pods.contains(to);
            // A node always reaches its own pods.
            let own_node =
                !pods.contains(from) && node_of(from).is_some() && node_of(from) == node_of(to);
            if from == to || both_outside || own_node {
                continue;
            }
            rows.extend(QUESTIONS.map(|(proto, port)| Row {
                from: from.clone(),
                to: to.clone(),
                port,
                proto: proto.to_owned(),
                family: Some(4),
                combined: Combined::Allowed,
            }));
        }
    }
    rows
}

fn agree(nodes: &BTreeMap<&str, Node>, world: &World) -> Result<(), TestCaseError> {
    let judges: Vec<Judge<'_>> = nodes.values().map(Node::judge).collect();
    for row in rows(world) {
        let ends = [&row.from, &row.to].map(|end| world.address(end, 4).unwrap());
        let expected = oracle::allows(world, &row, 4);
        let mut all = judges.iter();
        let got = all.all(|judge| {
            let passes = judge.passes(ends[0], ends[1], row.protocol(), row.port);
            passes.unwrap()
        });
        prop_assert_eq!(got, expected, "{}", row);
        let number = weft_core::policy::protocol_number(row.protocol());
        let mut all = nodes.values().map(Node::policies);
        let got = all.all(|policies| policies.allows(ends[0], ends[1], number, row.port));
        prop_assert_eq!(got, expected, "{} as connections are judged", row);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn after_any_changes_tables_do_what_the_prose_says(
        policies in policies(),
        choices in prop::collection::vec(choice(), 1..5),
    ) {
        let mut nodes: BTreeMap<&str, Node> = NODES.map(|name| (name, Node::new(name))).into();
        for choice in &choices {
            let world = world(choice, &policies);
            for node in nodes.values_mut() {
                node.go_to(&world).unwrap();
                prop_assert_eq!(node.drifted(), Vec::<String>::new());
            }
            agree(&nodes, &world)?;
        }
    }
}

/// The generator makes both verdicts, often.
#[test]
fn random_clusters_allow_and_deny() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = [0, 0];
    for _ in 0..12 {
        let (policies, choice) = (policies(), choice())
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let world = world(&choice, &policies);
        for row in rows(&world) {
            seen[usize::from(oracle::allows(&world, &row, 4))] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 200), "{seen:?}");
}

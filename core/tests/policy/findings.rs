//! Policies that cannot do what they seem to, and as many that can: what is found in each.

use serde_json::{Value, json};
use weft_core::policy::PolicyName;
use weft_core::policy::conformance::{Node, steps};

/// What is found when this policy is in force, in a small cluster.
fn found(policy: &Value) -> Vec<String> {
    let pod = |name: &str, app: &str, ip: &str, port: Value| {
        json!({
            "name": name, "namespace": "shop", "labels": {"app": app}, "ips": [ip], "node": "one",
            "containers": [{"ports": [port]}],
        })
    };
    let world = json!({
        "cluster": {
            "pods": [
                pod("web", "web", "10.0.0.1", json!({"name": "http", "containerPort": 80, "protocol": "TCP"})),
                pod("db", "db", "10.0.0.2", json!({"name": "sql", "containerPort": 5432, "protocol": "TCP"})),
            ],
            "namespaces": [{"name": "shop", "labels": {"team": "a"}}],
            "nodes": [{"name": "one", "labels": {"role": "edge"}, "ips": ["192.0.2.1"]}],
        },
        "steps": [{"case": "it", "policies": [policy], "rows": []}],
    });
    let step = steps(&world).unwrap().remove(0);
    let node = Node::in_world("one", &step.world).unwrap();
    let metadata = &policy["metadata"];
    let name = metadata["name"].as_str().unwrap();
    let name = match metadata["namespace"].as_str() {
        Some(namespace) => PolicyName::network(namespace, name),
        None => PolicyName::cluster(name),
    };
    let mut found = node.policies().findings(&name);
    for key in node.keys() {
        found.extend(node.policies().findings_of_pod(&key));
    }
    let found = found.iter();
    found
        .map(|finding| format!("{} {finding}", finding.reason()))
        .collect()
}

fn network(spec: &Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
}

fn web(direction: &str, rule: &Value) -> Value {
    let mut spec = json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": [if direction == "ingress" { "Ingress" } else { "Egress" }],
    });
    spec[direction] = json!([rule]);
    network(&spec)
}

fn cluster(rule: &Value) -> Value {
    json!({
        "kind": "ClusterNetworkPolicy", "metadata": {"name": "c"},
        "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [rule]},
    })
}

/// A policy, and words of each thing that is found in it.
fn table() -> Vec<(Value, Vec<[&'static str; 2]>)> {
    let dns = json!({"ports": [{"port": 53, "protocol": "UDP"}]});
    let nodes =
        |role: &str| json!({"action": "Deny", "to": [{"nodes": {"matchLabels": {"role": role}}}]});
    vec![
        (
            network(&json!({"podSelector": {"matchLabels": {"app": "wbe"}}})),
            vec![[
                "SelectsNothing",
                "spec.podSelector (pods app=wbe in namespace shop)",
            ]],
        ),
        (network(&json!({"podSelector": {}})), vec![]),
        (
            web(
                "ingress",
                &json!({"from": [{"podSelector": {"matchLabels": {"app": "bd"}}}, {"podSelector": {}}]}),
            ),
            vec![[
                "SelectsNothing",
                "spec.ingress[0].from (pods app=bd in namespace shop)",
            ]],
        ),
        (
            web(
                "ingress",
                &json!({"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}),
            ),
            vec![["SelectsNothing", "all pods in namespaces team=b"]],
        ),
        (
            web(
                "ingress",
                &json!({"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}),
            ),
            vec![],
        ),
        (
            web(
                "ingress",
                &json!({"ports": [{"port": "https", "protocol": "TCP"}]}),
            ),
            vec![["NoSuchPort", "spec.ingress[0].ports names port \"https\""]],
        ),
        // The pod has the name for another protocol; another pod has it.
        (
            web(
                "ingress",
                &json!({"ports": [{"port": "http", "protocol": "UDP"}]}),
            ),
            vec![["NoSuchPort", "\"http\""]],
        ),
        (
            web(
                "ingress",
                &json!({"ports": [{"port": "sql", "protocol": "TCP"}]}),
            ),
            vec![["NoSuchPort", "\"sql\""]],
        ),
        (
            web(
                "ingress",
                &json!({"ports": [{"port": "http", "protocol": "TCP"}]}),
            ),
            vec![],
        ),
        // Of egress, the other side has the name.
        (
            web(
                "egress",
                &json!({
                    "to": [{"podSelector": {"matchLabels": {"app": "db"}}}],
                    "ports": [{"port": "http", "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                }),
            ),
            vec![["NoSuchPort", "spec.egress[0].ports names port \"http\""]],
        ),
        (
            web(
                "egress",
                &json!({
                    "to": [{"podSelector": {"matchLabels": {"app": "db"}}}],
                    "ports": [{"port": "sql", "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                }),
            ),
            vec![],
        ),
        (
            web(
                "ingress",
                &json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.0/28", "10.0.1.0/24"]}}]}),
            ),
            vec![[
                "ExceptOutside",
                "leaves out 10.0.1.0/24, which is not within 10.0.0.0/24",
            ]],
        ),
        (
            web(
                "egress",
                &json!({"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 5432}]}),
            ),
            vec![["EgressWithoutDNS", "Pod shop/web: NetworkPolicy shop/p"]],
        ),
        // Nothing is allowed at all: whoever wrote it meant that. And with DNS there is nothing to say.
        (
            network(&json!({"podSelector": {}, "policyTypes": ["Egress"]})),
            vec![],
        ),
        (web("egress", &dns), vec![]),
        (web("egress", &json!({})), vec![]),
        (
            cluster(&nodes("core")),
            vec![["SelectsNothing", "spec.egress[0].to (nodes role=core)"]],
        ),
        (cluster(&nodes("edge")), vec![]),
    ]
}

#[test]
fn each_policy_has_the_findings_of_its_row() {
    for (policy, expected) in table() {
        let found = found(&policy);
        assert_eq!(found.len(), expected.len(), "{policy}: {found:?}");
        for (finding, words) in found.iter().zip(&expected) {
            let has = |word: &&str| finding.contains(*word);
            assert!(words.iter().all(has), "{policy}: {finding} lacks {words:?}");
        }
    }
}

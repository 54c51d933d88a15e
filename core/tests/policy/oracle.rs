//! The naive oracle: one question at a time, answered from the API's prose on the objects as they were written.
//!
//! It shares nothing with the code that it judges: no parsing, no selectors, no classes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use weft_core::policy::conformance::{Pod, Row, World};

type Labels = BTreeMap<String, String>;

/// A connection.
struct Question<'a> {
    world: &'a World,
    source: IpAddr,
    destination: IpAddr,
    from: Option<&'a Pod>,
    to: Option<&'a Pod>,
    protocol: &'a str,
    port: u16,
}

/// Whether a connection is allowed by its source's side and by its destination's.
pub fn allows(world: &World, row: &Row, family: u8) -> bool {
    let question = Question {
        world,
        source: world.address(&row.from, family).unwrap(),
        destination: world.address(&row.to, family).unwrap(),
        from: world.pod(&row.from),
        to: world.pod(&row.to),
        protocol: &row.proto,
        port: row.port,
    };
    let subject = |pod: Option<&Pod>| pod.is_some_and(|pod| !pod.host_network);
    (!subject(question.from) || question.side("egress"))
        && (!subject(question.to) || question.side("ingress"))
}

impl Question<'_> {
    fn side(&self, direction: &str) -> bool {
        let subject = if direction == "egress" {
            self.from
        } else {
            self.to
        };
        let subject = subject.unwrap();
        if let Some(decided) = self.tier("Admin", direction, subject) {
            return decided;
        }
        let policies = self.world.policies.iter();
        let mut isolating = policies
            .filter(|policy| policy["kind"] == "NetworkPolicy")
            .filter(|policy| self.is_isolated_by(policy, direction, subject))
            .peekable();
        if isolating.peek().is_some() {
            return isolating.any(|policy| {
                let rules = list(&policy["spec"][direction]);
                let namespace = policy["metadata"]["namespace"].as_str().unwrap();
                rules
                    .iter()
                    .any(|rule| self.network_rule(rule, direction, namespace))
            });
        }
        self.tier("Baseline", direction, subject).unwrap_or(true)
    }

    fn tier(&self, tier: &str, direction: &str, subject: &Pod) -> Option<bool> {
        let policies = self.world.policies.iter();
        let mut policies: Vec<&Value> = policies
            .filter(|policy| {
                policy["kind"] == "ClusterNetworkPolicy" && policy["spec"]["tier"] == tier
            })
            .collect();
        policies.sort_by_key(|policy| policy["spec"]["priority"].as_i64().unwrap());
        for policy in policies {
            if !self.is_peer_pod(&policy["spec"]["subject"], Some(subject)) {
                continue;
            }
            for rule in list(&policy["spec"][direction]) {
                if !self.cluster_rule(rule, direction) {
                    continue;
                }
                return match rule["action"].as_str().unwrap() {
                    "Accept" => Some(true),
                    "Deny" => Some(false),
                    _ => None,
                };
            }
        }
        None
    }

    fn is_isolated_by(&self, policy: &Value, direction: &str, subject: &Pod) -> bool {
        let spec = &policy["spec"];
        let types = list(&spec["policyTypes"]);
        let about = if types.is_empty() {
            direction == "ingress" || !list(&spec["egress"]).is_empty()
        } else {
            types
                .iter()
                .any(|kind| kind.as_str().unwrap().to_lowercase() == direction)
        };
        about
            && policy["metadata"]["namespace"] == subject.namespace.as_str()
            && selects(&spec["podSelector"], &subject.labels)
    }

    fn other(&self, direction: &str) -> (IpAddr, Option<&Pod>) {
        match direction {
            "egress" => (self.destination, self.to),
            _ => (self.source, self.from),
        }
    }

    fn network_rule(&self, rule: &Value, direction: &str, namespace: &str) -> bool {
        let peers = list(&rule[if direction == "egress" { "to" } else { "from" }]);
        let ports = list(&rule["ports"]);
        let (address, pod) = self.other(direction);
        let peer = peers.is_empty()
            || peers.iter().any(|peer| {
                if let Some(block) = peer.get("ipBlock") {
                    return within(&block["cidr"], address)
                        && !list(&block["except"])
                            .iter()
                            .any(|net| within(net, address));
                }
                let Some(pod) = pod.filter(|pod| !pod.host_network) else {
                    return false;
                };
                let there = match peer.get("namespaceSelector") {
                    Some(selector) => self.in_namespaces(selector, pod),
                    None => pod.namespace == namespace,
                };
                let selector = peer.get("podSelector");
                there && selector.is_none_or(|selector| selects(selector, &pod.labels))
            });
        let port = ports.is_empty()
            || ports.iter().any(|port| {
                if port["protocol"].as_str().unwrap_or("TCP") != self.protocol {
                    return false;
                }
                match (&port["port"], &port["endPort"]) {
                    (Value::Null, _) => true,
                    (Value::String(name), _) => self.is_named(name, true),
                    (first, Value::Null) => first.as_u64() == Some(self.port.into()),
                    (first, last) => {
                        let range = first.as_u64().unwrap()..=last.as_u64().unwrap();
                        range.contains(&self.port.into())
                    }
                }
            });
        peer && port
    }

    fn cluster_rule(&self, rule: &Value, direction: &str) -> bool {
        let peers = list(&rule[if direction == "egress" { "to" } else { "from" }]);
        let (address, pod) = self.other(direction);
        let peer = peers.iter().any(|peer| {
            if let Some(selector) = peer.get("nodes") {
                let nodes = self.world.nodes.iter();
                let mut selected = nodes.filter(|node| selects(selector, &node.labels));
                return selected.any(|node| node.ips.contains(&address));
            }
            if let Some(networks) = peer.get("networks") {
                return list(networks).iter().any(|net| within(net, address));
            }
            self.is_peer_pod(peer, pod)
        });
        let protocols = list(&rule["protocols"]);
        let port = protocols.is_empty()
            || protocols.iter().any(|protocol| {
                if let Some(name) = protocol.get("destinationNamedPort") {
                    return self.is_named(name.as_str().unwrap(), true);
                }
                let Some(of) = protocol.get(self.protocol.to_lowercase()) else {
                    return false;
                };
                let Some(port) = of.get("destinationPort") else {
                    return true;
                };
                match port.get("range") {
                    None => port["number"].as_u64() == Some(self.port.into()),
                    Some(range) => {
                        let range =
                            range["start"].as_u64().unwrap()..=range["end"].as_u64().unwrap();
                        range.contains(&self.port.into())
                    }
                }
            });
        peer && port
    }

    /// `namespaces` or `pods` of a ClusterNetworkPolicy, as subject or peer.
    fn is_peer_pod(&self, of: &Value, pod: Option<&Pod>) -> bool {
        let Some(pod) = pod.filter(|pod| !pod.host_network) else {
            return false;
        };
        match (of.get("namespaces"), of.get("pods")) {
            (Some(selector), _) => self.in_namespaces(selector, pod),
            (None, Some(both)) => {
                let namespaces = both.get("namespaceSelector");
                let pods = both.get("podSelector");
                namespaces.is_none_or(|selector| self.in_namespaces(selector, pod))
                    && pods.is_none_or(|selector| selects(selector, &pod.labels))
            }
            (None, None) => false,
        }
    }

    fn in_namespaces(&self, selector: &Value, pod: &Pod) -> bool {
        let mut namespaces = self.world.namespaces.iter();
        let own = namespaces.find(|namespace| namespace.name == pod.namespace);
        own.is_some_and(|namespace| selects(selector, &namespace.labels))
    }

    /// Whether the destination calls the port so, over the connection's protocol.
    fn is_named(&self, name: &str, pods_only: bool) -> bool {
        let to = self.to.filter(|pod| !(pods_only && pod.host_network));
        let ports = to
            .into_iter()
            .flat_map(|pod| &pod.containers)
            .flat_map(|c| &c.ports);
        let mut named = ports.filter(|port| port.name.as_deref() == Some(name));
        named.any(|port| port.protocol == self.protocol && port.container_port == self.port)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn within(net: &Value, address: IpAddr) -> bool {
    let net: IpNet = net.as_str().unwrap().parse().unwrap();
    net.contains(&address)
}

fn selects(selector: &Value, labels: &Labels) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = list(&selector["matchExpressions"]).iter();
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
        && expressions.all(|expression| {
            let value = labels.get(expression["key"].as_str().unwrap());
            let listed = value.is_some_and(|value| {
                list(&expression["values"])
                    .iter()
                    .any(|listed| listed == value.as_str())
            });
            match expression["operator"].as_str().unwrap() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                other => panic!("operator {other}"),
            }
        })
}

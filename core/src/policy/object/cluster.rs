//! From a `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy to a [`Policy`].
//!
//! The object's own types, as far as they are read. A peer or protocol that is not understood
//! (a field of a later version, or `domainNames`, which this node cannot serve) fails closed as the API
//! asks: an Accept rule does not match by it, a Deny or Pass rule denies everything.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

use super::network::Reader;
use super::{
    Action, Namespaces, Network, Parsed, Peer, Pods, Policy, PortMatch, PortsOf, Rule, Tier,
};
use crate::policy::selector::Selector;
use crate::view::Protocol;

/// The largest priority (CRD: `spec.priority`).
const LOWEST_PRIORITY: u16 = 1000;

/// A ClusterNetworkPolicy as the API sends it, less what nobody reads.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct ClusterNetworkPolicy {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What its author wants.
    #[serde(default)]
    pub spec: Spec,
}

/// `spec`
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    tier: String,
    priority: i64,
    subject: Option<Subject>,
    ingress: Vec<WrittenRule>,
    egress: Vec<WrittenRule>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    namespaces: Option<LabelSelector>,
    pods: Option<NamespacedPod>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct NamespacedPod {
    namespace_selector: LabelSelector,
    pod_selector: LabelSelector,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenRule {
    action: String,
    from: Vec<WrittenPeer>,
    to: Vec<WrittenPeer>,
    protocols: Option<Vec<WrittenProtocol>>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenPeer {
    namespaces: Option<LabelSelector>,
    pods: Option<NamespacedPod>,
    nodes: Option<LabelSelector>,
    networks: Option<Vec<String>>,
    domain_names: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenProtocol {
    tcp: Option<WrittenPorts>,
    udp: Option<WrittenPorts>,
    sctp: Option<WrittenPorts>,
    destination_named_port: Option<String>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenPorts {
    destination_port: Option<WrittenPort>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenPort {
    number: Option<i32>,
    range: Option<WrittenRange>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenRange {
    start: i32,
    end: i32,
}

/// Takes what policies are judged by out of the object.
#[must_use]
pub fn cluster_network_policy(object: &ClusterNetworkPolicy) -> Parsed {
    let ClusterNetworkPolicy { metadata, spec } = object;
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut reader = Reader::new("ClusterNetworkPolicy", name);
    let policy = policy(&mut reader, spec);
    reader.finish(policy)
}

fn policy(reader: &mut Reader, spec: &Spec) -> Option<Policy> {
    let Spec {
        tier,
        priority,
        subject,
        ingress,
        egress,
    } = spec;
    let level = u16::try_from(*priority)
        .ok()
        .filter(|level| *level <= LOWEST_PRIORITY);
    let Some(level) = level else {
        reader.reject(
            "spec.priority".to_owned(),
            &priority.to_string(),
            "write a number from 0 to 1000",
        );
        return None;
    };
    let tier = match tier.as_str() {
        "Admin" => Tier::Admin(level),
        "Baseline" => Tier::Baseline(level),
        other => {
            reader.reject("spec.tier".to_owned(), other, "write Admin or Baseline");
            return None;
        }
    };
    let subject = self::subject(reader, subject.as_ref().unwrap_or(&Subject::default()))?;
    let mut rules = |direction: &str, list: &[WrittenRule]| -> Option<Box<[Rule]>> {
        let list = list.iter().enumerate();
        let read: Option<Box<[Rule]>> = list
            .map(|(at, rule)| self::rule(reader, &format!("spec.{direction}[{at}]"), rule))
            .collect();
        read
    };
    let ingress = rules("ingress", ingress)?;
    let egress = rules("egress", egress)?;
    Some(Policy {
        tier,
        subject,
        ingress: (!ingress.is_empty()).then_some(ingress),
        egress: (!egress.is_empty()).then_some(egress),
    })
}

fn subject(reader: &mut Reader, subject: &Subject) -> Option<Pods> {
    match (&subject.namespaces, &subject.pods) {
        (Some(namespaces), None) => Some(Pods {
            namespaces: Namespaces::Matching(
                reader.selector("spec.subject.namespaces", namespaces)?,
            ),
            pods: Selector::default(),
        }),
        (None, Some(pods)) => self::pods(reader, "spec.subject.pods", pods),
        _ => {
            let remedy = "write either namespaces or pods";
            reader.reject("spec.subject".to_owned(), "not one field", remedy);
            None
        }
    }
}

fn pods(reader: &mut Reader, field: &str, pods: &NamespacedPod) -> Option<Pods> {
    let namespaces = format!("{field}.namespaceSelector");
    Some(Pods {
        namespaces: Namespaces::Matching(reader.selector(&namespaces, &pods.namespace_selector)?),
        pods: reader.selector(&format!("{field}.podSelector"), &pods.pod_selector)?,
    })
}

fn rule(reader: &mut Reader, field: &str, rule: &WrittenRule) -> Option<Rule> {
    let WrittenRule {
        action,
        from,
        to,
        protocols,
    } = rule;
    let action = match action.as_str() {
        "Accept" => Action::Accept,
        "Deny" => Action::Deny,
        "Pass" => Action::Pass,
        other => {
            reader.reject(
                format!("{field}.action"),
                other,
                "write Accept, Deny or Pass",
            );
            return None;
        }
    };
    let ingress = field.starts_with("spec.ingress");
    let (side, written) = if ingress { ("from", from) } else { ("to", to) };
    let mut understood = true;
    let mut peers = Vec::new();
    for (at, peer) in written.iter().enumerate() {
        match self::peer(reader, &format!("{field}.{side}[{at}]"), peer, ingress) {
            Some(more) => peers.extend(more),
            None => understood = false,
        }
    }
    if written.is_empty() {
        reader.reject(format!("{field}.{side}"), "[]", "name at least one peer");
        understood = false;
    }
    let mut ports = Vec::new();
    for (at, protocol) in protocols.iter().flatten().enumerate() {
        match self::protocol(reader, &format!("{field}.protocols[{at}]"), protocol) {
            Some(port) => ports.push(port),
            None => understood = false,
        }
    }
    Some(match (action, understood) {
        (Action::Deny | Action::Pass, false) => Rule {
            action: Action::Deny,
            peers: None,
            ports: None,
        },
        _ => Rule {
            action,
            peers: Some(peers.into()),
            ports: protocols.is_some().then(|| ports.into()),
        },
    })
}

fn peer(reader: &mut Reader, field: &str, peer: &WrittenPeer, ingress: bool) -> Option<Vec<Peer>> {
    let WrittenPeer {
        namespaces,
        pods,
        nodes,
        networks,
        domain_names,
    } = peer;
    match (namespaces, pods, nodes, networks, domain_names) {
        (Some(namespaces), None, None, None, None) => {
            let namespaces = reader.selector(&format!("{field}.namespaces"), namespaces)?;
            Some(vec![Peer::Pods(Pods {
                namespaces: Namespaces::Matching(namespaces),
                pods: Selector::default(),
            })])
        }
        (None, Some(pods), None, None, None) => Some(vec![Peer::Pods(self::pods(
            reader,
            &format!("{field}.pods"),
            pods,
        )?)]),
        (None, None, Some(nodes), None, None) if !ingress => Some(vec![Peer::Nodes(
            reader.selector(&format!("{field}.nodes"), nodes)?,
        )]),
        (None, None, None, Some(networks), None) if !ingress => {
            let networks = networks.iter().enumerate();
            let read = networks.map(|(at, text)| {
                let cidr = reader.cidr(&format!("{field}.networks[{at}]"), text)?;
                let except = Box::default();
                Some(Peer::Network(Network { cidr, except }))
            });
            read.collect()
        }
        (None, None, None, None, Some(_)) => {
            let remedy = "use networks: names are not served, and this peer matches nothing";
            reader.reject(format!("{field}.domainNames"), "a list of names", remedy);
            None
        }
        _ => {
            let remedy = "write exactly one kind of peer that this version knows";
            reader.reject(field.to_owned(), "not one known field", remedy);
            None
        }
    }
}

fn protocol(reader: &mut Reader, field: &str, written: &WrittenProtocol) -> Option<PortMatch> {
    let WrittenProtocol {
        tcp,
        udp,
        sctp,
        destination_named_port,
    } = written;
    let (protocol, name, ports) = match (tcp, udp, sctp, destination_named_port) {
        (Some(ports), None, None, None) => (Protocol::Tcp, "tcp", ports),
        (None, Some(ports), None, None) => (Protocol::Udp, "udp", ports),
        (None, None, Some(ports), None) => (Protocol::Sctp, "sctp", ports),
        (None, None, None, Some(name)) => {
            return Some(PortMatch {
                protocol: None,
                ports: PortsOf::Named(name.as_str().into()),
            });
        }
        _ => {
            let remedy = "write exactly one of tcp, udp, sctp and destinationNamedPort";
            reader.reject(field.to_owned(), "not one known field", remedy);
            return None;
        }
    };
    let field = format!("{field}.{name}.destinationPort");
    let ports = match &ports.destination_port {
        None => PortsOf::All,
        Some(WrittenPort {
            number: Some(number),
            range: None,
        }) => {
            let number = reader.port(&format!("{field}.number"), *number)?;
            PortsOf::Range(number, number)
        }
        Some(WrittenPort {
            number: None,
            range: Some(WrittenRange { start, end }),
        }) => {
            let first = reader.port(&format!("{field}.range.start"), *start)?;
            let last = reader.port(&format!("{field}.range.end"), *end)?;
            if last < first {
                let remedy = "write the larger port as end";
                reader.reject(format!("{field}.range.end"), &last.to_string(), remedy);
                return None;
            }
            PortsOf::Range(first, last)
        }
        Some(_) => {
            reader.reject(field, "not one field", "write either number or range");
            return None;
        }
    };
    Some(PortMatch {
        protocol: Some(protocol),
        ports,
    })
}

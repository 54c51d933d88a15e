//! From a `networking.k8s.io/v1` NetworkPolicy to a [`Policy`].
//!
//! Defaults are those of the API server, so that objects that never passed one read the same. A part
//! that means nothing matches nothing; the policy still isolates the pods that it selects.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    Action, Namespaces, Network, Parsed, Peer, Pods, Policy, PortMatch, PortsOf, Rule, Tier,
};
use crate::finding::{Object, Rejection};
use crate::policy::selector::{InvalidSelector, Selector};
use crate::view::Protocol;

/// Takes what policies are judged by out of the object.
#[must_use]
pub fn network_policy(object: &NetworkPolicy) -> Parsed {
    let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut reader = Reader::new("NetworkPolicy", &format!("{namespace}/{name}"));
    let spec = object.spec.clone().unwrap_or_default();
    let everything = LabelSelector::default();
    let selector = spec.pod_selector.as_ref().unwrap_or(&everything);
    let Some(pods) = reader.selector("spec.podSelector", selector) else {
        return reader.finish(None);
    };
    let ingress = spec.ingress.unwrap_or_default();
    let egress = spec.egress.unwrap_or_default();
    let mut types = spec.policy_types.unwrap_or_default();
    if types.is_empty() {
        types.push("Ingress".to_owned());
        types.extend((!egress.is_empty()).then(|| "Egress".to_owned()));
    }
    let has = |wanted: &str| types.iter().any(|kind| kind == wanted);
    let mut rules =
        |direction: &str, list: Vec<(Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>)>| {
            let list = list.into_iter().enumerate();
            let read = list.map(|(at, (peers, ports))| {
                rule(
                    &mut reader,
                    namespace,
                    &format!("spec.{direction}[{at}]"),
                    &peers,
                    &ports,
                )
            });
            read.collect::<Box<[Rule]>>()
        };
    let ingress = has("Ingress").then(|| {
        let list = ingress.into_iter();
        let list = list.map(|r| (r.from.unwrap_or_default(), r.ports.unwrap_or_default()));
        rules("ingress", list.collect())
    });
    let egress = has("Egress").then(|| {
        let list = egress.into_iter();
        let list = list.map(|r| (r.to.unwrap_or_default(), r.ports.unwrap_or_default()));
        rules("egress", list.collect())
    });
    for (at, kind) in types.iter().enumerate() {
        if kind != "Ingress" && kind != "Egress" {
            reader.reject(
                format!("spec.policyTypes[{at}]"),
                kind,
                "write Ingress or Egress",
            );
        }
    }
    reader.finish(Some(Policy {
        tier: Tier::NetworkPolicy,
        subject: Pods {
            namespaces: Namespaces::Named(namespace.into()),
            pods,
        },
        ingress,
        egress,
    }))
}

fn rule(
    reader: &mut Reader,
    namespace: &str,
    field: &str,
    peers: &[NetworkPolicyPeer],
    ports: &[NetworkPolicyPort],
) -> Rule {
    let side = if field.starts_with("spec.ingress") {
        "from"
    } else {
        "to"
    };
    let read_peers = peers.iter().enumerate();
    let read_peers: Box<[Peer]> = read_peers
        .filter_map(|(at, peer)| {
            self::peer(reader, namespace, &format!("{field}.{side}[{at}]"), peer)
        })
        .collect();
    let read_ports = ports.iter().enumerate();
    let read_ports: Box<[PortMatch]> = read_ports
        .filter_map(|(at, port)| self::port(reader, &format!("{field}.ports[{at}]"), port))
        .collect();
    Rule {
        action: Action::Accept,
        peers: (!peers.is_empty()).then_some(read_peers),
        ports: (!ports.is_empty()).then_some(read_ports),
    }
}

fn peer(
    reader: &mut Reader,
    namespace: &str,
    field: &str,
    peer: &NetworkPolicyPeer,
) -> Option<Peer> {
    let NetworkPolicyPeer {
        ip_block,
        namespace_selector,
        pod_selector,
    } = peer;
    if let Some(block) = ip_block {
        if namespace_selector.is_some() || pod_selector.is_some() {
            let remedy = "write selectors and ipBlock as two peers";
            reader.reject(field.to_owned(), "ipBlock beside a selector", remedy);
            return None;
        }
        return network(reader, &format!("{field}.ipBlock"), block).map(Peer::Network);
    }
    if namespace_selector.is_none() && pod_selector.is_none() {
        let remedy = "write podSelector, namespaceSelector or ipBlock";
        reader.reject(field.to_owned(), "{}", remedy);
        return None;
    }
    let namespaces = match namespace_selector {
        None => Namespaces::Named(namespace.into()),
        Some(selector) => {
            let field = format!("{field}.namespaceSelector");
            Namespaces::Matching(reader.selector(&field, selector)?)
        }
    };
    let pods = match pod_selector {
        None => Selector::default(),
        Some(selector) => reader.selector(&format!("{field}.podSelector"), selector)?,
    };
    Some(Peer::Pods(Pods { namespaces, pods }))
}

fn network(reader: &mut Reader, field: &str, block: &IPBlock) -> Option<Network> {
    let cidr = reader.cidr(&format!("{field}.cidr"), &block.cidr)?;
    let listed = block.except.iter().flatten().enumerate();
    let mut except = Vec::new();
    for (at, text) in listed {
        // An exception that is not understood would open what its author wanted closed.
        except.push(reader.cidr(&format!("{field}.except[{at}]"), text)?);
    }
    except.sort_unstable();
    except.dedup();
    Some(Network {
        cidr,
        except: except.into(),
    })
}

fn port(reader: &mut Reader, field: &str, port: &NetworkPolicyPort) -> Option<PortMatch> {
    let NetworkPolicyPort {
        end_port,
        port,
        protocol,
    } = port;
    let protocol = match protocol.as_deref() {
        None => Protocol::Tcp,
        Some(text) => reader.protocol(&format!("{field}.protocol"), text)?,
    };
    let ports = match (port, end_port) {
        (None, None) => PortsOf::All,
        (Some(IntOrString::Int(first)), last) => {
            let first = reader.port(&format!("{field}.port"), *first)?;
            let last = match last {
                None => first,
                Some(last) => reader.port(&format!("{field}.endPort"), *last)?,
            };
            if last < first {
                let remedy = "write the larger port as endPort";
                reader.reject(format!("{field}.endPort"), &last.to_string(), remedy);
                return None;
            }
            PortsOf::Range(first, last)
        }
        (Some(IntOrString::String(name)), None) => PortsOf::Named(name.as_str().into()),
        (_, Some(last)) => {
            let remedy = "write endPort beside a port's number only";
            reader.reject(format!("{field}.endPort"), &last.to_string(), remedy);
            return None;
        }
    };
    Some(PortMatch {
        protocol: Some(protocol),
        ports,
    })
}

/// Reads fields, and keeps what means nothing.
pub(super) struct Reader {
    object: Object,
    rejections: Vec<Rejection>,
}

impl Reader {
    pub fn new(kind: &'static str, name: &str) -> Self {
        Self {
            object: Object::new(kind, name),
            rejections: Vec::new(),
        }
    }

    pub fn reject(&mut self, field: String, value: &str, remedy: &'static str) {
        self.rejections.push(Rejection::InvalidField {
            object: self.object.clone(),
            field,
            value: value.to_owned(),
            remedy,
        });
    }

    pub fn finish(self, policy: Option<Policy>) -> Parsed {
        Parsed {
            policy,
            rejections: self.rejections,
        }
    }

    pub fn selector(&mut self, field: &str, selector: &LabelSelector) -> Option<Selector> {
        let parsed = Selector::parse(selector);
        let failed = |InvalidSelector {
                          field: part,
                          value,
                          remedy,
                      }: InvalidSelector| {
            self.reject(format!("{field}.{part}"), &value, remedy);
        };
        parsed.map_err(failed).ok()
    }

    pub fn cidr(&mut self, field: &str, text: &str) -> Option<IpNet> {
        let parsed = text.parse::<IpNet>().ok();
        if parsed.is_none() {
            let remedy = "write a network such as 10.0.0.0/8 or 2001:db8::/32";
            self.reject(field.to_owned(), text, remedy);
        }
        parsed.map(|net| net.trunc())
    }

    pub fn protocol(&mut self, field: &str, text: &str) -> Option<Protocol> {
        let known = match text {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        };
        if known.is_none() {
            self.reject(field.to_owned(), text, "write TCP, UDP or SCTP");
        }
        known
    }

    pub fn port(&mut self, field: &str, number: i32) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        if port.is_none() {
            self.reject(
                field.to_owned(),
                &number.to_string(),
                "write a port from 1 to 65535",
            );
        }
        port
    }
}

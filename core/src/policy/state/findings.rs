//! What policies say that cannot do what it seems to: values with a code, shown as warnings.
//!
//! They are told from everything that was told of the cluster, so only whoever tells all pods gets them
//! all right.

use crate::finding::Finding;
use crate::policy::build;
use crate::policy::bulk::Direction;
use crate::policy::object::{
    Network, Peer, PodPort, Pods, Policy, PolicyName, PortsOf, Rule, Tier,
};
use crate::policy::peers::Who;
use crate::policy::ports::PortSet;
use crate::policy::program::Program;
use crate::policy::state::{Policies, Side};
use crate::view::{AttachmentKey, Protocol};

/// The port of DNS servers (RFC 1035).
const DNS: u16 = 53;

impl Policies {
    /// What of a policy cannot do what it seems to, given the pods, namespaces and nodes that were told.
    #[must_use]
    pub fn findings(&self, name: &PolicyName) -> Vec<Finding> {
        let Some(policy) = self.policies.get(name) else {
            return Vec::new();
        };
        let mut findings = Vec::new();
        if !self.some_pod(&policy.subject, None) {
            findings.push(Finding::SelectsNothing {
                policy: name.clone(),
                field: subject_field(policy).to_owned(),
                selector: policy.subject.to_string(),
            });
        }
        for way in Direction::ALL {
            let rules = build::rules(policy, way).unwrap_or_default();
            for (at, rule) in rules.iter().enumerate() {
                let field = match way {
                    Direction::In => format!("spec.ingress[{at}]"),
                    Direction::Out => format!("spec.egress[{at}]"),
                };
                self.peers_of(name, way, &field, rule, &mut findings);
                self.ports_of(name, policy, way, &field, rule, &mut findings);
            }
        }
        findings
    }

    /// What all policies together make of a local pod that they hardly can mean, as of the last
    /// [`Self::compile`].
    #[must_use]
    pub fn findings_of_pod(&self, key: &AttachmentKey) -> Vec<Finding> {
        let Some(local) = self.locals.get(key) else {
            return Vec::new();
        };
        let Some(Side::Judged(program, _)) = local.sides.get(&Direction::Out) else {
            return Vec::new();
        };
        let reachable = self.reachable(program);
        let resolves = [Protocol::Udp, Protocol::Tcp]
            .iter()
            .any(|protocol| reachable.contains(Some(*protocol), DNS));
        if resolves || reachable.is_empty() {
            return Vec::new();
        }
        let about = self.about(key).into_iter();
        let policies = about.filter(|(_, way)| *way == Direction::Out);
        let policies: Vec<String> = policies.map(|(name, _)| name.to_string()).collect();
        vec![Finding::EgressWithoutDns {
            pod: format!("{}/{}", local.pod.namespace, local.pod.name),
            policies: policies.join(", "),
        }]
    }

    /// What some class is allowed.
    fn reachable(&self, program: &Program) -> PortSet {
        let classes = self.peers.classes();
        classes.fold(PortSet::default(), |all, class| {
            all.union(&self.allowed(program, class))
        })
    }

    fn peers_of(
        &self,
        policy: &PolicyName,
        way: Direction,
        field: &str,
        rule: &Rule,
        findings: &mut Vec<Finding>,
    ) {
        let side = match way {
            Direction::In => "from",
            Direction::Out => "to",
        };
        for peer in rule.peers.iter().flatten() {
            let matches = match peer {
                Peer::Pods(pods) => self.some_pod(pods, None),
                Peer::Nodes(selector) => self.nodes.values().any(|(_, who)| match &**who {
                    Who::Node(labels) => selector.matches(labels),
                    Who::Pod(..) => false,
                }),
                Peer::Network(Network { cidr, except }) => {
                    let outside = except.iter().filter(|net| !cidr.contains(*net));
                    findings.extend(outside.map(|net| Finding::ExceptOutside {
                        policy: policy.clone(),
                        field: format!("{field}.{side}"),
                        except: *net,
                        cidr: *cidr,
                    }));
                    true
                }
            };
            if !matches {
                findings.push(Finding::SelectsNothing {
                    policy: policy.clone(),
                    field: format!("{field}.{side}"),
                    selector: peer.to_string(),
                });
            }
        }
    }

    fn ports_of(
        &self,
        name: &PolicyName,
        policy: &Policy,
        way: Direction,
        field: &str,
        rule: &Rule,
        findings: &mut Vec<Finding>,
    ) {
        let list = match policy.tier {
            Tier::NetworkPolicy => "ports",
            Tier::Admin(_) | Tier::Baseline(_) => "protocols",
        };
        for port in rule.ports.iter().flatten() {
            let PortsOf::Named(wanted) = &port.ports else {
                continue;
            };
            let has = |own: &PodPort| {
                own.name == *wanted && port.protocol.is_none_or(|of| of == own.protocol)
            };
            // The destination has the name: the policy's own pods, or those that it lets them reach.
            let some = match (way, &rule.peers) {
                (Direction::In, _) => self.some_pod(&policy.subject, Some(&has)),
                (Direction::Out, None) => self.everybody().any(|who| ports(who).iter().any(has)),
                (Direction::Out, Some(peers)) => peers.iter().any(|peer| match peer {
                    Peer::Pods(pods) => self.some_pod(pods, Some(&has)),
                    // Addresses of pods may be in it.
                    Peer::Network(_) => self.everybody().any(|who| ports(who).iter().any(has)),
                    Peer::Nodes(_) => false,
                }),
            };
            if !some {
                findings.push(Finding::NoSuchPort {
                    policy: name.clone(),
                    field: format!("{field}.{list}"),
                    port: wanted.to_string(),
                });
            }
        }
    }

    /// Whether some pod is among these, with such a port where one is wanted.
    fn some_pod(&self, pods: &Pods, has: Option<&dyn Fn(&PodPort) -> bool>) -> bool {
        self.everybody().any(|who| {
            let Who::Pod(namespace, labels, own) = who else {
                return false;
            };
            pods.matches(namespace, self.peers.namespace(namespace), labels)
                && has.is_none_or(|has| own.iter().any(has))
        })
    }

    /// All pods that were told.
    fn everybody(&self) -> impl Iterator<Item = &Who> + '_ {
        self.pods.values().map(|(_, _, who)| &**who)
    }
}

fn ports(who: &Who) -> &[PodPort] {
    match who {
        Who::Pod(_, _, ports) => ports,
        Who::Node(_) => &[],
    }
}

fn subject_field(policy: &Policy) -> &'static str {
    match policy.tier {
        Tier::NetworkPolicy => "spec.podSelector",
        Tier::Admin(_) | Tier::Baseline(_) => "spec.subject",
    }
}

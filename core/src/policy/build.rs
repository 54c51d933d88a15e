//! From the policies that are about a pod to the program of one direction.

use super::bulk::Direction;
use super::object::{Peer, PodPort, Policy, PolicyName, PortMatch, PortsOf, Rule, Tier};
use super::peers::{Peers, PredicateId};
use super::ports::PortSet;
use super::program::{Program, Step};
use super::state::LocalPod;

/// Whether a policy is about a pod; none if that cannot be told yet.
pub(super) fn is_subject(policy: &Policy, pod: &LocalPod, peers: &Peers) -> Option<bool> {
    use super::object::Namespaces;
    let labels = peers.namespace(&pod.namespace);
    let there = match &policy.subject.namespaces {
        Namespaces::Named(name) => *name == pod.namespace,
        // Without the namespace's labels nothing can be said.
        Namespaces::Matching(selector) if selector.is_everything() => true,
        Namespaces::Matching(selector) => selector.matches(labels?),
    };
    if !there {
        return Some(false);
    }
    if policy.subject.pods.is_everything() {
        return Some(true);
    }
    let known = pod.known.as_ref()?;
    Some(policy.subject.pods.matches(&known.labels))
}

/// A policy's rules for a direction.
pub(super) fn rules(policy: &Policy, way: Direction) -> Option<&[Rule]> {
    match way {
        Direction::In => policy.ingress.as_deref(),
        Direction::Out => policy.egress.as_deref(),
    }
}

/// The program of policies in the order in which they are asked. `ports` are the pod's own named ports,
/// for what comes in.
pub(super) fn program(
    policies: &[(&PolicyName, &Policy)],
    way: Direction,
    ports: &[PodPort],
    mut want: impl FnMut(&Peer) -> PredicateId,
) -> Program {
    let mut program = Program {
        admin: Vec::new(),
        network: None,
        baseline: Vec::new(),
    };
    for (_, policy) in policies {
        let steps = match policy.tier {
            Tier::Admin(_) => &mut program.admin,
            Tier::NetworkPolicy => program.network.get_or_insert_default(),
            Tier::Baseline(_) => &mut program.baseline,
        };
        let rules = rules(policy, way).unwrap_or_default().iter();
        steps.extend(rules.map(|rule| step(rule, way, ports, &mut want)));
    }
    program
}

fn step(
    rule: &Rule,
    way: Direction,
    own: &[PodPort],
    want: &mut impl FnMut(&Peer) -> PredicateId,
) -> Step {
    let Rule {
        action,
        peers,
        ports,
    } = rule;
    let mut numbers = PortSet::default();
    let mut names = Vec::new();
    match ports {
        None => numbers = PortSet::all(),
        Some(ports) => {
            for PortMatch { protocol, ports } in ports {
                match (ports, protocol) {
                    (PortsOf::All, Some(protocol)) => numbers.add_protocol(*protocol),
                    (PortsOf::Range(first, last), Some(protocol)) => {
                        numbers.add(*protocol, *first, *last);
                    }
                    (PortsOf::All | PortsOf::Range(..), None) => {}
                    (PortsOf::Named(name), protocol) if way == Direction::In => {
                        let named = own.iter().filter(|port| port.name == *name);
                        for port in named {
                            if protocol.is_none_or(|of| of == port.protocol) {
                                numbers.add(port.protocol, port.port, port.port);
                            }
                        }
                    }
                    (PortsOf::Named(name), protocol) => names.push((*protocol, name.clone())),
                }
            }
        }
    }
    let asks = |peer: &Peer| matches!(peer, Peer::Pods(_));
    Step {
        action: *action,
        asks_for_pods: peers.iter().flatten().any(asks),
        peers: peers.as_ref().map(|peers| peers.iter().map(want).collect()),
        ports: numbers,
        names: names.into(),
    }
}

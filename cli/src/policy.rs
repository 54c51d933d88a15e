//! `kubectl weft policy`: the policies of one pod, compiled as its node's agent compiles them.

use std::collections::BTreeMap;

use weft_core::finding::{Finding, Rejection};
use weft_core::policy::object::{Parsed, cluster_network_policy, network_policy};
use weft_core::policy::{
    Direction, LocalPod, Policies, Policy, PolicyKind, PolicyName, Rule, Tier,
};
use weft_core::view::AttachmentKey;

use crate::cluster::Cluster;
use crate::convert;
use crate::report::{Applied, Note, Report, RuleLine, Side, Unseen};

/// What applies to the cluster's pod, in which direction, and why.
#[must_use]
pub fn report(cluster: &Cluster) -> Report {
    let (parsed, rejections) = parsed(cluster);
    let mut report = Report {
        pod: pod_name(cluster),
        node: cluster
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone()),
        addresses: convert::addresses(&cluster.pod).into(),
        not_judged: convert::why_not(&cluster.pod).map(str::to_owned),
        ingress: None,
        egress: None,
        warnings: Vec::new(),
        errors: rejections.iter().map(rejected).collect(),
        unseen: unseen(cluster),
    };
    if report.not_judged.is_some() {
        return report;
    }
    let key = AttachmentKey {
        container_id: report.pod.clone(),
        ifname: "eth0".to_owned(),
    };
    let policies = compiled(cluster, &parsed, &key);
    let mut about = policies.about(&key);
    about.sort_by_key(|(name, _)| (parsed.get(name).map(|policy| policy.tier), name.clone()));
    let side = |way| Some(side(&parsed, &about, way));
    report.ingress = side(Direction::In);
    report.egress = side(Direction::Out);
    report.warnings = findings(cluster, &parsed, &policies, &about, &key);
    report
}

fn parsed(cluster: &Cluster) -> (BTreeMap<PolicyName, Policy>, Vec<Rejection>) {
    let network = cluster.network_policies.iter().map(|object| {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let name = PolicyName::network(convert::namespace(&object.metadata), name);
        (name, network_policy(object))
    });
    let everywhere = cluster.cluster_policies.iter().map(|object| {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        (PolicyName::cluster(name), cluster_network_policy(object))
    });
    let (mut policies, mut rejections) = (BTreeMap::new(), Vec::new());
    for (name, read) in network.chain(everywhere) {
        let Parsed {
            policy,
            rejections: mut more,
        } = read;
        policies.extend(policy.map(|policy| (name, policy)));
        rejections.append(&mut more);
    }
    (policies, rejections)
}

/// The state of an agent that has seen all of this, with the pod as its only own one.
fn compiled(
    cluster: &Cluster,
    parsed: &BTreeMap<PolicyName, Policy>,
    key: &AttachmentKey,
) -> Policies {
    let mut policies = Policies::new();
    policies.set_synced(true);
    for namespace in &cluster.namespaces {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        policies.set_namespace(name, Some(convert::labels(&namespace.metadata)));
    }
    for node in &cluster.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        policies.set_node(name, Some(convert::node(node)));
    }
    for pod in &cluster.pods {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        policies.set_pod(uid, convert::pod(pod));
    }
    for (name, policy) in parsed {
        policies.set_policy(name, Some(policy.clone()));
    }
    let metadata = &cluster.pod.metadata;
    let local = LocalPod {
        link: 1,
        namespace: convert::namespace(metadata).into(),
        name: metadata.name.as_deref().unwrap_or_default().into(),
        addresses: convert::addresses(&cluster.pod),
        known: Some(convert::known(&cluster.pod)),
    };
    policies.set_local(key, Some(local));
    policies.compile();
    policies
}

fn side(
    parsed: &BTreeMap<PolicyName, Policy>,
    about: &[(PolicyName, Direction)],
    way: Direction,
) -> Side {
    let of_this_way = about.iter().filter(|(_, of)| *of == way);
    let policies: Vec<(&PolicyName, &Policy)> = of_this_way
        .filter_map(|(name, _)| parsed.get_key_value(name))
        .collect();
    let mut kinds = policies.iter().map(|(name, _)| name.kind);
    Side {
        isolated: kinds.any(|kind| kind == PolicyKind::NetworkPolicy),
        policies: policies
            .into_iter()
            .map(|(name, policy)| applied(name, policy, way))
            .collect(),
    }
}

fn applied(name: &PolicyName, policy: &Policy, way: Direction) -> Applied {
    let rules = match way {
        Direction::In => &policy.ingress,
        Direction::Out => &policy.egress,
    };
    Applied {
        policy: name.to_string(),
        tier: match policy.tier {
            Tier::NetworkPolicy => None,
            tier @ (Tier::Admin(_) | Tier::Baseline(_)) => Some(tier.to_string()),
        },
        selects: policy.subject.to_string(),
        rules: rules.iter().flatten().map(rule_line).collect(),
    }
}

fn rule_line(rule: &Rule) -> RuleLine {
    let Rule {
        action,
        peers,
        ports,
    } = rule;
    let peers = peers.as_ref();
    let ports = ports.as_ref();
    RuleLine {
        action: action.to_string(),
        peers: peers.map(|peers| peers.iter().map(ToString::to_string).collect()),
        ports: ports.map(|ports| ports.iter().map(ToString::to_string).collect()),
    }
}

fn findings(
    cluster: &Cluster,
    parsed: &BTreeMap<PolicyName, Policy>,
    policies: &Policies,
    about: &[(PolicyName, Direction)],
    key: &AttachmentKey,
) -> Vec<Note> {
    let sees_all = cluster.unseen.is_empty();
    let mut found: Vec<Finding> = Vec::new();
    for name in parsed.keys() {
        let applies = about.iter().any(|(of, _)| of == name);
        let namespaced = name.kind == PolicyKind::NetworkPolicy;
        found.extend(policies.findings(name).into_iter().filter(|finding| {
            let of_subject = matches!(finding, Finding::SelectsNothing { field, .. } if field == "spec.podSelector");
            // Of others, only that they select nobody: somebody may wonder why they are not listed.
            applies || (namespaced && of_subject)
        }));
    }
    found.extend(policies.findings_of_pod(key));
    // What nobody was seen to have may be there all the same.
    found.retain(|finding| {
        sees_all
            || !matches!(
                finding,
                Finding::SelectsNothing { .. } | Finding::NoSuchPort { .. }
            )
    });
    found.sort();
    found.dedup();
    let notes = found.iter().map(|finding| Note {
        code: finding.code(),
        reason: finding.reason(),
        message: finding.to_string(),
    });
    notes.collect()
}

fn rejected(rejection: &Rejection) -> Note {
    Note {
        code: rejection.code(),
        reason: rejection.reason(),
        message: rejection.to_string(),
    }
}

fn unseen(cluster: &Cluster) -> Vec<Unseen> {
    let unseen = cluster.unseen.iter();
    unseen
        .map(|unseen| Unseen {
            what: unseen.what.to_owned(),
            why: unseen.why.clone(),
        })
        .collect()
}

fn pod_name(cluster: &Cluster) -> String {
    let metadata = &cluster.pod.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    format!("{}/{name}", convert::namespace(metadata))
}

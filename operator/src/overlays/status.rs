//! The status of an overlay: how many of its nodes have it in force, the five worst, the smallest
//! MTU, and conditions.

use std::collections::BTreeMap;

use weft_crds::{
    ConditionStatus, ConditionType, NodeNetwork, Overlay, OverlayNodes, OverlayStatus, reason,
};

use super::resolve::Resolved;
use super::validate::Overlays;
use crate::condition::{self, ConditionPlan};
use crate::pools::status::named;
use crate::problem::{Code, Problem};
use crate::snapshot::Snapshot;

/// How many nodes that are not ready a status lists.
const WORST: usize = 5;

/// What the nodes of an overlay say.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Nodes that take part.
    pub desired: usize,
    /// Nodes that do not have it in force, each with the reason.
    pub behind: BTreeMap<String, String>,
    /// The smallest MTU of pods, with node and explanation.
    pub mtu: Option<(u32, String, String)>,
    /// That MTU is less than the device's.
    pub reduced: bool,
}

/// Asks every node that takes part.
#[must_use]
pub fn progress(snapshot: &Snapshot, name: &str, resolved: &Resolved) -> Progress {
    let mut progress = Progress {
        desired: resolved.nodes.len(),
        ..Progress::default()
    };
    for node in &resolved.nodes {
        if let Some(why) = behind(snapshot.node_networks.get(node).map(AsRef::as_ref), name) {
            progress.behind.insert(node.clone(), why);
        }
        let Some(report) = snapshot.reports.get(node) else {
            continue;
        };
        for mtu in report.spec.mtus.iter().filter(|mtu| mtu.overlay == name) {
            if progress
                .mtu
                .as_ref()
                .is_none_or(|(least, ..)| mtu.mtu < *least)
            {
                progress.mtu = Some((mtu.mtu, node.clone(), mtu.why.clone()));
                progress.reduced =
                    device_mtu(snapshot, node, name).is_some_and(|device| mtu.mtu < device);
            }
        }
    }
    progress
}

/// The conditions that an Overlay should have.
#[must_use]
pub fn conditions(
    snapshot: &Snapshot,
    name: &str,
    overlay: &Overlay,
    overlays: &Overlays,
    resolved: Option<&Resolved>,
    progress: &Progress,
) -> Vec<ConditionPlan> {
    let mut conditions = Vec::new();
    if overlay.metadata.deletion_timestamp.is_some() {
        conditions.extend(terminating(snapshot, name));
    }
    if let Some(problem) = overlays.rejection(name) {
        let no = |type_| ConditionPlan::of(type_, ConditionStatus::False, problem);
        conditions.extend([
            no(ConditionType::Accepted),
            no(ConditionType::Programmed),
            no(ConditionType::Ready),
            ConditionPlan::of(ConditionType::Stalled, ConditionStatus::True, problem),
        ]);
        return conditions;
    }
    conditions.push(ConditionPlan::ok(
        ConditionType::Accepted,
        "the spec is valid and in nobody's way",
    ));
    conditions.extend(mtu_reduced(progress));
    match not_programmed(resolved, progress) {
        None => conditions.extend([
            ConditionPlan::ok(
                ConditionType::Programmed,
                "every node has what the overlay needs",
            ),
            ConditionPlan::ok(ConditionType::Ready, "pods of all nodes reach each other"),
        ]),
        Some(problem) => conditions.extend([
            ConditionPlan::of(ConditionType::Programmed, ConditionStatus::False, &problem),
            ConditionPlan::of(ConditionType::Ready, ConditionStatus::False, &problem),
            ConditionPlan::of(ConditionType::Reconciling, ConditionStatus::True, &problem),
        ]),
    }
    conditions
}

/// The status that an Overlay should have.
#[must_use]
pub fn status(
    snapshot: &Snapshot,
    overlay: &Overlay,
    progress: &Progress,
    conditions: &[ConditionPlan],
) -> OverlayStatus {
    let ready = progress.desired - progress.behind.len();
    let stored = overlay.status.as_ref();
    OverlayStatus {
        nodes: Some(OverlayNodes {
            desired: i64::try_from(progress.desired).unwrap_or(i64::MAX),
            ready: i64::try_from(ready).unwrap_or(i64::MAX),
            summary: format!("{ready}/{}", progress.desired),
            worst: progress
                .behind
                .iter()
                .take(WORST)
                .map(|(node, why)| format!("{node}: {why}"))
                .collect(),
        }),
        mtu: progress.mtu.as_ref().map(|(mtu, ..)| i64::from(*mtu)),
        conditions: condition::merge(
            stored
                .map(|status| status.conditions.as_slice())
                .unwrap_or_default(),
            conditions,
            overlay.metadata.generation,
            snapshot.now,
        ),
    }
}

/// Why a node does not have an overlay in force; `None` if it has.
fn behind(network: Option<&NodeNetwork>, overlay: &str) -> Option<String> {
    let Some(network) = network else {
        return Some("it has not been told yet".to_owned());
    };
    let Some(status) = &network.status else {
        return Some("its agent has not answered yet".to_owned());
    };
    match condition::find(&status.conditions, ConditionType::Ready) {
        Some(ready) if ready.status != "True" => return Some(ready.message.clone()),
        None => return Some("its agent has not said that it is ready".to_owned()),
        Some(_) => {}
    }
    if status.observed_generation != network.metadata.generation {
        return Some("its agent is applying the latest change".to_owned());
    }
    let mut ends = status.underlays.iter();
    ends.find(|end| end.overlay == overlay)
        .and_then(|end| end.problem.clone())
}

fn device_mtu(snapshot: &Snapshot, node: &str, overlay: &str) -> Option<u32> {
    let status = snapshot.node_networks.get(node)?.status.as_ref()?;
    let underlay = status
        .underlays
        .iter()
        .find(|underlay| underlay.overlay == overlay)?;
    underlay.device_mtu
}

fn mtu_reduced(progress: &Progress) -> Option<ConditionPlan> {
    let (mtu, node, why) = progress.mtu.as_ref().filter(|_| progress.reduced)?;
    let problem = Problem::new(
        reason::ENCAPSULATION,
        Code::ENCAPSULATION,
        format!(
            "pods' packets have at most {mtu} bytes on Node {node} ({why}): raise the MTU of the devices between the nodes if that is too little"
        ),
    );
    Some(ConditionPlan::of(
        ConditionType::MTUReduced,
        ConditionStatus::True,
        &problem,
    ))
}

fn not_programmed(resolved: Option<&Resolved>, progress: &Progress) -> Option<Problem> {
    let without = resolved
        .map(|resolved| &resolved.without_address)
        .filter(|without| !without.is_empty());
    if let (Some(without), Some(resolved)) = (without, resolved) {
        return Some(Problem::new(
            reason::NO_UNDERLAY_ADDRESS,
            Code::NO_UNDERLAY_ADDRESS,
            format!(
                "no {} InternalIP on {} of {} nodes ({}): give them one (kubelet --node-ip), or make another overlay with spec.underlay",
                resolved.family,
                without.len(),
                resolved.nodes.len(),
                named(without.iter().map(String::as_str))
            ),
        ));
    }
    if progress.behind.is_empty() {
        return None;
    }
    Some(Problem::new(
        reason::NODES_NOT_READY,
        Code::NODES_NOT_READY,
        format!(
            "not in force on {} of {} nodes yet ({}): see status.nodes.worst, and the agent's log on those nodes",
            progress.behind.len(),
            progress.desired,
            named(progress.behind.keys().map(String::as_str))
        ),
    ))
}

fn terminating(snapshot: &Snapshot, name: &str) -> Option<ConditionPlan> {
    let pools: Vec<&str> = snapshot
        .pools
        .iter()
        .filter(|(_, pool)| {
            pool.spec.overlay_ref.name == name && !pool.spec.is_for_load_balancers()
        })
        .map(|(pool, _)| pool.as_str())
        .collect();
    if pools.is_empty() {
        return None;
    }
    let problem = Problem::new(
        reason::IN_USE,
        Code::IN_USE,
        format!(
            "the overlay is being deleted and is used by IPPools {}: delete these first",
            named(pools.iter().copied())
        ),
    );
    Some(ConditionPlan::of(
        ConditionType::Terminating,
        ConditionStatus::True,
        &problem,
    ))
}

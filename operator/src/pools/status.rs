//! The status of a pool: conditions that name cause, object and next step, and the counts.

use std::collections::BTreeSet;

use weft_core::alloc::{AllocFinding, ShortNode};
use weft_core::view::Family;
use weft_crds::{ConditionStatus, ConditionType, IPPool, IPPoolStatus, reason};

use super::usage;
use super::validate::{Pools, ValidPool};
use crate::balancers::status::Held;
use crate::condition::{self, ConditionPlan};
use crate::problem::{Code, Problem};
use crate::snapshot::Snapshot;

/// How many names a message lists.
const NAMED: usize = 5;

/// The conditions that an IPPool should have.
#[must_use]
pub fn conditions(
    snapshot: &Snapshot,
    name: &str,
    pool: &IPPool,
    pools: &Pools,
    findings: &[AllocFinding],
    held: &Held,
) -> Vec<ConditionPlan> {
    let mut conditions = Vec::new();
    let terminating = pool.metadata.deletion_timestamp.is_some();
    if terminating {
        conditions.extend(terminating_condition(snapshot, name));
        conditions.extend(held_condition(held, name));
    }
    if let Some(problem) = pools.rejection(name) {
        let no = |type_| ConditionPlan::of(type_, ConditionStatus::False, problem);
        conditions.extend([
            no(ConditionType::Accepted),
            no(ConditionType::Allocatable),
            no(ConditionType::Ready),
            ConditionPlan::of(ConditionType::Stalled, ConditionStatus::True, problem),
        ]);
        return conditions;
    }
    conditions.push(ConditionPlan::ok(
        ConditionType::Accepted,
        "the networks are valid and belong to nobody else",
    ));
    let full = match pools.valid.get(name) {
        Some(valid) if valid.for_load_balancers => balancers_exhausted(name, valid, held),
        _ => exhausted(name, findings),
    };
    if let Some(problem) = full {
        conditions.extend([
            ConditionPlan::of(ConditionType::Allocatable, ConditionStatus::False, &problem),
            ConditionPlan::of(ConditionType::Exhausted, ConditionStatus::True, &problem),
            ConditionPlan::of(ConditionType::Ready, ConditionStatus::False, &problem),
        ]);
    } else if terminating {
        let problem = Problem::new(
            reason::IN_USE,
            Code::IN_USE,
            "the pool is being deleted: no further address is given".to_owned(),
        );
        conditions.extend([
            ConditionPlan::of(ConditionType::Allocatable, ConditionStatus::False, &problem),
            ConditionPlan::of(ConditionType::Ready, ConditionStatus::False, &problem),
        ]);
    } else {
        conditions.extend([
            ConditionPlan::ok(ConditionType::Allocatable, "there are addresses to give"),
            ConditionPlan::ok(ConditionType::Ready, users(pools, name)),
        ]);
    }
    conditions
}

/// The status that an IPPool should have.
#[must_use]
pub fn status(
    snapshot: &Snapshot,
    name: &str,
    pool: &IPPool,
    pools: &Pools,
    conditions: &[ConditionPlan],
    held: &Held,
) -> IPPoolStatus {
    let stored = pool.status.as_ref();
    let (families, summary) = match pools.valid.get(name) {
        Some(valid) => {
            let (families, summary) = usage::usage(snapshot, name, valid, held);
            (families, Some(summary))
        }
        None => (
            stored
                .map(|status| status.families.clone())
                .unwrap_or_default(),
            stored.and_then(|status| status.summary.clone()),
        ),
    };
    IPPoolStatus {
        families,
        summary,
        conditions: condition::merge(
            stored
                .map(|status| status.conditions.as_slice())
                .unwrap_or_default(),
            conditions,
            pool.metadata.generation,
            snapshot.now,
        ),
    }
}

/// Up to five names, and how many more.
#[must_use]
pub fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let total = names.len();
    let listed: Vec<&str> = names.take(NAMED).collect();
    let listed = listed.join(", ");
    match total.checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{listed} and {more} more"),
        _ => listed,
    }
}

fn users(pools: &Pools, name: &str) -> &'static str {
    match pools.valid.get(name) {
        Some(valid) if valid.for_load_balancers => {
            "Services of type LoadBalancer get addresses from this pool"
        }
        _ => "pods get addresses from this pool",
    }
}

fn held_condition(held: &Held, name: &str) -> Option<ConditionPlan> {
    let addresses: Vec<String> = held.of(name).map(|address| address.to_string()).collect();
    if addresses.is_empty() {
        return None;
    }
    let problem = Problem::new(
        reason::IN_USE,
        Code::IN_USE,
        format!(
            "the pool is being deleted; addresses that Services hold: {}; delete these Services or give them other addresses, see kubectl get services -A",
            named(addresses.iter().map(String::as_str))
        ),
    );
    Some(ConditionPlan::of(
        ConditionType::Terminating,
        ConditionStatus::True,
        &problem,
    ))
}

/// A pool for load balancers without a free address in one of its families.
fn balancers_exhausted(name: &str, pool: &ValidPool, held: &Held) -> Option<Problem> {
    let full: Vec<&str> = Family::ALL
        .into_iter()
        .filter(|family| usage::is_full(name, pool, held, *family))
        .map(Family::as_str)
        .collect();
    (!full.is_empty()).then(|| {
        Problem::new(
            reason::POOL_EXHAUSTED,
            Code::BALANCER_POOL_EXHAUSTED,
            format!(
                "Services hold every {} address of this pool: add a network to spec.cidrs, or delete a Service of type LoadBalancer",
                full.join(" and every ")
            ),
        )
    })
}

fn terminating_condition(snapshot: &Snapshot, name: &str) -> Option<ConditionPlan> {
    let blocks: Vec<_> = snapshot
        .blocks
        .values()
        .filter(|block| block.spec.pool == name)
        .collect();
    if blocks.is_empty() {
        return None;
    }
    let nodes: BTreeSet<&str> = blocks
        .iter()
        .map(|block| block.spec.node.as_str())
        .collect();
    let problem = Problem::new(
        reason::IN_USE,
        Code::IN_USE,
        format!(
            "the pool is being deleted; blocks left: {}, on nodes: {}; delete or restart the pods that have its addresses, see kubectl get podaddresses -A",
            blocks.len(),
            named(nodes.iter().copied())
        ),
    );
    Some(ConditionPlan::of(
        ConditionType::Terminating,
        ConditionStatus::True,
        &problem,
    ))
}

fn exhausted(name: &str, findings: &[AllocFinding]) -> Option<Problem> {
    let short: Vec<(Family, &[ShortNode])> = findings
        .iter()
        .filter_map(|finding| match finding {
            AllocFinding::Exhausted {
                pool,
                family,
                nodes,
            } if pool == name => Some((*family, nodes.as_slice())),
            AllocFinding::Exhausted { .. } | AllocFinding::Overlap { .. } => None,
        })
        .collect();
    if short.is_empty() {
        return None;
    }
    let parts: Vec<String> = short
        .iter()
        .map(|(family, nodes)| {
            let waiting: u64 = nodes.iter().map(|node| node.waiting).sum();
            let names = named(nodes.iter().map(|node| node.node.as_str()));
            format!(
                "no {family} block is left; nodes that need one: {names}; pods that wait: {waiting}"
            )
        })
        .collect();
    Some(Problem::new(
        reason::NO_FREE_BLOCKS,
        Code::NO_FREE_BLOCKS,
        format!(
            "{}; add a network to spec.cidrs, lower spec.prealloc, or delete pods",
            parts.join("; ")
        ),
    ))
}

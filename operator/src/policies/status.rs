//! From policies to what is said of them: a condition where there is room for one, and Events.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use weft_core::policy::object::{Parsed, cluster_network_policy, network_policy};
use weft_crds::{ConditionStatus, ConditionType};

use super::object::ClusterPolicy;
use crate::condition::{self, ConditionPlan, EventPlan};
use crate::problem::{Code, Problem};
use crate::snapshot::Snapshot;

/// Namespace and name.
pub type PolicyKey = (String, String);

/// What a ClusterNetworkPolicy should say.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterPolicyPlan {
    /// Our condition.
    pub condition: Condition,
    /// What to tell of the change.
    pub events: Vec<EventPlan>,
}

/// What each ClusterNetworkPolicy should say.
#[must_use]
pub fn cluster_plans(snapshot: &Snapshot) -> BTreeMap<String, ClusterPolicyPlan> {
    let policies = snapshot.cluster_policies.iter();
    policies
        .map(|(name, policy)| (name.clone(), plan(snapshot, policy)))
        .collect()
}

/// What is to be told of NetworkPolicies, which have no status: a warning for each that is wrong and was
/// not told of as it is now.
#[must_use]
pub fn warnings(snapshot: &Snapshot) -> BTreeMap<PolicyKey, EventPlan> {
    let policies = snapshot.network_policies.iter();
    let wrong = policies.filter_map(|(key, policy)| {
        let problem = problem(&network_policy(policy))?;
        Some((key.clone(), event(&problem)))
    });
    wrong.collect()
}

impl ClusterPolicyPlan {
    /// The object says so already.
    #[must_use]
    pub fn is_stored(&self, policy: &ClusterPolicy) -> bool {
        let stored = condition::find(&policy.status.conditions, ConditionType::Accepted);
        stored == Some(&self.condition)
    }
}

fn plan(snapshot: &Snapshot, policy: &ClusterPolicy) -> ClusterPolicyPlan {
    let wanted = match problem(&cluster_network_policy(&policy.policy)) {
        None => ConditionPlan::ok(
            ConditionType::Accepted,
            "every field is understood; nodes with pods of its subject enforce it",
        ),
        Some(problem) => {
            ConditionPlan::of(ConditionType::Accepted, ConditionStatus::False, &problem)
        }
    };
    let wanted = [wanted];
    let stored = &policy.status.conditions;
    let generation = policy.meta().generation;
    let mut merged = condition::merge(stored, &wanted, generation, snapshot.now);
    ClusterPolicyPlan {
        events: condition::events(stored, &wanted),
        condition: merged.remove(0),
    }
}

/// What of a policy is not understood, all in one.
fn problem(parsed: &Parsed) -> Option<Problem> {
    let Parsed { policy, rejections } = parsed;
    let sentences: Vec<String> = rejections.iter().map(ToString::to_string).collect();
    (!sentences.is_empty()).then(|| {
        let consequence = match policy {
            Some(_) => "What is not understood allows nothing",
            None => "Nothing of the policy is in force",
        };
        let sentence = format!("{}. {consequence}", sentences.join("; "));
        Problem::new("InvalidField", Code::INVALID_FIELD, sentence)
    })
}

fn event(problem: &Problem) -> EventPlan {
    EventPlan {
        warning: true,
        reason: problem.reason.to_owned(),
        note: condition::note(&problem.message()),
    }
}

//! The condition NetworkUnavailable of a Node: from an agent's report, or its silence, to what the
//! scheduler should know.

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use weft_crds::ConditionType;

use crate::condition::is_true;
use crate::problem::Code;
use crate::snapshot::Snapshot;

/// The type, as Kubernetes names it.
pub const TYPE: &str = "NetworkUnavailable";

/// A Node's condition as it should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConditionPlan {
    /// The network is unavailable.
    pub unavailable: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// Cause and next step.
    pub message: String,
}

/// What to say of a node; `None` leaves the condition as it is.
#[must_use]
pub fn plan(snapshot: &Snapshot, node: &str) -> Option<NodeConditionPlan> {
    let silent = snapshot.silent.get(node).copied().unwrap_or_default();
    if silent >= snapshot.agent_grace {
        return Some(NodeConditionPlan {
            unavailable: true,
            reason: "WeftnetAgentGone",
            message: format!(
                "weft-agent has not reported for {} s or more: see its pod on this node [{}]",
                snapshot.agent_grace.as_secs(),
                Code::AGENT_GONE
            ),
        });
    }
    let report = snapshot.reports.get(node)?;
    is_true(&report.spec.conditions, ConditionType::Ready).then(|| NodeConditionPlan {
        unavailable: false,
        reason: "WeftnetIsUp",
        message: "weft-agent is ready on this node".to_owned(),
    })
}

/// Whether the Node says so already.
#[must_use]
pub fn is_stored(node: &Node, plan: &NodeConditionPlan) -> bool {
    stored(node).is_some_and(|stored| {
        stored.status == status(plan) && stored.reason.as_deref() == Some(plan.reason)
    })
}

/// The condition that a Node has.
#[must_use]
pub fn stored(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == TYPE)
}

/// The spelling of its status.
#[must_use]
pub fn status(plan: &NodeConditionPlan) -> &'static str {
    if plan.unavailable { "True" } else { "False" }
}

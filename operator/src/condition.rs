//! Conditions: from what is wanted and what is stored to what is written, keeping the time of the
//! last transition; and from both to the Events that tell of the change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use weft_crds::{ConditionStatus, ConditionType, reason};

use crate::problem::Problem;

/// A condition as it should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionPlan {
    /// Which.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word.
    pub reason: &'static str,
    /// Cause, object and next step.
    pub message: String,
}

impl ConditionPlan {
    /// It holds, and nothing is wrong.
    #[must_use]
    pub fn ok(type_: ConditionType, message: &str) -> Self {
        Self {
            type_,
            status: ConditionStatus::True,
            reason: reason::OK,
            message: message.to_owned(),
        }
    }

    /// What a problem makes of it.
    #[must_use]
    pub fn of(type_: ConditionType, status: ConditionStatus, problem: &Problem) -> Self {
        Self {
            type_,
            status,
            reason: problem.reason,
            message: problem.message(),
        }
    }
}

/// Something to tell in an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPlan {
    /// A warning, or for information.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// The sentence.
    pub note: String,
}

/// The longest note that the API takes is 1 kB.
const LONGEST_NOTE: usize = 1000;

/// The conditions to store: a condition that is not wanted any more goes, one whose status stays
/// keeps its time.
#[must_use]
pub fn merge(
    stored: &[Condition],
    wanted: &[ConditionPlan],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    wanted
        .iter()
        .map(|plan| {
            let status = plan.status.as_str();
            let since = find(stored, plan.type_)
                .filter(|old| old.status == status)
                .map(|old| old.last_transition_time.clone());
            Condition {
                type_: plan.type_.as_str().to_owned(),
                status: status.to_owned(),
                reason: plan.reason.to_owned(),
                message: plan.message.clone(),
                observed_generation: generation,
                last_transition_time: since.unwrap_or(Time(now)),
            }
        })
        .collect()
}

/// What changed, each told once. The summaries Ready, Reconciling and Stalled are left out: what
/// they sum up has its own.
#[must_use]
pub fn events(stored: &[Condition], wanted: &[ConditionPlan]) -> Vec<EventPlan> {
    let mut events: Vec<EventPlan> = Vec::new();
    for plan in wanted.iter().filter(|plan| !is_summary(plan.type_)) {
        let old = find(stored, plan.type_);
        if old.is_some_and(|old| old.status == plan.status.as_str() && old.reason == plan.reason) {
            continue;
        }
        let event = event(old, plan);
        if !events.iter().any(|told| told.note == event.note) {
            events.push(event);
        }
    }
    events
}

fn is_summary(type_: ConditionType) -> bool {
    matches!(
        type_,
        ConditionType::Ready | ConditionType::Reconciling | ConditionType::Stalled
    )
}

fn event(old: Option<&Condition>, plan: &ConditionPlan) -> EventPlan {
    let well = plan.reason == reason::OK;
    // That nodes are not ready is news only if they have been.
    let expected = plan.type_ == ConditionType::MTUReduced
        || (plan.reason == reason::NODES_NOT_READY && old.is_none_or(|old| old.status != "True"));
    EventPlan {
        warning: !well && !expected,
        reason: if well {
            // Types of ours on others' objects have our domain in front.
            let name = plan.type_.as_str();
            name.rsplit('/').next().unwrap_or(name)
        } else {
            plan.reason
        }
        .to_owned(),
        note: note(&plan.message),
    }
}

/// As much of a sentence as an Event can hold.
#[must_use]
pub fn note(sentence: &str) -> String {
    sentence.chars().take(LONGEST_NOTE).collect()
}

/// The stored condition of a type.
#[must_use]
pub fn find(stored: &[Condition], type_: ConditionType) -> Option<&Condition> {
    stored
        .iter()
        .find(|condition| condition.type_ == type_.as_str())
}

/// Whether a stored condition of a type is True.
#[must_use]
pub fn is_true(stored: &[Condition], type_: ConditionType) -> bool {
    find(stored, type_).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_time_of_a_transition_stays_while_the_status_does() {
        let ready = ConditionPlan::ok(ConditionType::Ready, "all well");
        let first = merge(&[], std::slice::from_ref(&ready), Some(1), at(10));
        let second = merge(&first, std::slice::from_ref(&ready), Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(second[0].observed_generation, Some(2));
        let worse = ConditionPlan {
            status: ConditionStatus::False,
            ..ready
        };
        let third = merge(&second, &[worse], Some(2), at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn a_change_is_told_once() {
        let plan = ConditionPlan::ok(ConditionType::Accepted, "accepted");
        assert_eq!(events(&[], std::slice::from_ref(&plan)).len(), 1);
        let stored = merge(&[], std::slice::from_ref(&plan), None, at(1));
        assert!(events(&stored, &[plan]).is_empty());
    }
}

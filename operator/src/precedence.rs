//! Who wins when two objects of users cannot both be accepted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use weft_crds::ConditionType;

use crate::condition;

/// Sorts the winner first: what was accepted exactly as it stands, then the older one, then by name.
///
/// The first part keeps an edit of one object from displacing another that is in use.
#[must_use]
pub fn key<K: Resource>(object: &K, conditions: Option<&[Condition]>) -> (bool, i64, String) {
    let created = object
        .meta()
        .creation_timestamp
        .as_ref()
        .map_or(i64::MAX, |time| time.0.as_second());
    (
        !accepted_as_it_stands(object, conditions),
        created,
        object.name_any(),
    )
}

/// Whether its status says that it was accepted, and its spec has not changed since.
#[must_use]
pub fn accepted_as_it_stands<K: Resource>(object: &K, conditions: Option<&[Condition]>) -> bool {
    conditions
        .and_then(|conditions| condition::find(conditions, ConditionType::Accepted))
        .is_some_and(|accepted| {
            accepted.status == "True" && accepted.observed_generation == object.meta().generation
        })
}

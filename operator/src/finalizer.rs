//! The finalizer that keeps a pool or overlay while somebody uses it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Set on pools and overlays before their first use, removed when a deleted one is unused.
pub const IN_USE: &str = "weftnet.dev/in-use";

/// What is to be done with the finalizer of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalizerPlan {
    /// It is as it should be.
    Keep,
    /// Set it.
    Add,
    /// Let the object go.
    Remove,
}

/// What is to be done, given whether somebody uses the object.
#[must_use]
pub fn plan(metadata: &ObjectMeta, used: bool) -> FinalizerPlan {
    match (metadata.deletion_timestamp.is_some(), is_set(metadata)) {
        (false, false) => FinalizerPlan::Add,
        (true, true) if !used => FinalizerPlan::Remove,
        _ => FinalizerPlan::Keep,
    }
}

/// Whether the object has it.
#[must_use]
pub fn is_set(metadata: &ObjectMeta) -> bool {
    metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == IN_USE)
}

/// The object's finalizers after the change.
#[must_use]
pub fn after(metadata: &ObjectMeta, plan: FinalizerPlan) -> Vec<String> {
    let others = metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|finalizer| *finalizer != IN_USE)
        .cloned();
    match plan {
        FinalizerPlan::Remove => others.collect(),
        FinalizerPlan::Keep | FinalizerPlan::Add => others.chain([IN_USE.to_owned()]).collect(),
    }
}

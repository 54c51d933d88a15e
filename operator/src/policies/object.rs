//! A ClusterNetworkPolicy with the status that the operator writes.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::Deserialize;
use weft_core::policy::object::ClusterNetworkPolicy;

/// Group and version of the API.
pub const API_VERSION: &str = "policy.networking.k8s.io/v1alpha2";

/// The object, as far as somebody here reads it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ClusterPolicy {
    /// Metadata and spec, as agents read them.
    #[serde(flatten)]
    pub policy: ClusterNetworkPolicy,
    /// What controllers say of it.
    #[serde(default)]
    pub status: Status,
}

/// `status`
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Status {
    /// `status.conditions`
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Resource for ClusterPolicy {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ClusterNetworkPolicy".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "policy.networking.k8s.io".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1alpha2".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "clusternetworkpolicies".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.policy.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.policy.metadata
    }
}

//! NetworkPolicies, Namespaces, ClusterNetworkPolicies and, where rules ask for them, the PodAddresses
//! of all nodes: watches whose objects go to the engine one by one and at once. None of them is kept here.
//!
//! A cluster need not have ClusterNetworkPolicies. Their definition is watched: they are followed from
//! the moment that it is served, and none is in force without it.

pub mod objects;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use weft_core::policy::object::{self, Parsed};
use weft_core::policy::{Labels, Policy};
use weft_crds::PodAddress;

use super::{Update, follow};
use crate::engine::{Input, PolicyInput};
use crate::metrics::Metrics;
use objects::{ClusterPolicyObject, DEFINITION, DefinitionObject, is_served};

/// A watch that is there only at times.
type Optional<T> = Option<BoxStream<'static, Update<T>>>;

/// Watches for ever. Ends only when the engine is gone. `pods` says whether PodAddresses are needed.
pub async fn run(
    client: Client,
    inputs: Sender<Input>,
    mut pods_needed: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) {
    let mut policies = follow(
        Api::<NetworkPolicy>::all(client.clone()),
        "NetworkPolicy",
        Config::default(),
        |policy| {
            let namespace = policy.namespace().unwrap_or_default();
            let key = format!("{namespace}/{}", policy.name_any());
            (key, told(object::network_policy(&policy)))
        },
        metrics.clone(),
    )
    .boxed();
    let mut namespaces = follow(
        Api::<Namespace>::all(client.clone()),
        "Namespace",
        Config::default(),
        |namespace| (namespace.name_any(), Labels::new(namespace.labels())),
        metrics.clone(),
    )
    .boxed();
    let mut definitions = follow(
        Api::<DefinitionObject>::all(client.clone()),
        "CustomResourceDefinition",
        Config::default().fields(&format!("metadata.name={DEFINITION}")),
        |definition| (definition.name_any(), is_served(&definition)),
        metrics.clone(),
    )
    .boxed();
    let mut cluster_policies: Optional<Option<Policy>> = None;
    let mut pods = None;
    let mut served = BTreeMap::new();
    pods_needed.mark_changed();
    loop {
        let input = tokio::select! {
            Some(update) = policies.next() => PolicyInput::NetworkPolicy(update),
            Some(update) = namespaces.next() => PolicyInput::Namespace(update),
            Some(update) = definitions.next() => {
                update.store(&mut served);
                let is_served = served.values().any(|served| *served);
                if is_served {
                    if cluster_policies.is_none() {
                        cluster_policies = Some(follow_cluster_policies(&client, &metrics));
                    }
                    continue;
                }
                cluster_policies = None;
                PolicyInput::ClusterNetworkPolicy(Update::Reset(BTreeMap::new()))
            }
            update = next(&mut cluster_policies) => PolicyInput::ClusterNetworkPolicy(update),
            update = next(&mut pods) => PolicyInput::Pod(update),
            changed = pods_needed.changed() => {
                if changed.is_err() {
                    return;
                }
                let is_needed = *pods_needed.borrow_and_update();
                if is_needed == pods.is_some() {
                    continue;
                }
                if is_needed {
                    let all = Api::<PodAddress>::all(client.clone());
                    let trim = objects::peer;
                    let kind = "PodAddress";
                    pods = Some(follow(all, kind, Config::default(), trim, metrics.clone()).boxed());
                    continue;
                }
                pods = None;
                PolicyInput::PodsUnwatched
            }
        };
        if inputs.send(Input::Policy(Box::new(input))).is_err() {
            return;
        }
    }
}

fn follow_cluster_policies(
    client: &Client,
    metrics: &Arc<Metrics>,
) -> BoxStream<'static, Update<Option<Policy>>> {
    follow(
        Api::<ClusterPolicyObject>::all(client.clone()),
        "ClusterNetworkPolicy",
        Config::default(),
        |ClusterPolicyObject(policy)| {
            let name = policy.metadata.name.clone().unwrap_or_default();
            (name, told(object::cluster_network_policy(&policy)))
        },
        metrics.clone(),
    )
    .boxed()
}

/// What comes next of a watch; never anything where there is none.
async fn next<T>(watch: &mut Optional<T>) -> Update<T> {
    match watch {
        Some(watch) => match watch.next().await {
            Some(update) => update,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// What of a policy could be read; what could not is logged once for each version of it.
fn told(parsed: Parsed) -> Option<Policy> {
    let Parsed { policy, rejections } = parsed;
    for rejection in rejections {
        tracing::warn!(
            code = rejection.code().to_string(),
            reason = rejection.to_string(),
            "a part of a policy is not in force"
        );
    }
    policy
}

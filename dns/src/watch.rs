//! The watches: which collections, and what is kept of an object.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use weft_core::zones::config::Config;
use weft_core::zones::input::{self, ServiceInput, SliceInput};
use weft_crds::PodAddress;

use crate::follow::follow;
use crate::metrics::Metrics;
use crate::state::{Input, Watched};

/// Starts a task for each collection.
pub fn start(
    client: &Client,
    config: &Config,
    watched: Watched,
    updates: &mpsc::Sender<(Instant, Input)>,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
) {
    let exposed = config.clone();
    let namespaces = move |object: Namespace| {
        (
            object.name_any().into(),
            Some(input::exposed(&object, &exposed)),
        )
    };
    tasks.spawn(follow(
        Api::all(client.clone()),
        "namespaces",
        namespaces,
        updates.clone(),
        Input::Namespaces,
        Arc::clone(metrics),
    ));
    let services = |object: Service| (key(&object), ServiceInput::service(&object));
    tasks.spawn(follow(
        Api::all(client.clone()),
        "services",
        services,
        updates.clone(),
        Input::Services,
        Arc::clone(metrics),
    ));
    let names = config.endpoint_pod_names;
    let slices = move |object: EndpointSlice| (key(&object), SliceInput::slice(&object, names));
    tasks.spawn(follow(
        Api::all(client.clone()),
        "endpointslices",
        slices,
        updates.clone(),
        Input::Slices,
        Arc::clone(metrics),
    ));
    if watched.pods {
        let pods = |object: PodAddress| {
            let addresses = object
                .spec
                .addresses
                .iter()
                .filter_map(|address| address.parse().ok());
            (key(&object), Some(addresses.collect()))
        };
        tasks.spawn(follow(
            Api::all(client.clone()),
            "podaddresses",
            pods,
            updates.clone(),
            Input::Pods,
            Arc::clone(metrics),
        ));
    }
    if watched.imports {
        tasks.spawn(imports(
            client.clone(),
            updates.clone(),
            Arc::clone(metrics),
        ));
    }
}

/// ServiceImports have no type of their own here.
async fn imports(client: Client, updates: mpsc::Sender<(Instant, Input)>, metrics: Arc<Metrics>) {
    let resource = ApiResource {
        group: "multicluster.x-k8s.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "multicluster.x-k8s.io/v1alpha1".to_owned(),
        kind: "ServiceImport".to_owned(),
        plural: "serviceimports".to_owned(),
    };
    let trim = |object: DynamicObject| {
        let key = key(&object);
        (key, ServiceInput::import(&object.data))
    };
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    follow(
        api,
        "serviceimports",
        trim,
        updates,
        Input::Imports,
        metrics,
    )
    .await;
}

fn key(object: &impl ResourceExt) -> Box<str> {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
    .into()
}

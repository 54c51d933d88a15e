//! Services, EndpointSlices and ServiceCIDRs: three watches whose objects go to the engine in compact
//! form, one by one and at once. None of them is kept here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::{Api, Client, Resource, ResourceExt};
use weft_core::finding::Rejection;
use weft_core::services::object;

use super::{Update, follow};
use crate::engine::{Input, ServiceInput};
use crate::metrics::Metrics;

/// How long the ranges of cluster IPs are waited for when all else has been heard: an administrator may
/// have switched ServiceCIDR objects off.
const NETWORKS_WITHIN: Duration = Duration::from_secs(5);

/// Watches for ever. Ends only when the engine is gone.
pub async fn run(client: Client, inputs: Sender<Input>, metrics: Arc<Metrics>) {
    let services = follow(
        Api::<Service>::all(client.clone()),
        "Service",
        None,
        |service| (key(&service), told(object::service(&service))),
        metrics.clone(),
    );
    let slices = follow(
        Api::<EndpointSlice>::all(client.clone()),
        "EndpointSlice",
        None,
        |slice| (key(&slice), told(object::slice(&slice))),
        metrics.clone(),
    );
    let networks = follow(
        Api::<ServiceCIDR>::all(client),
        "ServiceCIDR",
        None,
        |range| {
            let networks = told(object::service_networks(&range)).unwrap_or_default();
            (range.name_any(), networks)
        },
        metrics,
    );
    let (mut services, mut slices, mut networks) =
        (Box::pin(services), Box::pin(slices), Box::pin(networks));
    let mut ranges: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    let (mut services_there, mut slices_there, mut ranges_there) = (false, false, false);
    let mut synced = false;
    let patience = tokio::time::sleep(NETWORKS_WITHIN);
    tokio::pin!(patience);
    loop {
        let input = tokio::select! {
            Some(update) = services.next() => {
                services_there |= matches!(update, Update::Reset(_));
                ServiceInput::Service(update)
            }
            Some(update) = slices.next() => {
                slices_there |= matches!(update, Update::Reset(_));
                ServiceInput::Slice(update)
            }
            Some(update) = networks.next() => {
                ranges_there |= matches!(update, Update::Reset(_));
                update.store(&mut ranges);
                ServiceInput::Networks(ranges.values().flatten().copied().collect())
            }
            () = &mut patience, if !ranges_there && !synced => {
                ranges_there = true;
                continue;
            }
        };
        if inputs.send(Input::Services(input)).is_err() {
            return;
        }
        if !synced && services_there && slices_there && ranges_there {
            synced = true;
            if inputs.send(Input::Services(ServiceInput::Synced)).is_err() {
                return;
            }
        }
        if !synced && services_there && slices_there && !ranges_there {
            let within = tokio::time::Instant::now() + NETWORKS_WITHIN;
            patience.as_mut().reset(within);
        }
    }
}

fn key<K: Resource>(object: &K) -> String {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let name = object.meta().name.as_deref().unwrap_or_default();
    format!("{namespace}/{name}")
}

/// What of an object could be read; what could not is logged once for each version of it.
fn told<T>(parsed: object::Parsed<T>) -> Option<T> {
    let object::Parsed { object, rejections } = parsed;
    for rejection in rejections {
        log(&rejection);
    }
    object
}

fn log(rejection: &Rejection) {
    tracing::warn!(
        code = rejection.code().to_string(),
        reason = rejection.to_string(),
        "a part of an object is left out"
    );
}

//! Services, EndpointSlices and ServiceCIDRs: three watches whose objects go to the engine in compact
//! form, one by one and at once. None of them is kept here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource, ResourceExt};
use weft_core::finding::Rejection;
use weft_core::services::object;

use super::{Update, follow};
use crate::engine::{Input, ServiceInput};
use crate::metrics::Metrics;
use crate::services::health::ProxyHealth;

/// How long the ranges of cluster IPs are waited for when all else has been heard: an administrator may
/// have switched ServiceCIDR objects off.
const NETWORKS_WITHIN: Duration = Duration::from_secs(5);

/// What kube-proxy selects: nothing headless, nothing that is for another proxy. An object that gets such
/// a label is told to be gone.
const OURS: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

/// Annotation of an EndpointSlice: when what it is about happened.
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Watches for ever. Ends only when the engine is gone.
pub async fn run(
    client: Client,
    inputs: Sender<Input>,
    health: Arc<ProxyHealth>,
    metrics: Arc<Metrics>,
) {
    let started = SystemTime::now();
    let send = |input| {
        health.queued(Instant::now());
        inputs.send(Input::Services(input)).is_ok()
    };
    let services = follow(
        Api::<Service>::all(client.clone()),
        "Service",
        Config::default().labels(OURS),
        |service| (key(&service), told(object::service(&service))),
        metrics.clone(),
    );
    let slices = follow(
        Api::<EndpointSlice>::all(client.clone()),
        "EndpointSlice",
        Config::default().labels(OURS),
        move |slice| {
            let trigger = trigger(&slice).filter(|at| *at > started);
            (key(&slice), (told(object::slice(&slice)), trigger))
        },
        metrics.clone(),
    );
    let networks = follow(
        Api::<ServiceCIDR>::all(client),
        "ServiceCIDR",
        Config::default(),
        |range| {
            let networks = told(object::service_networks(&range)).unwrap_or_default();
            (range.name_any(), networks)
        },
        metrics.clone(),
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
                metrics.services.queued_service();
                ServiceInput::Service(update)
            }
            Some(update) = slices.next() => {
                slices_there |= matches!(update, Update::Reset(_));
                metrics.services.queued_endpoints();
                if let Update::Apply(_, (Some(slice), Some(at))) = &update
                    && synced
                    && !send(ServiceInput::Triggered { family: slice.family, at: *at })
                {
                    return;
                }
                ServiceInput::Slice(update.map(|(slice, _)| slice))
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
        if !send(input) {
            return;
        }
        if !synced && services_there && slices_there && ranges_there {
            synced = true;
            if !send(ServiceInput::Synced) {
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

fn trigger(slice: &EndpointSlice) -> Option<SystemTime> {
    let annotations = slice.metadata.annotations.as_ref()?;
    let at: jiff::Timestamp = annotations.get(TRIGGER)?.parse().ok()?;
    Some(at.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_change_behind_a_slice_is_read() {
        let slice = |time: &str| -> EndpointSlice {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "a", "annotations": {TRIGGER: time}},
                "addressType": "IPv4", "endpoints": []
            }))
            .unwrap()
        };
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_316_800_250);
        assert_eq!(trigger(&slice("2025-11-28T08:00:00.25Z")), Some(at));
        assert_eq!(trigger(&slice("soon")), None);
    }
}

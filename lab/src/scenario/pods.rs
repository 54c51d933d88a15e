//! Pods of a scenario: made from a few words, waited for, and remembered with what is needed to
//! reach them when the API server is gone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use super::lab::Lab;
use super::model::PodSpec;
use super::wait::Deadline;

/// What is known of a running pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its node's name.
    pub node: String,
    /// Its addresses, as its status has them.
    pub addresses: Vec<IpAddr>,
    /// Container ids by container name.
    pub containers: BTreeMap<String, String>,
}

/// Makes a pod; its name may still be in use by one that is going.
///
/// # Errors
/// When the API server refuses.
pub async fn create(lab: &Lab, namespace: &str, name: &str, spec: &PodSpec) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(lab.client.clone(), namespace);
    let pod: Pod = serde_json::from_value(manifest(lab, name, spec)?)?;
    // After an outage of the API server controllers look again up to a minute later.
    let deadline = Deadline::after(Duration::from_secs(90));
    loop {
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => return Ok(()),
            // The namespace's ServiceAccount is made by a controller a moment later; a pod that is
            // being deleted keeps its name for a moment.
            Err(kube::Error::Api(status))
                if (status.code == 403 || status.code == 409) && !deadline.is_over() => {}
            Err(error) => {
                return Err(error).with_context(|| format!("failed to create pod {name}"));
            }
        }
        deadline.pause().await;
    }
}

fn manifest(lab: &Lab, name: &str, spec: &PodSpec) -> Result<Value> {
    let PodSpec {
        node,
        labels,
        containers,
        host_network,
        later: _,
        unready: _,
    } = spec;
    let mut containers = containers.clone();
    if containers.is_empty() {
        containers.insert("main".to_owned(), vec!["serve".to_owned()]);
    }
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, args)| {
            json!({"name": name, "image": crate::image::PROBE, "imagePullPolicy": "Never", "args": args})
        })
        .collect();
    let mut pod = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "containers": containers,
            "hostNetwork": host_network,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
        }
    });
    if let Some(number) = node {
        let node = &lab.node(*number)?.record.name;
        pod["spec"]["nodeName"] = json!(node);
    }
    Ok(pod)
}

/// Waits until the pods are Ready and returns what is known of them.
///
/// # Errors
/// When one is not in time: with what its status and the last events say.
pub async fn ready(
    lab: &Lab,
    namespace: &str,
    names: &[String],
    within: Duration,
) -> Result<Vec<PodFacts>> {
    let api: Api<Pod> = Api::namespaced(lab.client.clone(), namespace);
    let deadline = Deadline::after(within);
    loop {
        let list = api.list(&ListParams::default()).await;
        let missing = match list {
            Ok(list) => {
                let facts: Vec<Option<PodFacts>> =
                    names.iter().map(|name| find(&list.items, name)).collect();
                if facts.iter().all(Option::is_some) {
                    return Ok(facts.into_iter().flatten().collect());
                }
                let late = names
                    .iter()
                    .zip(&facts)
                    .filter(|(_, facts)| facts.is_none());
                late.map(|(name, _)| name.clone()).collect::<Vec<_>>()
            }
            Err(error) if deadline.is_over() => return Err(error).context("failed to list pods"),
            Err(_) => names.to_vec(),
        };
        if deadline.is_over() {
            let why = last_event(lab, namespace).await;
            bail!(
                "not Ready within {} s: {}; {why}",
                within.as_secs(),
                missing.join(", ")
            );
        }
        deadline.pause().await;
    }
}

fn find(pods: &[Pod], name: &str) -> Option<PodFacts> {
    let pod = pods
        .iter()
        .find(|pod| pod.metadata.name.as_deref() == Some(name))?;
    let status = pod.status.as_ref()?;
    let is_ready = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    if !is_ready || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ips = status.pod_ips.iter().flatten();
    let running = status.container_statuses.iter().flatten();
    let containers = running.filter_map(|container| {
        let id = container.container_id.as_ref()?.split("//").nth(1)?;
        Some((container.name.clone(), id.to_owned()))
    });
    Some(PodFacts {
        name: name.to_owned(),
        uid: pod.metadata.uid.clone()?,
        node: pod.spec.as_ref()?.node_name.clone()?,
        addresses: ips.filter_map(|ip| ip.ip.parse().ok()).collect(),
        containers: containers.collect(),
    })
}

/// What the cluster says last about the namespace's pods: usually why one does not start.
pub async fn last_event(lab: &Lab, namespace: &str) -> String {
    let api: Api<Event> = Api::namespaced(lab.client.clone(), namespace);
    let Ok(list) = api.list(&ListParams::default()).await else {
        return "no event".to_owned();
    };
    let warnings = list
        .items
        .iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"));
    let last = warnings.max_by_key(|event| event.metadata.creation_timestamp.clone());
    last.map_or_else(
        || "no warning was written".to_owned(),
        |event| {
            let message = event.message.clone().unwrap_or_default();
            format!(
                "last warning: {} {message}",
                event.reason.clone().unwrap_or_default()
            )
        },
    )
}

/// Deletes pods and waits until they are gone.
///
/// # Errors
/// When one stays.
pub async fn delete(lab: &Lab, namespace: &str, names: &[String]) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(lab.client.clone(), namespace);
    for name in names {
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                return Err(error).with_context(|| format!("failed to delete pod {name}"));
            }
        }
    }
    let deadline = Deadline::after(Duration::from_secs(90));
    for name in names {
        while api
            .get_opt(name)
            .await
            .with_context(|| format!("failed to look for pod {name}"))?
            .is_some()
        {
            if deadline.is_over() {
                bail!("pod {name} is still there after 90 s");
            }
            deadline.pause().await;
        }
    }
    Ok(())
}

/// Addresses that more than one running pod of the cluster has.
///
/// # Errors
/// When pods cannot be listed.
pub async fn shared_addresses(lab: &Lab) -> Result<Vec<String>> {
    let api: Api<Pod> = Api::all(lab.client.clone());
    let list = api
        .list(&ListParams::default())
        .await
        .context("failed to list pods")?;
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in &list.items {
        let is_host = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.host_network == Some(true));
        let Some(status) = pod
            .status
            .as_ref()
            .filter(|status| status.phase.as_deref() == Some("Running"))
        else {
            continue;
        };
        if is_host || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        for ip in status.pod_ips.iter().flatten() {
            owners
                .entry(ip.ip.clone())
                .or_default()
                .push(format!("{namespace}/{name}"));
        }
    }
    Ok(twice(owners))
}

/// One sentence per address with more than one owner.
pub fn twice(owners: BTreeMap<String, Vec<String>>) -> Vec<String> {
    let shared = owners.into_iter().filter(|(_, names)| names.len() > 1);
    shared
        .map(|(address, names)| format!("{address} belongs to {}", names.join(" and ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_with_two_owners_is_named() {
        let owners = BTreeMap::from([
            ("10.0.0.1".to_owned(), vec!["a/x".to_owned()]),
            (
                "10.0.0.2".to_owned(),
                vec!["a/y".to_owned(), "b/z".to_owned()],
            ),
        ]);
        assert_eq!(twice(owners), ["10.0.0.2 belongs to a/y and b/z"]);
    }

    #[test]
    fn a_pod_without_a_ready_condition_is_not_ready() {
        let pod = |ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "a", "uid": "u"},
                "spec": {"nodeName": "node-1", "containers": []},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                    "containerStatuses": [{"name": "main", "containerID": "containerd://abc", "image": "", "imageID": "", "ready": true, "restartCount": 0}]
                }
            }))
            .unwrap()
        };
        let facts = find(&[pod("True")], "a").unwrap();
        assert_eq!(facts.addresses.len(), 2);
        assert_eq!(facts.containers["main"], "abc");
        assert_eq!(find(&[pod("False")], "a"), None);
    }
}

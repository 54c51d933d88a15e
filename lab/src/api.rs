//! What the lab asks of a cluster's API: readiness, Node objects, applying folders of manifests.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::Scope;
use kube::{Api, Client, Config};
use serde_json::json;

use crate::state::NodeRecord;

/// Who the lab is in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "weft-lab";
/// How often things are looked at that have no event.
pub const POLL: Duration = Duration::from_millis(75);

/// A client from a kubeconfig file.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("failed to read {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Waits until the API server says that it is ready, which includes its built-in roles.
pub async fn wait_until_ready(client: &Client, alive: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if is_ready(client).await {
            return Ok(());
        }
        if !alive() {
            bail!("the API server or etcd ended at once; see `weft-lab logs control-plane`");
        }
        if Instant::now() > deadline {
            bail!("the API server was not ready within 90 s; see `weft-lab logs control-plane`");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether the API server says that it is ready.
pub async fn is_ready(client: &Client) -> bool {
    let Ok(request) = get("/readyz") else {
        return false;
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), client.request_text(request)).await;
    matches!(answer, Ok(Ok(text)) if text == "ok")
}

/// Makes a Node object with its addresses, so that what depends on them need not wait for kubelet.
pub async fn create_node(client: &Client, node: &NodeRecord) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let object: Node = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {
                "kubernetes.io/hostname": node.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": crate::asset::versions::architecture(),
                "topology.kubernetes.io/zone": format!("segment-{}", node.segment + 1),
            },
        },
    }))?;
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => {
            return Err(error).with_context(|| format!("failed to make the Node {}", node.name));
        }
    }
    let mut addresses: Vec<_> = node
        .addresses
        .all()
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address.to_string()}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": node.name}));
    let status = json!({"status": {"addresses": addresses}});
    api.patch_status(&node.name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .with_context(|| format!("failed to set the addresses of the Node {}", node.name))?;
    Ok(())
}

/// Names of nodes that are not Ready.
pub async fn nodes_not_ready(client: &Client) -> Result<Vec<String>> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api.list(&kube::api::ListParams::default()).await?;
    let ready = |node: &Node| {
        let status = node.status.as_ref();
        let conditions = status
            .and_then(|s| s.conditions.as_deref())
            .unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let names = nodes.items.iter().filter(|node| !ready(node));
    Ok(names
        .filter_map(|node| node.metadata.name.clone())
        .collect())
}

/// Waits until all nodes are Ready.
pub async fn wait_for_nodes(client: &Client, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let waiting = nodes_not_ready(client).await;
        if waiting.as_ref().is_ok_and(Vec::is_empty) {
            return Ok(());
        }
        if Instant::now() > deadline {
            match waiting {
                Ok(nodes) => bail!(
                    "not Ready after {} s: {}; `weft-lab kubectl describe node` says why",
                    limit.as_secs(),
                    nodes.join(", ")
                ),
                Err(error) => return Err(error.context("failed to list nodes")),
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until all replicas of a Deployment are ready.
pub async fn wait_for_deployment(
    client: &Client,
    (namespace, name): (&str, &str),
    limit: Duration,
) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + limit;
    loop {
        let found = api.get(name).await;
        let status = found.as_ref().ok().and_then(|found| found.status.as_ref());
        let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
        let wanted = found
            .as_ref()
            .ok()
            .and_then(|found| found.spec.as_ref()?.replicas);
        if wanted.is_some_and(|wanted| ready >= wanted) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "Deployment {namespace}/{name} has {ready} ready replicas after {} s; `weft-lab kubectl describe pod` says why",
                limit.as_secs()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Applies all documents of a YAML text by server-side apply, as a GitOps tool would.
pub async fn apply(client: &Client, yaml: &str) -> Result<usize> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(yaml)?;
    let mut applied = 0;
    for document in documents {
        if document.is_null() {
            continue;
        }
        let object: DynamicObject = serde_json::from_value(document)
            .context("a document has no apiVersion, kind or metadata")?;
        apply_object(client, object).await?;
        applied += 1;
    }
    Ok(applied)
}

/// Applies one object.
pub async fn apply_object(client: &Client, object: DynamicObject) -> Result<DynamicObject> {
    let types = object
        .types
        .clone()
        .context("an object has no apiVersion and kind")?;
    let name = object
        .metadata
        .name
        .clone()
        .context("an object has no name")?;
    let gvk = GroupVersionKind::try_from(&types)?;
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &gvk)
        .await
        .with_context(|| {
            format!(
                "the API server does not know {} {}",
                types.api_version, types.kind
            )
        })?;
    let api: Api<DynamicObject> = match (&capabilities.scope, &object.metadata.namespace) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, namespace) => {
            let namespace = namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .with_context(|| format!("failed to apply {} {name}", types.kind))
}

/// Applies all `.yaml` files of a folder, in the order of their names. Tries again for a while: their
/// definitions may be so new that the API server does not serve them yet.
pub async fn apply_folder(client: &Client, folder: &Path, limit: Duration) -> Result<usize> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("failed to read {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"))
        .collect();
    files.sort();
    let mut applied = 0;
    let deadline = Instant::now() + limit;
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        loop {
            match apply(client, &text).await {
                Ok(count) => break applied += count,
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("failed to apply {}", file.display())));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
    Ok(applied)
}

fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

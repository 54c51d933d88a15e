//! What the API says of a cluster, as far as policies of one pod depend on it.
//!
//! What the user may not see is said, not guessed: a list that is refused leaves a sentence.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use weft_core::policy::object::ClusterNetworkPolicy;

/// So many objects are asked for at a time.
const PAGE: u32 = 500;
/// Who waits longer is told what for.
const SOON: Duration = Duration::from_secs(1);

/// A cluster as one pod's policies see it.
#[derive(Debug)]
pub struct Cluster {
    /// The pod.
    pub pod: Pod,
    /// All pods that may be seen.
    pub pods: Vec<Pod>,
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// NetworkPolicies of the pod's namespace.
    pub network_policies: Vec<NetworkPolicy>,
    /// ClusterNetworkPolicies.
    pub cluster_policies: Vec<ClusterNetworkPolicy>,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

/// Objects that could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Which, in the plural.
    pub what: &'static str,
    /// Why, and what does not follow.
    pub why: String,
}

impl Cluster {
    /// Reads everything that a pod's policies depend on.
    ///
    /// # Errors
    /// When the pod or its namespace's policies cannot be read.
    pub async fn read(client: Client, namespace: &str, pod: &str) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let found = pods
            .get_opt(pod)
            .await
            .with_context(|| format!("failed to read Pod {namespace}/{pod}"))?;
        let found = found.ok_or_else(|| {
            anyhow!("there is no Pod {namespace}/{pod}: see `kubectl get pods -n {namespace}`, or name another namespace with -n")
        })?;
        let policies = all(Api::<NetworkPolicy>::namespaced(client.clone(), namespace)).await;
        let network_policies = policies.with_context(|| {
            format!("failed to read NetworkPolicies of namespace {namespace}: without them nothing can be said")
        })?;
        let mut unseen = Vec::new();
        let namespaces = match all(Api::<Namespace>::all(client.clone())).await {
            Ok(namespaces) => namespaces,
            Err(error) => {
                unseen.push(Unseen::new("Namespaces", &error));
                let own = Api::<Namespace>::all(client.clone())
                    .get_opt(namespace)
                    .await;
                own.ok().flatten().into_iter().collect()
            }
        };
        let nodes = seen(
            all(Api::<Node>::all(client.clone())).await,
            "Nodes",
            &mut unseen,
        );
        let cluster_policies = cluster_policies(&client).await;
        let cluster_policies = seen(cluster_policies, "ClusterNetworkPolicies", &mut unseen);
        let pods = match all(Api::<Pod>::all(client.clone())).await {
            Ok(pods) => pods,
            Err(error) => {
                unseen.push(Unseen::new("Pods of other namespaces", &error));
                all(pods).await.unwrap_or_default()
            }
        };
        Ok(Self {
            pod: found,
            pods,
            namespaces,
            nodes,
            network_policies,
            cluster_policies,
            unseen,
        })
    }
}

impl Unseen {
    fn new(what: &'static str, error: &kube::Error) -> Self {
        let why = match error {
            kube::Error::Api(status) if status.code == 403 => "you may not list them".to_owned(),
            other => other.to_string(),
        };
        Self { what, why }
    }
}

fn seen<T>(
    list: Result<Vec<T>, kube::Error>,
    what: &'static str,
    unseen: &mut Vec<Unseen>,
) -> Vec<T> {
    list.unwrap_or_else(|error| {
        unseen.push(Unseen::new(what, &error));
        Vec::new()
    })
}

/// None where the definition is not installed.
async fn cluster_policies(client: &Client) -> Result<Vec<ClusterNetworkPolicy>, kube::Error> {
    let resource = ApiResource {
        group: "policy.networking.k8s.io".to_owned(),
        version: "v1alpha2".to_owned(),
        api_version: "policy.networking.k8s.io/v1alpha2".to_owned(),
        kind: "ClusterNetworkPolicy".to_owned(),
        plural: "clusternetworkpolicies".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let listed = match all(api).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        other => other?,
    };
    let read = |object: DynamicObject| {
        let value = serde_json::to_value(object)?;
        serde_json::from_value(value)
    };
    let read = listed.into_iter().map(read).collect::<Result<_, _>>();
    read.map_err(kube::Error::SerdeError)
}

/// A whole list, page by page.
async fn all<T>(api: Api<T>) -> Result<Vec<T>, kube::Error>
where
    T: Clone + std::fmt::Debug + DeserializeOwned + Resource,
{
    let began = Instant::now();
    let mut items = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let mut list = api.list(&page).await?;
        items.append(&mut list.items);
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            None => return Ok(items),
            Some(next) => page = page.continue_token(&next),
        }
        if began.elapsed() > SOON && std::io::stderr().is_terminal() {
            eprintln!("read {} objects of {}", items.len(), api.resource_url());
        }
    }
}

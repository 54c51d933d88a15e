//! An agent's token can touch nothing of another node, and a token without the node claim nothing at all.

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use weft_crds::{NodeNetwork, NodeReport, PodAddress};

const NAMESPACE: &str = "kube-system";

#[tokio::test]
#[ignore = "needs a lab cluster: make test starts one"]
async fn an_agent_writes_its_own_node_and_no_other() {
    let admin = super::admin().await;
    let nodes: Vec<(String, Pod)> = agents(&admin)
        .await
        .into_iter()
        .map(|pod| (pod.spec.as_ref().unwrap().node_name.clone().unwrap(), pod))
        .collect();
    assert!(nodes.len() >= 2, "the test needs agents on two nodes");
    let (own, other) = (&nodes[0].0, &nodes[1].0);
    let agent = with_token(&admin, Some(&nodes[0].1)).await;

    // Its own are allowed: so the refusals below are about the node, not about everything.
    patch_report(&agent, own)
        .await
        .expect("an agent may write its own NodeReport");
    patch_network(&agent, own)
        .await
        .expect("an agent may write its own NodeNetwork status");

    let expected = format!("the agent runs on {own}");
    for message in [
        super::refusal(patch_report(&agent, other).await),
        super::refusal(patch_network(&agent, other).await),
        super::refusal(create_address(&agent, other, "weft-test-foreign").await),
    ] {
        assert!(
            message.contains(&expected),
            "refused for another reason: {message}"
        );
    }

    // Of a node that does not exist: an agent deletes what names its own node and is unknown to it.
    create_address(&admin, "weft-test-elsewhere", "weft-test-foreign")
        .await
        .unwrap();
    let addresses: Api<PodAddress> = Api::namespaced(agent.clone(), "default");
    let deleted = addresses
        .delete("weft-test-foreign", &DeleteParams::default())
        .await;
    let moved = addresses
        .patch(
            "weft-test-foreign",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"labels": {"stolen": "yes"}}})),
        )
        .await;
    let cleaned = Api::<PodAddress>::namespaced(admin.clone(), "default")
        .delete("weft-test-foreign", &DeleteParams::default())
        .await;
    assert!(super::refusal(deleted.map(|_| ())).contains(&expected));
    assert!(super::refusal(moved).contains(&expected));
    cleaned.unwrap();
}

#[tokio::test]
#[ignore = "needs a lab cluster: make test starts one"]
async fn a_token_that_names_no_node_writes_nothing() {
    let admin = super::admin().await;
    let unbound = with_token(&admin, None).await;
    let node = Api::<Node>::all(admin.clone())
        .list(&ListParams::default())
        .await
        .unwrap()
        .items[0]
        .name_any();
    let message = super::refusal(patch_report(&unbound, &node).await);
    assert!(message.contains("names no node"), "{message}");
}

#[tokio::test]
#[ignore = "needs a lab cluster: make test starts one"]
async fn an_agent_patches_neither_pods_nor_nodes() {
    let admin = super::admin().await;
    let pod = agents(&admin).await.remove(0);
    let agent = with_token(&admin, Some(&pod)).await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"stolen": "yes"}}}));
    let pods: Api<Pod> = Api::namespaced(agent.clone(), NAMESPACE);
    let refused = super::refusal(
        pods.patch(&pod.name_any(), &PatchParams::default(), &patch)
            .await,
    );
    assert!(
        refused.contains("cannot patch resource \"pods\""),
        "{refused}"
    );
    let nodes: Api<Node> = Api::all(agent);
    let node = pod.spec.unwrap().node_name.unwrap();
    let refused = super::refusal(nodes.patch(&node, &PatchParams::default(), &patch).await);
    assert!(
        refused.contains("cannot patch resource \"nodes\""),
        "{refused}"
    );
}

/// The pods of all agents.
async fn agents(admin: &Client) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(admin.clone(), NAMESPACE);
    let of_agents = ListParams::default().labels("app.kubernetes.io/name=weft-agent");
    pods.list(&of_agents).await.unwrap().items
}

/// A client with a token of the agents' service account, bound to a pod or to nothing.
async fn with_token(admin: &Client, pod: Option<&Pod>) -> Client {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), NAMESPACE);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: Vec::new(),
            expiration_seconds: Some(600),
            bound_object_ref: pod.map(|pod| BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name_any()),
                uid: pod.uid(),
            }),
        },
        ..TokenRequest::default()
    };
    let token = accounts
        .create_token_request("weft-agent", &PostParams::default(), &request)
        .await
        .unwrap()
        .status
        .unwrap()
        .token;
    let mut config = super::config().await;
    config.auth_info = kube::config::AuthInfo {
        token: Some(token.into()),
        ..Default::default()
    };
    Client::try_from(config).unwrap()
}

async fn patch_report(client: &Client, node: &str) -> kube::Result<NodeReport> {
    let reports: Api<NodeReport> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"weftnet.dev/test": "1"}}}));
    reports
        .patch(
            node,
            &PatchParams {
                dry_run: true,
                ..Default::default()
            },
            &patch,
        )
        .await
}

async fn patch_network(client: &Client, node: &str) -> kube::Result<NodeNetwork> {
    let networks: Api<NodeNetwork> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"status": {"observedGeneration": 1}}));
    networks
        .patch_status(
            node,
            &PatchParams {
                dry_run: true,
                ..Default::default()
            },
            &patch,
        )
        .await
}

async fn create_address(client: &Client, node: &str, name: &str) -> kube::Result<PodAddress> {
    let addresses: Api<PodAddress> = Api::namespaced(client.clone(), "default");
    let object = PodAddress::new(
        name,
        weft_crds::PodAddressSpec {
            node: node.to_owned(),
            pod: "nobody".to_owned(),
            addresses: vec!["192.0.2.1".to_owned()],
            pools: vec!["default".to_owned()],
            labels: Default::default(),
            ports: Vec::new(),
        },
    );
    addresses.create(&PostParams::default(), &object).await
}

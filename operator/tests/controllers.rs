//! The whole program against a real API server: what it writes, in answer to what users and agents
//! write.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use weft_crds::{IPBlock, IPPool, NodeNetwork, NodeReport, Overlay};
use weft_operator::policies::object::ClusterPolicy;

use crate::api_server::{ApiServer, create_node, event, eventually, free_port, from};

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn pools_nodes_and_blocks_live_and_go() {
    let server = ApiServer::start().await;
    let client = server.client();
    let operator = Operator::start(&server, "one", &["--node-grace=1s", "--agent-grace=3s"]);
    for node in ["n1", "n2"] {
        create_node(
            &client,
            node,
            if node == "n1" {
                "192.0.2.1"
            } else {
                "192.0.2.2"
            },
        )
        .await;
    }
    overlay(&client).await;
    let pools: Api<IPPool> = Api::all(client.clone());
    let pool: IPPool = from(json!({
        "metadata": {"name": "default"},
        "spec": {"cidrs": [{"cidr": "10.64.0.0/16"}, {"cidr": "fd00:64::/56"}]},
    }));
    pools
        .create(&PostParams::default(), &pool)
        .await
        .expect("the IPPool is taken");

    eventually(
        "each node has a block of each family and is told of the pool",
        async || {
            let networks = Api::<NodeNetwork>::all(client.clone())
                .list(&Default::default())
                .await
                .unwrap();
            let told = networks.iter().all(|network| {
                network.spec.overlays.len() == 1
                    && network.spec.pools.len() == 1
                    && network.spec.pools[0].assignable
            });
            blocks(&client).await.len() == 4 && networks.items.len() == 2 && told
        },
    )
    .await;
    for block in blocks(&client).await {
        assert_eq!(
            weft_core::alloc::parse_block_name(&block.name_any()),
            block.spec.cidr.parse().ok()
        );
    }

    report(&client, "n1", json!([])).await;
    eventually(
        "Node n1 has a network, and Node n2 without an agent has none",
        async || {
            report(&client, "n1", json!([])).await;
            unavailable(&client, "n1").await == Some("False".to_owned())
                && unavailable(&client, "n2").await == Some("True".to_owned())
        },
    )
    .await;
    eventually("the pool's counts are those of the report", async || {
        let pool = pools.get("default").await.unwrap();
        let summary = pool
            .status
            .and_then(|status| status.summary)
            .unwrap_or_default();
        summary.used == "5/0" && summary.free == "65531/4.7e21" && summary.nodes == 2
    })
    .await;

    assert!(operator.page("/readyz").starts_with("HTTP/1.1 200"));
    let blocks_of_pool = "weft_operator_pool_blocks{pool=\"default\",family=\"IPv4\"} 2";
    assert!(operator.page("/metrics").contains(blocks_of_pool));
    eventually(
        "it comes to rest: nothing is written while nothing happens",
        async || {
            let before = operator.writes();
            tokio::time::sleep(Duration::from_secs(7)).await;
            before > 0.0 && operator.writes() == before
        },
    )
    .await;

    let bad: IPPool =
        from(json!({"metadata": {"name": "bad"}, "spec": {"cidrs": [{"cidr": "10.96.128.0/20"}]}}));
    pools
        .create(&PostParams::default(), &bad)
        .await
        .expect("the IPPool is taken");
    eventually(
        "a pool among the Services is refused with the reason",
        async || {
            let message = message(&pools.get("bad").await.unwrap(), "Accepted", "False");
            message.is_some_and(|message| {
                message.contains("ServiceCIDR kubernetes") && message.ends_with("[WEFT-1203]")
            })
        },
    )
    .await;
    event(&client, "CIDROverlap", |object| {
        object.name.as_deref() == Some("bad")
    })
    .await;

    Api::<Node>::all(client.clone())
        .delete("n2", &DeleteParams::default())
        .await
        .expect("Node n2 goes");
    eventually(
        "the blocks of the vanished node are taken back",
        async || {
            blocks(&client)
                .await
                .iter()
                .all(|block| block.spec.node == "n1")
        },
    )
    .await;

    pools
        .delete("default", &DeleteParams::default())
        .await
        .expect("the pool may be deleted");
    eventually(
        "the pool says who still uses it, and its blocks are drained",
        async || {
            let pool = pools.get("default").await.unwrap();
            let drained = blocks(&client)
                .await
                .iter()
                .all(|block| block.spec.state == weft_crds::BlockState::Draining);
            drained
                && message(&pool, "Terminating", "True")
                    .is_some_and(|message| message.contains("blocks left: 2, on nodes: n1;"))
        },
    )
    .await;
    let released: Vec<_> = blocks(&client)
        .await
        .iter()
        .map(|block| json!({"name": block.name_any(), "uid": block.uid(), "allocated": 0, "cooling": 0, "released": true}))
        .collect();
    report(&client, "n1", json!(released)).await;
    eventually("blocks and pool are gone", async || {
        blocks(&client).await.is_empty() && pools.get_opt("default").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn the_second_takes_over_when_the_first_goes() {
    let server = ApiServer::start().await;
    let client = server.client();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "default");
    let holder = async || {
        let lease = leases.get_opt("weft-operator").await.unwrap();
        lease
            .and_then(|lease| lease.spec)
            .and_then(|spec| spec.holder_identity)
    };
    let one = Operator::start(&server, "one", &[]);
    eventually("the first holds the Lease", async || {
        holder().await.as_deref() == Some("one")
    })
    .await;
    let _two = Operator::start(&server, "two", &[]);
    one.terminate();
    eventually("the second holds the Lease", async || {
        holder().await.as_deref() == Some("two")
    })
    .await;
    overlay(&client).await;
    eventually("the second writes", async || {
        let overlay = Api::<Overlay>::all(client.clone())
            .get("default")
            .await
            .unwrap();
        overlay.status.is_some_and(|status| {
            status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready")
        })
    })
    .await;
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn a_cluster_network_policy_that_is_wrong_says_so_and_one_that_is_put_right_too() {
    let server = ApiServer::start().await;
    let client = server.client();
    // Its definition comes later than the operator.
    let _operator = Operator::start(&server, "one", &[]);
    let definition: CustomResourceDefinition = from(json!({
        "metadata": {
            "name": "clusternetworkpolicies.policy.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved: of a test"},
        },
        "spec": {
            "group": "policy.networking.k8s.io",
            "scope": "Cluster",
            "names": {"kind": "ClusterNetworkPolicy", "plural": "clusternetworkpolicies"},
            "versions": [{
                "name": "v1alpha2", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    }));
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("the definition is taken");
    let resource = ApiResource::erase::<ClusterPolicy>(&());
    let policies: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let wrong: DynamicObject = from(json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {"tier": "Admin", "priority": 2000, "subject": {"namespaces": {}}},
    }));
    eventually("the policy is taken", async || {
        let created = policies.create(&PostParams::default(), &wrong).await;
        created.is_ok()
    })
    .await;
    let accepted = async || {
        let policy = policies.get("p").await.unwrap();
        let conditions = policy.data["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        conditions.find(|condition| condition["type"] == "Accepted")
    };
    eventually("its condition names the field", async || {
        accepted().await.is_some_and(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["status"] == "False" && message.contains("spec.priority")
        })
    })
    .await;
    event(&client, "InvalidField", |object| {
        object.kind.as_deref() == Some("ClusterNetworkPolicy")
    })
    .await;
    let right = Patch::Merge(json!({"spec": {"priority": 20}}));
    policies
        .patch("p", &PatchParams::default(), &right)
        .await
        .expect("the policy is taken");
    eventually("its condition says that it is right", async || {
        accepted()
            .await
            .is_some_and(|condition| condition["status"] == "True")
    })
    .await;
}

/// The program itself, killed at the end.
pub struct Operator {
    child: Child,
    port: u16,
}

impl Operator {
    /// Starts it.
    pub fn start(server: &ApiServer, identity: &str, flags: &[&str]) -> Self {
        let port = free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_weft-operator"))
            .args(["run", "--namespace=default", "--identity", identity])
            .arg(format!("--health-port={port}"))
            .arg("--kubeconfig")
            .arg(server.kubeconfig())
            // Nobody listens at the first address: the second is used.
            .arg(format!(
                "--api-server=127.0.0.1:1,127.0.0.1:{}",
                server.port()
            ))
            .args(flags)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program starts");
        Self { child, port }
    }

    /// What one of its pages says: status line, headers and text.
    fn page(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return String::new();
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let asked = stream.write_all(request.as_bytes());
        let _ = asked.and_then(|()| stream.read_to_string(&mut answer));
        answer
    }

    /// How often it has written anything, in whatever way it ended.
    fn writes(&self) -> f64 {
        let page = self.page("/metrics");
        let lines = page
            .lines()
            .filter(|line| line.starts_with("weft_operator_writes_total"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    fn terminate(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        let ended = self.child.wait().expect("it ends");
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn overlay(client: &Client) {
    let overlay: Overlay = from(json!({"metadata": {"name": "default"}, "spec": {}}));
    let api: Api<Overlay> = Api::all(client.clone());
    api.create(&PostParams::default(), &overlay)
        .await
        .expect("the Overlay is taken");
}

async fn blocks(client: &Client) -> Vec<IPBlock> {
    Api::<IPBlock>::all(client.clone())
        .list(&Default::default())
        .await
        .unwrap()
        .items
}

async fn unavailable(client: &Client, node: &str) -> Option<String> {
    let node = Api::<Node>::all(client.clone()).get(node).await.unwrap();
    let conditions = node.status?.conditions?;
    conditions
        .into_iter()
        .find(|condition| condition.type_ == "NetworkUnavailable")
        .map(|condition| condition.status)
}

fn message(pool: &IPPool, type_: &str, status: &str) -> Option<String> {
    let conditions = &pool.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)
        .map(|condition| condition.message.clone())
}

async fn report(client: &Client, node: &str, blocks: serde_json::Value) {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let patch = json!({
        "apiVersion": "weftnet.dev/v1alpha1", "kind": "NodeReport", "metadata": {"name": node},
        "spec": {
            "version": now.as_millis().to_string(),
            "pools": [{"pool": "default", "family": "IPv4", "allocated": 5, "free": 59, "cooling": 0, "waiting": 0}],
            "blocks": blocks,
            "conditions": [{"type": "Ready", "status": "True", "reason": "OK", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"}],
        },
    });
    let api: Api<NodeReport> = Api::all(client.clone());
    let params = PatchParams::apply("weft-agent").force();
    api.patch(node, &params, &Patch::Apply(patch))
        .await
        .expect("the report is taken");
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn load_balancers_get_share_and_give_back_addresses() {
    let server = ApiServer::start().await;
    let client = server.client();
    let _operator = Operator::start(&server, "one", &[]);
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    balancer(&services, "first", json!({}), 80).await;
    eventually("the Service says that there is no pool", async || {
        allocated(&services, "first").await == ("False".to_owned(), "NoPool".to_owned())
    })
    .await;

    let pools: Api<IPPool> = Api::all(client.clone());
    let pool: IPPool = from(json!({
        "metadata": {"name": "outside"},
        "spec": {"uses": ["LoadBalancer"], "cidrs": [{"cidr": "198.51.100.0/24", "start": "198.51.100.10", "end": "198.51.100.11"}]},
    }));
    pools
        .create(&PostParams::default(), &pool)
        .await
        .expect("the IPPool is taken");
    eventually("the Service has the first address", async || {
        ingress(&services, "first").await == [("198.51.100.10".to_owned(), "VIP".to_owned())]
    })
    .await;
    let shared = json!({"weftnet.dev/sharing-key": "k", "weftnet.dev/addresses": "198.51.100.11"});
    balancer(&services, "sharer-1", shared.clone(), 80).await;
    balancer(&services, "sharer-2", shared, 81).await;
    eventually("two Services share the second address", async || {
        let one = ingress(&services, "sharer-1").await;
        !one.is_empty() && one == ingress(&services, "sharer-2").await
    })
    .await;
    balancer(&services, "too-late", json!({}), 80).await;
    eventually(
        "the pool is exhausted, and the Service says so",
        async || allocated(&services, "too-late").await.1 == "PoolExhausted",
    )
    .await;

    let inside = json!({"spec": {"type": "ClusterIP"}});
    services
        .patch("first", &PatchParams::default(), &Patch::Merge(inside))
        .await
        .expect("the type can change");
    eventually(
        "what a Service gave up goes to the one that waits",
        async || {
            ingress(&services, "too-late").await == [("198.51.100.10".to_owned(), "VIP".to_owned())]
        },
    )
    .await;
    eventually(
        "the Service that gave it up bears no trace of us",
        async || {
            let service = services.get("first").await.unwrap();
            let conditions = service.status.and_then(|status| status.conditions);
            ingress(&services, "first").await.is_empty()
                && conditions.unwrap_or_default().is_empty()
        },
    )
    .await;
}

async fn balancer(services: &Api<Service>, name: &str, annotations: serde_json::Value, port: u16) {
    let service: Service = from(json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": port}]},
    }));
    services
        .create(&PostParams::default(), &service)
        .await
        .expect("the Service is taken");
}

/// Status and reason of our condition.
async fn allocated(services: &Api<Service>, name: &str) -> (String, String) {
    let service = services.get(name).await.unwrap();
    let conditions = service.status.and_then(|status| status.conditions);
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "weftnet.dev/AddressAllocated")
        .map(|condition| (condition.status, condition.reason))
        .unwrap_or_default()
}

/// Addresses and modes of the status.
async fn ingress(services: &Api<Service>, name: &str) -> Vec<(String, String)> {
    let service = services.get(name).await.unwrap();
    let balancer = service.status.and_then(|status| status.load_balancer);
    let entries = balancer.and_then(|balancer| balancer.ingress);
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            (
                entry.ip.unwrap_or_default(),
                entry.ip_mode.unwrap_or_default(),
            )
        })
        .collect()
}

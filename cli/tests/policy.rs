//! `kubectl weft policy`: objects in an API server, the program's answer and its exit code.

use std::process::{Command, Output};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::api_server::{ApiServer, from};

async fn create_pod(client: &Client, name: &str, app: &str, ip: &str, host_network: bool) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
    let port = json!({"name": "http", "containerPort": 80});
    let pod: Pod = from(json!({
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "nodeName": "n1", "hostNetwork": host_network,
            "containers": [{"name": "c", "image": "i", "ports": [port]}],
        },
    }));
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

async fn create_policy(client: &Client, name: &str, spec: Value) {
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), "shop");
    let policy: NetworkPolicy = from(json!({"metadata": {"name": name}, "spec": spec}));
    policies
        .create(&PostParams::default(), &policy)
        .await
        .unwrap();
}

fn ask(server: &ApiServer, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-weft"))
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn what_applies_to_a_pod_is_listed_with_the_reason_and_with_warnings() {
    let server = ApiServer::start().await;
    let client = server.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let shop: Namespace = from(json!({"metadata": {"name": "shop"}}));
    namespaces
        .create(&PostParams::default(), &shop)
        .await
        .unwrap();
    create_pod(&client, "web", "web", "10.0.0.1", false).await;
    create_pod(&client, "db", "db", "10.0.0.2", false).await;
    create_pod(&client, "host", "web", "192.0.2.1", true).await;
    let web = json!({"matchLabels": {"app": "web"}});
    create_policy(&client, "from-db", json!({
        "podSelector": web,
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": "http"}]}],
    }))
    .await;
    create_policy(&client, "to-db", json!({
        "podSelector": web, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "bd"}}}, {"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"port": 5432}]}],
    }))
    .await;
    create_policy(
        &client,
        "elsewhere",
        json!({"podSelector": {"matchLabels": {"app": "db"}}}),
    )
    .await;

    let answer = ask(&server, &["policy", "pod/web", "-n", "shop"]);
    let said = text(&answer);
    assert_eq!(answer.status.code(), Some(0), "{said}{answer:?}");
    let wanted = [
        "Pod shop/web on node n1: 10.0.0.1",
        "INGRESS  isolated",
        "NetworkPolicy shop/from-db",
        "selects pods app=web in namespace shop",
        "Accept from pods app=db in namespace shop, at TCP \"http\"",
        "EGRESS  isolated",
        "Accept to pods app=bd in namespace shop; 10.0.0.0/24, at TCP 5432",
        "WEFT-1421 NetworkPolicy shop/to-db: spec.egress[0].to",
        "WEFT-1424 Pod shop/web",
    ];
    for words in wanted {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    assert!(!said.contains("elsewhere"), "{said}");

    let answer = ask(&server, &["policy", "db", "-n", "shop", "-o", "json"]);
    let report: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(report["ingress"]["isolated"], true);
    assert_eq!(
        report["ingress"]["policies"][0]["policy"],
        "NetworkPolicy shop/elsewhere"
    );
    assert_eq!(report["egress"], json!({"isolated": false, "policies": []}));
    assert_eq!(report["warnings"], json!([]));

    let host = text(&ask(&server, &["policy", "host", "-n", "shop"]));
    assert!(
        host.contains("No policy is about it") && !host.contains("INGRESS"),
        "{host}"
    );
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn what_cannot_be_told_is_an_error_with_a_next_step() {
    let server = ApiServer::start().await;
    let answer = ask(&server, &["policy", "pod/none", "-n", "default"]);
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert_eq!(answer.status.code(), Some(2), "{said}");
    assert!(
        said.contains("there is no Pod default/none") && said.contains("kubectl get pods"),
        "{said}"
    );
    let answer = ask(&server, &["policy", "svc/web"]);
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert_eq!(answer.status.code(), Some(2), "{said}");
    assert!(said.contains("write pod/NAME"), "{said}");
}

#[test]
fn each_shell_gets_a_script_that_names_the_questions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-weft"))
            .args(["completion", shell])
            .output()
            .expect("the program starts");
        let script = text(&output);
        assert!(
            output.status.success() && script.contains("policy"),
            "{shell}: {script}"
        );
    }
}

//! Zones of users, from objects at a real API server to answers of the program.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use weft_crds::{DnsZone, PodAddress};

use crate::api_server::{ApiServer, eventually, from};
use crate::dns_zones::{create, patch, records};
use crate::program::Program;

fn one(text: &str) -> Option<Vec<String>> {
    Some(vec![text.to_owned()])
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn zones_come_change_and_go_and_the_last_good_version_stays() {
    let server = ApiServer::start().await;
    let client = server.client();
    let state = tempfile::tempdir().expect("a folder");
    let program = Program::start(&server.kubeconfig(), state.path());
    eventually("it is ready", async || {
        program.get("/readyz").contains("200 OK")
    })
    .await;
    let first = json!([
        {"name": "www", "type": "A", "values": ["192.0.2.1"]},
        {"name": "web", "serviceRef": {"namespace": "default", "name": "web"}},
    ]);
    create(&client, "corp", records(first)).await;
    eventually("the record answers", async || {
        program.answers("www.corp.example", 1) == one("192.0.2.1")
    })
    .await;
    assert_eq!(program.code("nothing.corp.example"), Some(3));

    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service: Service = from(json!({
        "metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.20", "ports": [{"port": 80}]},
    }));
    services
        .create(&PostParams::default(), &service)
        .await
        .expect("the Service is taken");
    eventually("the record follows the Service", async || {
        program.answers("web.corp.example", 1) == one("10.96.0.20")
    })
    .await;

    let bad = json!({"authoritative": {"records": [
        {"name": "www", "type": "A", "values": ["192.0.2.2"]},
        {"name": "www", "type": "CNAME", "values": ["other.example"]},
    ]}});
    patch(&client, "corp", bad).await;
    // What is changed after it and arrives shows that the bad version was seen.
    create(&client, "after", json!({
        "zone": "after.example", "type": "Policy",
        "policy": {"rules": [{"names": ["a.after.example"], "action": "Override", "addresses": ["192.0.2.9"]}]},
    }))
    .await;
    eventually("the rule answers", async || {
        program.answers("a.after.example", 1) == one("192.0.2.9")
    })
    .await;
    assert_eq!(
        program.answers("www.corp.example", 1),
        one("192.0.2.1"),
        "the last good version is served"
    );

    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map: ConfigMap = from(json!({
        "metadata": {"name": "files", "labels": {"weftnet.dev/zone-file": ""}},
        "data": {"corp": "ftp 60 IN A 192.0.2.7\n"},
    }));
    maps.create(&PostParams::default(), &map)
        .await
        .expect("the ConfigMap is taken");
    let source = json!({"configMapRef": {"namespace": "default", "name": "files", "key": "corp"}});
    patch(
        &client,
        "corp",
        json!({"authoritative": {"records": [], "sources": [source]}}),
    )
    .await;
    eventually("the zone file answers", async || {
        program.answers("ftp.corp.example", 1) == one("192.0.2.7")
    })
    .await;
    let text = json!({"data": {"corp": "ftp 60 IN A 192.0.2.8\n"}});
    maps.patch("files", &PatchParams::default(), &Patch::Merge(text))
        .await
        .expect("the ConfigMap is changed");
    eventually("the changed zone file answers", async || {
        program.answers("ftp.corp.example", 1) == one("192.0.2.8")
    })
    .await;
    let zones: Api<DnsZone> = Api::all(client.clone());
    zones
        .delete("corp", &DeleteParams::default())
        .await
        .expect("it is deleted");
    eventually("the zone is gone", async || {
        program.code("ftp.corp.example") == Some(5)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn two_clients_that_ask_for_one_name_get_their_own_answers() {
    let server = ApiServer::start().await;
    let client = server.client();
    let state = tempfile::tempdir().expect("a folder");
    let program = Program::start(&server.kubeconfig(), state.path());
    let body = |last: u8| {
        json!({"records": [
            {"name": "www", "type": "A", "values": [format!("192.0.2.{last}")]},
        ]})
    };
    create(&client, "corp", json!({
        "zone": "corp.example", "type": "Authoritative", "authoritative": body(1),
        "views": [
            {"name": "two", "match": {"cidrs": ["127.0.0.2/32"]}, "authoritative": body(2)},
            {"name": "pods", "match": {"pods": {"matchLabels": {"app": "a"}}}, "authoritative": body(3)},
        ],
    }))
    .await;
    create(&client, "secret", json!({
        "zone": "secret.example", "type": "Authoritative", "authoritative": body(4),
        "visibility": {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}},
    }))
    .await;
    let asked = |client: &str| program.answers_from(client, "www.corp.example", 1);
    eventually("everybody has an answer", async || {
        asked("127.0.0.1") == one("192.0.2.1")
    })
    .await;
    assert_eq!(asked("127.0.0.2"), one("192.0.2.2"));
    assert_eq!(asked("127.0.0.3"), one("192.0.2.1"));
    let pods: Api<PodAddress> = Api::namespaced(client.clone(), "default");
    let pod: PodAddress = from(json!({
        "metadata": {"name": "uid"},
        "spec": {"node": "n1", "pod": "a", "addresses": ["127.0.0.3"], "pools": ["p"], "labels": {"app": "a"}},
    }));
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("the PodAddress is taken");
    eventually("the pod has its own answer", async || {
        asked("127.0.0.3") == one("192.0.2.3")
    })
    .await;
    let secret = |client: &str| program.answers_from(client, "www.secret.example", 1);
    assert_eq!(secret("127.0.0.3"), one("192.0.2.4"));
    assert_eq!(secret("127.0.0.1"), Some(Vec::new()));
    let other = json!({"spec": {"labels": {"app": "b"}}});
    pods.patch("uid", &PatchParams::default(), &Patch::Merge(other))
        .await
        .expect("its labels change");
    eventually("the pod is one of many again", async || {
        asked("127.0.0.3") == one("192.0.2.1")
    })
    .await;
}

/// Of versions that were served and of who clients are, a restart in an outage of the API server forgets nothing.
#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn a_restart_without_the_api_server_serves_the_last_good_version_to_each_client() {
    let server = ApiServer::start().await;
    let client = server.client();
    let state = tempfile::tempdir().expect("a folder");
    let copy = state.path().join("kubeconfig");
    std::fs::copy(server.kubeconfig(), &copy).expect("copied");
    let program = Program::start(&copy, state.path());
    eventually("it is ready", async || {
        program.get("/readyz").contains("200 OK")
    })
    .await;
    let record =
        |last: u8| json!([{"name": "www", "type": "A", "values": [format!("192.0.2.{last}")]}]);
    create(&client, "corp", json!({
        "zone": "corp.example", "type": "Authoritative", "authoritative": {"records": record(1)},
        "views": [{"name": "a", "match": {"pods": {"matchLabels": {"app": "a"}}}, "authoritative": {"records": record(2)}}],
    }))
    .await;
    let pods: Api<PodAddress> = Api::namespaced(client.clone(), "default");
    let pod: PodAddress = from(json!({
        "metadata": {"name": "uid"},
        "spec": {"node": "n1", "pod": "a", "addresses": ["127.0.0.3"], "pools": ["p"], "labels": {"app": "a"}},
    }));
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("the PodAddress is taken");
    let answers = |program: &Program| {
        let ask = |client: &str| program.answers_from(client, "www.corp.example", 1);
        (ask("127.0.0.1"), ask("127.0.0.3"))
    };
    let both = (one("192.0.2.1"), one("192.0.2.2"));
    eventually("both clients have their answers", async || {
        answers(&program) == both
    })
    .await;
    let bad = json!([{"name": "www", "type": "A", "values": ["x"]}]);
    patch(&client, "corp", json!({"authoritative": {"records": bad}})).await;
    eventually("the bad version was seen", async || {
        program
            .get("/metrics")
            .contains("weft_dns_zones_refused 1\n")
    })
    .await;
    program.end().await;
    drop(server);
    let program = Program::start(&copy, state.path());
    eventually("it answers without the API server", async || {
        answers(&program) == both
    })
    .await;
    assert!(program.get("/readyz").contains("from the snapshot on disk"));
}

/// What a later version of the definition allows hides nothing from a server that does not know it.
#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn a_zone_that_cannot_be_read_hides_no_other() {
    let server = ApiServer::start().await;
    let client = server.client();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = "dnszones.weftnet.dev";
    let definition = definitions.get(name).await.expect("the definition");
    let mut value = serde_json::to_value(&definition).expect("JSON");
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/type/enum";
    let types = value.pointer_mut(place).and_then(Value::as_array_mut);
    types.expect("the types").push("Later".into());
    definitions
        .replace(name, &PostParams::default(), &from(value))
        .await
        .expect("the definition is changed");
    let later = json!({"zone": "later.example", "type": "Later"});
    let zones: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk("weftnet.dev", "v1alpha1", "DnsZone")),
    );
    let object: DynamicObject = from(json!({
        "apiVersion": "weftnet.dev/v1alpha1", "kind": "DnsZone",
        "metadata": {"name": "later"}, "spec": later,
    }));
    eventually("a zone of the later version is taken", async || {
        zones.create(&PostParams::default(), &object).await.is_ok()
    })
    .await;
    let state = tempfile::tempdir().expect("a folder");
    let program = Program::start(&server.kubeconfig(), state.path());
    eventually("it is ready all the same", async || {
        program.get("/readyz").contains("200 OK")
    })
    .await;
    let first = json!([{"name": "www", "type": "A", "values": ["192.0.2.1"]}]);
    create(&client, "corp", records(first)).await;
    eventually("the zone beside it answers", async || {
        program.answers("www.corp.example", 1) == one("192.0.2.1")
    })
    .await;
    let become_later = Patch::Merge(json!({"spec": {"type": "Later", "authoritative": null}}));
    zones
        .patch("corp", &PatchParams::default(), &become_later)
        .await
        .expect("the zone becomes one of the later version");
    create(
        &client,
        "other",
        json!({
            "zone": "other.example", "type": "Authoritative",
            "authoritative": {"records": [{"name": "www", "type": "A", "values": ["192.0.2.2"]}]},
        }),
    )
    .await;
    eventually("the zone behind it answers", async || {
        program.answers("www.other.example", 1) == one("192.0.2.2")
    })
    .await;
    assert_eq!(
        program.answers("www.corp.example", 1),
        one("192.0.2.1"),
        "what could be read last is served"
    );
}

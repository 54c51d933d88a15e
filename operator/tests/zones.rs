//! DnsZones against a real API server: what the operator says of them.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use weft_crds::{DnsZone, DnsZoneStatus};

use crate::api_server::{ApiServer, event, eventually, from};
use crate::controllers::Operator;
use crate::dns_zones::{create, patch, records};

async fn status(client: &Client, name: &str) -> DnsZoneStatus {
    let api: Api<DnsZone> = Api::all(client.clone());
    let zone = api.get(name).await.expect("the DnsZone is there");
    let generation = zone.metadata.generation;
    // What is said of an older version counts for nothing.
    zone.status
        .filter(|status| {
            status
                .conditions
                .iter()
                .all(|condition| condition.observed_generation == generation)
        })
        .unwrap_or_default()
}

/// Status and reason of a condition, and its message.
fn condition(status: &DnsZoneStatus, type_: &str) -> (String, String) {
    let conditions = status.conditions.iter();
    let mut found = conditions.filter(|condition| condition.type_ == type_);
    found
        .next()
        .map(|condition| {
            (
                format!("{} {}", condition.status, condition.reason),
                condition.message.clone(),
            )
        })
        .unwrap_or_default()
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn zones_are_numbered_or_refused_with_record_and_rule() {
    let server = ApiServer::start().await;
    let client = server.client();
    let _operator = Operator::start(&server, "one", &[]);
    let good = json!([{"name": "www", "type": "A", "values": ["192.0.2.1"]}]);
    create(&client, "corp", records(good)).await;
    eventually("the zone is accepted and numbered", async || {
        let status = status(&client, "corp").await;
        condition(&status, "Accepted").0 == "True OK"
            && condition(&status, "Ready").0 == "True OK"
            && status.records == Some(3)
            && status.serial.is_some()
    })
    .await;
    let first = status(&client, "corp").await;

    let bad = json!([
        {"name": "www", "type": "A", "values": ["192.0.2.1"]},
        {"name": "www", "type": "CNAME", "values": ["a.example"]},
    ]);
    patch(&client, "corp", json!({"authoritative": {"records": bad}})).await;
    eventually("it says which record breaks which rule", async || {
        let status = status(&client, "corp").await;
        let (accepted, message) = condition(&status, "Accepted");
        accepted == "False InvalidZone"
            && message.starts_with("www.corp.example. CNAME: an alias stands alone")
            && message.ends_with("[WEFT-1281]")
            && condition(&status, "Ready")
                .1
                .starts_with("the version with serial number")
    })
    .await;
    let second = status(&client, "corp").await;
    assert_eq!(
        (second.serial, &second.digest),
        (first.serial, &first.digest),
        "the last good version keeps its number"
    );
    event(&client, "InvalidZone", |object| {
        object.name.as_deref() == Some("corp")
    })
    .await;

    let better = json!([{"name": "www", "type": "A", "values": ["192.0.2.2"]}]);
    patch(
        &client,
        "corp",
        json!({"authoritative": {"records": better}}),
    )
    .await;
    eventually(
        "a version that can be used has a higher number",
        async || {
            let status = status(&client, "corp").await;
            condition(&status, "Accepted").0 == "True OK" && status.serial > first.serial
        },
    )
    .await;

    let forward = json!({
        "zone": "corp.example", "type": "Forward", "forward": {"upstreams": [{"address": "192.0.2.53"}]},
    });
    create(&client, "second", forward).await;
    eventually("the second of two alike says whose it is", async || {
        let status = status(&client, "second").await;
        condition(&status, "Accepted").0 == "False Shadowed" && status.conflicts == ["corp"]
    })
    .await;
    patch(&client, "second", json!({"priority": 5})).await;
    eventually("priority turns it round", async || {
        condition(&status(&client, "second").await, "Accepted").0 == "True OK"
            && condition(&status(&client, "corp").await, "Accepted").0 == "False Shadowed"
    })
    .await;
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn zone_files_and_the_cluster_dns_are_looked_at() {
    let server = ApiServer::start().await;
    let client = server.client();
    let _operator = Operator::start(&server, "one", &[]);
    let source = json!({"configMapRef": {"namespace": "default", "name": "files", "key": "corp"}});
    let zone = json!({
        "zone": "corp.example", "type": "Authoritative", "authoritative": {"sources": [source]},
    });
    create(&client, "corp", zone).await;
    eventually("it says that the zone file is not there", async || {
        condition(&status(&client, "corp").await, "Accepted").0 == "False SourceNotFound"
    })
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map: ConfigMap = from(json!({
        "metadata": {"name": "files"}, "data": {"corp": "ftp 60 IN A 192.0.2.7\n"},
    }));
    maps.create(&PostParams::default(), &map)
        .await
        .expect("the ConfigMap is taken");
    let label = json!({"metadata": {"labels": {"weftnet.dev/zone-file": ""}}});
    maps.patch("files", &PatchParams::default(), &Patch::Merge(label))
        .await
        .expect("it is labelled");
    eventually("the zone is accepted", async || {
        let status = status(&client, "corp").await;
        condition(&status, "Accepted").0 == "True OK" && status.records == Some(3)
    })
    .await;
    let first = status(&client, "corp").await;
    let text = json!({"data": {"corp": "ftp 60 IN A 192.0.2.8\n"}});
    maps.patch("files", &PatchParams::default(), &Patch::Merge(text))
        .await
        .expect("the ConfigMap is changed");
    eventually("another zone file is another version", async || {
        status(&client, "corp").await.serial > first.serial
    })
    .await;

    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    let service: Service = from(json!({
        "metadata": {"name": "kube-dns"}, "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 53}]},
    }));
    services
        .create(&PostParams::default(), &service)
        .await
        .expect("the Service is taken");
    let forward = json!({
        "zone": "loop.example", "type": "Forward", "forward": {"upstreams": [{"address": "10.96.0.10"}]},
    });
    create(&client, "loop", forward).await;
    eventually("nobody asks himself", async || {
        condition(&status(&client, "loop").await, "Accepted").0 == "False Loop"
    })
    .await;
}

//! DnsZones at a real API server, as the tests of operator and DNS server write them.

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use weft_crds::DnsZone;

use crate::api_server::from;

pub async fn create(client: &Client, name: &str, spec: Value) {
    let api: Api<DnsZone> = Api::all(client.clone());
    let zone = from(json!({"metadata": {"name": name}, "spec": spec}));
    api.create(&PostParams::default(), &zone)
        .await
        .expect("the DnsZone is taken");
}

pub async fn patch(client: &Client, name: &str, spec: Value) {
    let api: Api<DnsZone> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"spec": spec}));
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .expect("the DnsZone is changed");
}

/// A zone corp.example of these records.
pub fn records(records: Value) -> Value {
    json!({"zone": "corp.example", "type": "Authoritative", "authoritative": {"records": records}})
}

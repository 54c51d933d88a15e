//! Golden files: `golden/<case>/input.yaml`, ordinary Kubernetes objects, in; everything that would
//! be written out. And whatever is written, then there is nothing more to write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, NodeCondition, Service};
use k8s_openapi::api::networking::v1::{NetworkPolicy, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;
use weft_crds::{BlockState, IPBlock, IPBlockSpec, NodeNetwork};
use weft_operator::balancers::view as balancers;
use weft_operator::compile::compile;
use weft_operator::diff::{Change, diff};
use weft_operator::nodes::condition as node_condition;
use weft_operator::snapshot::Snapshot;
use weft_operator::stores::service_networks;

use crate::api_server::from;

#[test]
fn what_is_written_is_as_the_golden_files_say() {
    for (case, snapshot) in cases() {
        let changes = diff(&compile(&snapshot), &snapshot);
        let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
        insta::with_settings!({
            snapshot_path => folder().join(&case),
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!("written", text.join("\n"));
        });
    }
}

#[test]
fn after_everything_was_written_there_is_nothing_more_to_write() {
    for (case, mut snapshot) in cases() {
        let mut rounds = 0;
        loop {
            let changes = diff(&compile(&snapshot), &snapshot);
            if changes.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds < 8, "{case}: it never comes to rest: {changes:#?}");
            for change in changes {
                write(&mut snapshot, change);
            }
            // Time goes on; what does not change keeps its times.
            snapshot.now = Timestamp::from_second(snapshot.now.as_second() + 60).expect("a time");
        }
        assert!(rounds > 0, "{case}: nothing was written at all");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Vec<(String, Snapshot)> {
    let mut cases: Vec<_> = std::fs::read_dir(folder())
        .expect("the golden files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .map(|path| {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let text = std::fs::read_to_string(path.join("input.yaml")).expect("input.yaml");
            (name, read(&text))
        })
        .collect();
    cases.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert!(
        cases.len() >= 8,
        "only {} golden cases were found",
        cases.len()
    );
    cases
}

/// Objects by kind; a document `kind: Passed` says what time tells.
fn read(text: &str) -> Snapshot {
    let mut snapshot = Snapshot {
        node_grace: Duration::from_secs(300),
        agent_grace: Duration::from_secs(300),
        now: Timestamp::from_second(1_700_000_000).expect("a time"),
        ..Snapshot::default()
    };
    let (mut services, mut cidrs): (Vec<Arc<Service>>, Vec<Arc<ServiceCIDR>>) = Default::default();
    for document in text.split("\n---\n") {
        let value: Value = serde_saphyr::from_str(document).expect("YAML");
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "IPPool" => insert(&mut snapshot.pools, value),
            "Overlay" => insert(&mut snapshot.overlays, value),
            "DnsZone" => insert(&mut snapshot.zones, value),
            "ConfigMap" => {
                let map: ConfigMap = from(value);
                let key = (map.namespace().unwrap_or_default(), map.name_any());
                snapshot.zone_files.insert(key, Arc::new(map));
            }
            "IPBlock" => insert(&mut snapshot.blocks, value),
            "NodeNetwork" => insert(&mut snapshot.node_networks, value),
            "NodeReport" => insert(&mut snapshot.reports, value),
            "Node" => insert(&mut snapshot.nodes, value),
            "ClusterNetworkPolicy" => insert(&mut snapshot.cluster_policies, value),
            "NetworkPolicy" => {
                let policy: NetworkPolicy = from(value);
                let key = (policy.namespace().unwrap_or_default(), policy.name_any());
                snapshot.network_policies.insert(key, Arc::new(policy));
            }
            "Service" => services.push(Arc::new(from(value))),
            "ServiceCIDR" => cidrs.push(Arc::new(from(value))),
            "Passed" => {
                snapshot.gone = seconds(&value["gone"]);
                snapshot.silent = seconds(&value["silent"]);
            }
            other => panic!("kind {other:?} is none that the operator reads"),
        }
    }
    snapshot.services = service_networks(&cidrs, &services);
    snapshot.default_balancer = true;
    snapshot.cluster_domain = "cluster.local".to_owned();
    snapshot.dns_addresses = [[10, 96, 0, 10].into()].into();
    snapshot.balancers = services
        .into_iter()
        .filter(|service| balancers::concerns(service))
        .map(|service| (balancers::key(&service), service))
        .collect();
    snapshot
}

fn insert<K>(objects: &mut BTreeMap<String, Arc<K>>, value: Value)
where
    K: kube::Resource + serde::de::DeserializeOwned,
{
    let object: K = from(value);
    objects.insert(object.name_any(), Arc::new(object));
}

fn seconds(value: &Value) -> BTreeMap<String, Duration> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(node, seconds)| {
            (
                node.clone(),
                Duration::from_secs(seconds.as_u64().expect("seconds")),
            )
        })
        .collect()
}

/// What the API server would make of a change.
fn write(snapshot: &mut Snapshot, change: Change) {
    match change {
        Change::Finalizers { object, finalizers } => {
            let metadata = match object.kind {
                "IPPool" => {
                    &mut Arc::make_mut(snapshot.pools.get_mut(&object.name).expect("it is there"))
                        .metadata
                }
                _ => {
                    &mut Arc::make_mut(
                        snapshot
                            .overlays
                            .get_mut(&object.name)
                            .expect("it is there"),
                    )
                    .metadata
                }
            };
            let goes = metadata.deletion_timestamp.is_some() && finalizers.is_empty();
            metadata.finalizers = Some(finalizers);
            if goes {
                snapshot.pools.remove(&object.name);
                snapshot.overlays.remove(&object.name);
            }
        }
        Change::NodeNetwork { node, spec, .. } => {
            snapshot
                .node_networks
                .insert(node.clone(), Arc::new(NodeNetwork::new(&node, *spec)));
        }
        Change::CreateBlock(block) => {
            let spec = IPBlockSpec {
                pool: block.pool,
                cidr: block.cidr.to_string(),
                node: block.node,
                state: BlockState::Active,
            };
            let stored = Arc::new(IPBlock::new(&block.name, spec));
            assert!(
                snapshot.blocks.insert(block.name.clone(), stored).is_none(),
                "{} was there",
                block.name
            );
        }
        Change::DrainBlock(drain) => {
            let block = snapshot
                .blocks
                .get_mut(&drain.block.name)
                .expect("it is there");
            Arc::make_mut(block).spec.state = BlockState::Draining;
        }
        Change::DeleteBlock(delete) => {
            snapshot.blocks.remove(&delete.block.name);
        }
        Change::PoolStatus { object, status, .. } => {
            if let Some(pool) = snapshot.pools.get_mut(&object.name) {
                Arc::make_mut(pool).status = Some(*status);
            }
        }
        Change::OverlayStatus { object, status, .. } => {
            if let Some(overlay) = snapshot.overlays.get_mut(&object.name) {
                Arc::make_mut(overlay).status = Some(*status);
            }
        }
        Change::ZoneStatus { object, status, .. } => {
            if let Some(zone) = snapshot.zones.get_mut(&object.name) {
                Arc::make_mut(zone).status = Some(*status);
            }
        }
        Change::ServiceStatus {
            namespace,
            object,
            plan,
        } => {
            let service = snapshot
                .balancers
                .get_mut(&(namespace, object.name))
                .expect("it is there");
            let status = Arc::make_mut(service).status.get_or_insert_default();
            status.conditions = plan.condition.map(|condition| vec![condition]);
            status.load_balancer.get_or_insert_default().ingress = Some(plan.ingress);
        }
        Change::ClusterPolicyStatus { object, plan } => {
            let policy = snapshot.cluster_policies.get_mut(&object.name);
            let conditions = &mut Arc::make_mut(policy.expect("it is there"))
                .status
                .conditions;
            conditions.retain(|other| other.type_ != plan.condition.type_);
            conditions.push(plan.condition);
        }
        Change::PolicyWarning { object, event, .. } => {
            snapshot.told.insert((object.uid, event.note));
        }
        Change::NodeCondition {
            node, condition, ..
        } => {
            let node = Arc::make_mut(snapshot.nodes.get_mut(&node.name).expect("it is there"));
            set_condition(node, &condition);
        }
    }
}

fn set_condition(node: &mut Node, condition: &node_condition::NodeConditionPlan) {
    let conditions = node
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.retain(|other| other.type_ != node_condition::TYPE);
    conditions.push(NodeCondition {
        type_: node_condition::TYPE.to_owned(),
        status: node_condition::status(condition).to_owned(),
        reason: Some(condition.reason.to_owned()),
        message: Some(condition.message.clone()),
        last_transition_time: Some(Time(Timestamp::UNIX_EPOCH)),
        last_heartbeat_time: None,
    });
}

#[test]
fn addresses_of_services_outside_of_service_cidrs_are_known_too() {
    let cidr: ServiceCIDR = from(
        serde_json::json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}}),
    );
    let service = |name: &str, address: &str| -> Arc<Service> {
        Arc::new(from(
            serde_json::json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIPs": [address]}}),
        ))
    };
    let services = [
        service("inside", "10.96.0.1"),
        service("outside", "10.97.0.1"),
        service("headless", "None"),
    ];
    let networks = service_networks(&[Arc::new(cidr)], &services);
    let expected: [(&str, &str); 2] = [
        ("Service default/outside", "10.97.0.1/32"),
        ("ServiceCIDR kubernetes", "10.96.0.0/16"),
    ];
    let expected: BTreeMap<String, Vec<IpNet>> = expected
        .into_iter()
        .map(|(name, network)| (name.to_owned(), vec![network.parse().expect("a network")]))
        .collect();
    assert_eq!(networks, expected);
}

//! From changes to requests. Each is bound to the very object that the decision was made about:
//! creation by name, deletion and finalizers by UID and resource version.

use k8s_openapi::api::core::v1::{Node, ObjectReference, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::{Value, json};
use weft_core::alloc::{DeleteBlock, DeleteReason, DrainBlock, NewBlock};
use weft_crds::{DnsZone, IPBlock, IPBlockSpec, IPPool, NodeNetwork, NodeNetworkSpec, Overlay};

use crate::balancers::status::BalancerPlan;
use crate::condition::EventPlan;
use crate::diff::{Change, Target};
use crate::error::Error;
use crate::nodes::condition::{self as node_condition, NodeConditionPlan};
use crate::policies::object::{self, ClusterPolicy};
use crate::policies::status::ClusterPolicyPlan;

/// Field manager of everything that the operator applies.
pub const MANAGER: &str = "weft-operator";

/// Group and version of our own kinds.
const WEFTNET: &str = "weftnet.dev/v1alpha1";

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Done,
    /// Somebody was faster, or the decision was made about an older version: the next round decides anew.
    Overtaken,
}

/// Makes changes.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    recorder: Recorder,
}

impl Applier {
    /// One that reports Events under a name.
    #[must_use]
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
        }
    }

    /// Makes one change.
    ///
    /// # Errors
    /// A request that was refused for a reason other than being overtaken.
    pub async fn apply(&self, change: &Change) -> Result<Outcome, Error> {
        let result = match change {
            Change::Finalizers { object, finalizers } => self.finalizers(object, finalizers).await,
            Change::NodeNetwork { node, uid, spec } => self.node_network(node, uid, spec).await,
            Change::CreateBlock(block) => self.create_block(block).await,
            Change::DrainBlock(drain) => self.drain_block(drain).await,
            Change::DeleteBlock(delete) => self.delete_block(delete).await,
            Change::PoolStatus {
                object,
                status,
                events,
            } => {
                self.status::<IPPool>(object, WEFTNET, &json!(status), events)
                    .await
            }
            Change::OverlayStatus {
                object,
                status,
                events,
            } => {
                self.status::<Overlay>(object, WEFTNET, &json!(status), events)
                    .await
            }
            Change::ZoneStatus {
                object,
                status,
                events,
            } => {
                self.status::<DnsZone>(object, WEFTNET, &json!(status), events)
                    .await
            }
            Change::ServiceStatus {
                namespace,
                object,
                plan,
            } => self.service_status(namespace, object, plan).await,
            Change::ClusterPolicyStatus { object, plan } => {
                let ClusterPolicyPlan { condition, events } = plan.as_ref();
                let status = json!({"conditions": [condition]});
                self.status::<ClusterPolicy>(object, object::API_VERSION, &status, events)
                    .await
            }
            Change::PolicyWarning {
                namespace,
                object,
                event,
            } => {
                let events = std::slice::from_ref(event);
                self.tell(object, "networking.k8s.io/v1", Some(namespace), events)
                    .await;
                Ok(Outcome::Done)
            }
            Change::NodeCondition {
                node,
                condition,
                same_status,
            } => self.node_condition(node, condition, *same_status).await,
        };
        match result {
            Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(Outcome::Overtaken),
            Err(error) => Err(error),
            Ok(outcome) => Ok(outcome),
        }
    }

    async fn finalizers(&self, object: &Target, finalizers: &[String]) -> Result<Outcome, Error> {
        let patch = json!({"metadata": {
            "finalizers": finalizers,
            "uid": object.uid,
            "resourceVersion": object.resource_version,
        }});
        let patch = Patch::Merge(patch);
        let params = PatchParams::default();
        let name = &object.name;
        let result = if object.kind == "IPPool" {
            let api: Api<IPPool> = Api::all(self.client.clone());
            api.patch_metadata(name, &params, &patch).await.map(drop)
        } else {
            let api: Api<Overlay> = Api::all(self.client.clone());
            api.patch_metadata(name, &params, &patch).await.map(drop)
        };
        result
            .map_err(|error| Error::request("set the finalizers of", object.kind, name, error))?;
        Ok(Outcome::Done)
    }

    async fn node_network(
        &self,
        node: &str,
        uid: &str,
        spec: &NodeNetworkSpec,
    ) -> Result<Outcome, Error> {
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": "weftnet.dev/v1alpha1",
            "kind": "NodeNetwork",
            "metadata": {
                "name": node,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}],
            },
            "spec": spec,
        });
        api.patch(
            node,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(patch),
        )
        .await
        .map_err(|error| Error::request("apply", "NodeNetwork", node, error))?;
        Ok(Outcome::Done)
    }

    async fn create_block(&self, block: &NewBlock) -> Result<Outcome, Error> {
        let api: Api<IPBlock> = Api::all(self.client.clone());
        let spec = IPBlockSpec {
            pool: block.pool.clone(),
            cidr: block.cidr.to_string(),
            node: block.node.clone(),
            state: weft_crds::BlockState::Active,
        };
        api.create(&PostParams::default(), &IPBlock::new(&block.name, spec))
            .await
            .map_err(|error| Error::request("create", "IPBlock", &block.name, error))?;
        Ok(Outcome::Done)
    }

    async fn drain_block(&self, drain: &DrainBlock) -> Result<Outcome, Error> {
        let api: Api<IPBlock> = Api::all(self.client.clone());
        let block = &drain.block;
        let patch = json!({
            "metadata": {"uid": block.uid, "resourceVersion": block.resource_version},
            "spec": {"state": "Draining"},
        });
        api.patch(&block.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|error| Error::request("drain", "IPBlock", &block.name, error))?;
        Ok(Outcome::Done)
    }

    /// A block of a vanished node goes only if the Node is still not there now. The block is
    /// Draining already, so a node that comes back after this read assigns nothing from it.
    async fn delete_block(&self, delete: &DeleteBlock) -> Result<Outcome, Error> {
        let block = &delete.block;
        if delete.reason == DeleteReason::NodeGone {
            let nodes: Api<Node> = Api::all(self.client.clone());
            let node = nodes
                .get_metadata_opt(&block.node)
                .await
                .map_err(|error| Error::request("get", "Node", &block.node, error))?;
            if node.is_some() {
                return Ok(Outcome::Overtaken);
            }
        }
        let api: Api<IPBlock> = Api::all(self.client.clone());
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(block.uid.clone()),
            resource_version: Some(block.resource_version.clone()),
        });
        api.delete(&block.name, &params)
            .await
            .map_err(|error| Error::request("delete", "IPBlock", &block.name, error))?;
        Ok(Outcome::Done)
    }

    async fn status<K>(
        &self,
        object: &Target,
        api_version: &str,
        status: &Value,
        events: &[EventPlan],
    ) -> Result<Outcome, Error>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": api_version,
            "kind": object.kind,
            "metadata": {"name": object.name, "uid": object.uid},
            "status": status,
        });
        api.patch_status(
            &object.name,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(patch),
        )
        .await
        .map_err(|error| Error::request("write the status of", object.kind, &object.name, error))?;
        self.tell(object, api_version, None, events).await;
        Ok(Outcome::Done)
    }

    /// An address is given only to the very version of the Service that the decision was made about:
    /// a Service that somebody else has changed meanwhile is decided about anew.
    async fn service_status(
        &self,
        namespace: &str,
        object: &Target,
        plan: &BalancerPlan,
    ) -> Result<Outcome, Error> {
        let BalancerPlan {
            ingress,
            condition,
            events,
        } = plan;
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let mut status = json!({});
        if let Some(condition) = condition {
            status["conditions"] = json!([condition]);
            status["loadBalancer"] = json!({"ingress": ingress});
        }
        let patch = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": object.name,
                "uid": object.uid,
                "resourceVersion": object.resource_version,
            },
            "status": status,
        });
        api.patch_status(
            &object.name,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(patch),
        )
        .await
        .map_err(|error| Error::request("write the status of", "Service", &object.name, error))?;
        self.tell(object, "v1", Some(namespace), events).await;
        Ok(Outcome::Done)
    }

    async fn node_condition(
        &self,
        node: &Target,
        condition: &NodeConditionPlan,
        same_status: bool,
    ) -> Result<Outcome, Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let now = k8s_openapi::jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let mut entry = json!({
            "type": node_condition::TYPE,
            "status": node_condition::status(condition),
            "reason": condition.reason,
            "message": condition.message,
            "lastHeartbeatTime": now,
        });
        if !same_status {
            entry["lastTransitionTime"] = json!(now);
        }
        let patch = json!({
            "metadata": {"uid": node.uid},
            "status": {"conditions": [entry]},
        });
        api.patch_status(
            &node.name,
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await
        .map_err(|error| Error::request("write the status of", "Node", &node.name, error))?;
        let event = EventPlan {
            warning: condition.unavailable,
            reason: condition.reason.to_owned(),
            note: condition.message.clone(),
        };
        self.tell(node, "v1", None, &[event]).await;
        Ok(Outcome::Done)
    }

    /// Events are a courtesy: one that is lost is no reason to stop.
    async fn tell(
        &self,
        object: &Target,
        api_version: &str,
        namespace: Option<&str>,
        events: &[EventPlan],
    ) {
        let reference = ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(object.kind.to_owned()),
            name: Some(object.name.clone()),
            namespace: namespace.map(str::to_owned),
            uid: Some(object.uid.clone()),
            ..ObjectReference::default()
        };
        for plan in events {
            let event = Event {
                type_: if plan.warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: plan.reason.clone(),
                note: Some(plan.note.clone()),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            if let Err(error) = self.recorder.publish(&event, &reference).await {
                tracing::debug!(kind = object.kind, name = object.name, %error, "an Event was not recorded");
            }
        }
    }
}

//! From what the API should hold and what it holds to the changes to make, in the order to make
//! them: what a block's node has to know comes before the block.

use std::fmt;

use weft_core::alloc::{DeleteBlock, DrainBlock, NewBlock};
use weft_crds::{DnsZoneStatus, IPPoolStatus, NodeNetworkSpec, OverlayStatus};

use crate::balancers::status::BalancerPlan;
use crate::compile::{ApiPlan, ObjectPlan};
use crate::condition::EventPlan;
use crate::finalizer::{self, FinalizerPlan};
use crate::nodes::condition::{self as node_condition, NodeConditionPlan};
use crate::policies::status::ClusterPolicyPlan;
use crate::snapshot::Snapshot;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Set the finalizers of a pool or overlay, if it is still the same version.
    Finalizers {
        /// Which.
        object: Target,
        /// All finalizers after the change.
        finalizers: Vec<String>,
    },
    /// Tell a node.
    NodeNetwork {
        /// The node.
        node: String,
        /// UID of the Node, its owner.
        uid: String,
        /// What to tell.
        spec: Box<NodeNetworkSpec>,
    },
    /// Create a block.
    CreateBlock(NewBlock),
    /// Set a block to Draining.
    DrainBlock(DrainBlock),
    /// Delete a block.
    DeleteBlock(DeleteBlock),
    /// Write the status of an IPPool.
    PoolStatus {
        /// Which.
        object: Target,
        /// The status.
        status: Box<IPPoolStatus>,
        /// What to tell.
        events: Vec<EventPlan>,
    },
    /// Write the status of an Overlay.
    OverlayStatus {
        /// Which.
        object: Target,
        /// The status.
        status: Box<OverlayStatus>,
        /// What to tell.
        events: Vec<EventPlan>,
    },
    /// Write the status of a DnsZone.
    ZoneStatus {
        /// Which.
        object: Target,
        /// The status.
        status: Box<DnsZoneStatus>,
        /// What to tell.
        events: Vec<EventPlan>,
    },
    /// Write addresses and our condition into the status of a Service.
    ServiceStatus {
        /// Its namespace.
        namespace: String,
        /// Which.
        object: Target,
        /// What it should say.
        plan: Box<BalancerPlan>,
    },
    /// Write our condition into the status of a ClusterNetworkPolicy.
    ClusterPolicyStatus {
        /// Which.
        object: Target,
        /// What it should say.
        plan: Box<ClusterPolicyPlan>,
    },
    /// Tell of a NetworkPolicy that is wrong.
    PolicyWarning {
        /// Its namespace.
        namespace: String,
        /// Which.
        object: Target,
        /// What to tell.
        event: EventPlan,
    },
    /// Write the condition NetworkUnavailable of a Node.
    NodeCondition {
        /// The node.
        node: Target,
        /// The condition.
        condition: NodeConditionPlan,
        /// The status of the condition stays: so does the time of its last transition.
        same_status: bool,
    },
}

/// One very version of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
}

impl Target {
    /// The version of an object that a snapshot has.
    #[must_use]
    pub fn of(
        kind: &'static str,
        metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    ) -> Self {
        Self {
            kind,
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// The changes to make.
#[must_use]
pub fn diff(plan: &ApiPlan, snapshot: &Snapshot) -> Vec<Change> {
    let ApiPlan {
        pools,
        overlays,
        balancers,
        zones,
        cluster_policies,
        policy_warnings,
        node_networks,
        blocks,
        node_conditions,
    } = plan;
    let mut changes = Vec::new();
    for (name, pool) in pools {
        let object = Target::of("IPPool", &snapshot.pools[name].metadata);
        changes.extend(finalizers(object, &snapshot.pools[name].metadata, pool));
    }
    for (name, overlay) in overlays {
        let object = Target::of("Overlay", &snapshot.overlays[name].metadata);
        changes.extend(finalizers(
            object,
            &snapshot.overlays[name].metadata,
            overlay,
        ));
    }
    for (node, spec) in node_networks {
        let stored = snapshot.node_networks.get(node);
        if stored.is_none_or(|stored| stored.spec != *spec) {
            changes.push(Change::NodeNetwork {
                node: node.clone(),
                uid: snapshot.nodes[node]
                    .metadata
                    .uid
                    .clone()
                    .unwrap_or_default(),
                spec: Box::new(spec.clone()),
            });
        }
    }
    changes.extend(blocks.drain.iter().cloned().map(Change::DrainBlock));
    changes.extend(blocks.delete.iter().cloned().map(Change::DeleteBlock));
    changes.extend(blocks.create.iter().cloned().map(Change::CreateBlock));
    for (name, pool) in pools {
        let stored = &snapshot.pools[name];
        if pool.finalizer != FinalizerPlan::Remove && stored.status.as_ref() != Some(&pool.status) {
            changes.push(Change::PoolStatus {
                object: Target::of("IPPool", &stored.metadata),
                status: Box::new(pool.status.clone()),
                events: pool.events.clone(),
            });
        }
    }
    for (name, overlay) in overlays {
        let stored = &snapshot.overlays[name];
        if overlay.finalizer != FinalizerPlan::Remove
            && stored.status.as_ref() != Some(&overlay.status)
        {
            changes.push(Change::OverlayStatus {
                object: Target::of("Overlay", &stored.metadata),
                status: Box::new(overlay.status.clone()),
                events: overlay.events.clone(),
            });
        }
    }
    for (name, zone) in zones {
        let stored = &snapshot.zones[name];
        if stored.status.as_ref() != Some(&zone.status) {
            changes.push(Change::ZoneStatus {
                object: Target::of("DnsZone", &stored.metadata),
                status: Box::new(zone.status.clone()),
                events: zone.events.clone(),
            });
        }
    }
    for (key, plan) in balancers {
        let service = &snapshot.balancers[key];
        if !plan.is_stored(service) {
            changes.push(Change::ServiceStatus {
                namespace: key.0.clone(),
                object: Target::of("Service", &service.metadata),
                plan: Box::new(plan.clone()),
            });
        }
    }
    for (name, plan) in cluster_policies {
        let policy = &snapshot.cluster_policies[name];
        if !plan.is_stored(policy) {
            changes.push(Change::ClusterPolicyStatus {
                object: Target::of("ClusterNetworkPolicy", &policy.policy.metadata),
                plan: Box::new(plan.clone()),
            });
        }
    }
    for (key, event) in policy_warnings {
        let object = Target::of("NetworkPolicy", &snapshot.network_policies[key].metadata);
        let told = (object.uid.clone(), event.note.clone());
        if !snapshot.told.contains(&told) {
            changes.push(Change::PolicyWarning {
                namespace: key.0.clone(),
                object,
                event: event.clone(),
            });
        }
    }
    for (name, condition) in node_conditions {
        let node = &snapshot.nodes[name];
        if !node_condition::is_stored(node, condition) {
            changes.push(Change::NodeCondition {
                node: Target::of("Node", &node.metadata),
                condition: condition.clone(),
                same_status: node_condition::stored(node)
                    .is_some_and(|stored| stored.status == node_condition::status(condition)),
            });
        }
    }
    changes
}

fn finalizers<S>(
    object: Target,
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    plan: &ObjectPlan<S>,
) -> Option<Change> {
    (plan.finalizer != FinalizerPlan::Keep).then(|| Change::Finalizers {
        object,
        finalizers: finalizer::after(metadata, plan.finalizer),
    })
}

impl Change {
    /// One word for metrics and logs.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Finalizers { .. } => "finalizers",
            Self::NodeNetwork { .. } => "nodenetwork",
            Self::CreateBlock(_) => "block-create",
            Self::DrainBlock(_) => "block-drain",
            Self::DeleteBlock(_) => "block-delete",
            Self::PoolStatus { .. } => "pool-status",
            Self::OverlayStatus { .. } => "overlay-status",
            Self::ZoneStatus { .. } => "zone-status",
            Self::ServiceStatus { .. } => "service-status",
            Self::ClusterPolicyStatus { .. } => "clusternetworkpolicy-status",
            Self::PolicyWarning { .. } => "networkpolicy-event",
            Self::NodeCondition { .. } => "node-condition",
        }
    }

    /// Counts may wait a few seconds; everything else is written at once.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::PoolStatus { events, .. } | Self::OverlayStatus { events, .. } => {
                !events.is_empty()
            }
            _ => true,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finalizers { object, finalizers } => {
                write!(
                    f,
                    "{} {}: finalizers {finalizers:?}",
                    object.kind, object.name
                )
            }
            Self::NodeNetwork { node, spec, .. } => {
                write!(f, "NodeNetwork {node}: {}", json(spec))
            }
            Self::CreateBlock(block) => {
                let NewBlock {
                    name,
                    cidr,
                    pool,
                    node,
                } = block;
                write!(f, "create IPBlock {name}: {cidr} of {pool} for {node}")
            }
            Self::DrainBlock(drain) => {
                write!(
                    f,
                    "drain IPBlock {}: {}",
                    drain.block.name,
                    drain.reason.as_str()
                )
            }
            Self::DeleteBlock(delete) => {
                write!(
                    f,
                    "delete IPBlock {}: {}",
                    delete.block.name,
                    delete.reason.as_str()
                )
            }
            Self::PoolStatus {
                object,
                status,
                events,
            } => {
                write!(f, "status of IPPool {}: {}", object.name, json(status))?;
                tell(f, events)
            }
            Self::OverlayStatus {
                object,
                status,
                events,
            } => {
                write!(f, "status of Overlay {}: {}", object.name, json(status))?;
                tell(f, events)
            }
            Self::ZoneStatus {
                object,
                status,
                events,
            } => {
                write!(f, "status of DnsZone {}: {}", object.name, json(status))?;
                tell(f, events)
            }
            Self::ServiceStatus {
                namespace,
                object,
                plan,
            } => {
                let BalancerPlan {
                    ingress,
                    condition,
                    events,
                } = plan.as_ref();
                let name = &object.name;
                let status = serde_json::json!({"ingress": ingress, "condition": condition});
                write!(f, "status of Service {namespace}/{name}: {}", json(&status))?;
                tell(f, events)
            }
            Self::ClusterPolicyStatus { object, plan } => {
                let ClusterPolicyPlan { condition, events } = plan.as_ref();
                let name = &object.name;
                write!(
                    f,
                    "status of ClusterNetworkPolicy {name}: {}",
                    json(condition)
                )?;
                tell(f, events)
            }
            Self::PolicyWarning {
                namespace,
                object,
                event,
            } => {
                write!(f, "NetworkPolicy {namespace}/{}:", object.name)?;
                tell(f, std::slice::from_ref(event))
            }
            Self::NodeCondition {
                node, condition, ..
            } => {
                let status = node_condition::status(condition);
                let NodeConditionPlan {
                    reason, message, ..
                } = condition;
                write!(
                    f,
                    "Node {}: NetworkUnavailable={status} {reason}: {message}",
                    node.name
                )
            }
        }
    }
}

fn tell(f: &mut fmt::Formatter<'_>, events: &[EventPlan]) -> fmt::Result {
    for event in events {
        let kind = if event.warning { "Warning" } else { "Normal" };
        write!(f, "\n  event {kind} {}: {}", event.reason, event.note)?;
    }
    Ok(())
}

/// Every field, indented, as a golden file shows it.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| error.to_string())
        .replace('\n', "\n  ")
}

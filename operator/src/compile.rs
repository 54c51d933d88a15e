//! The one pure function of the operator: from a snapshot to everything that the API should hold.

use std::collections::BTreeMap;

use weft_core::alloc::load_balancer::ServiceKey;
use weft_core::alloc::{AllocPlan, plan_blocks};
use weft_crds::{DnsZoneStatus, IPPoolStatus, NodeNetworkSpec, OverlayStatus};

use crate::balancers::status::{BalancerPlan, Held};
use crate::condition::{self, EventPlan};
use crate::finalizer::{self, FinalizerPlan};
use crate::nodes::condition::NodeConditionPlan;
use crate::overlays::resolve::Resolved;
use crate::overlays::validate::Overlays;
use crate::policies::status::{ClusterPolicyPlan, PolicyKey};
use crate::pools::validate::Pools;
use crate::snapshot::Snapshot;
use crate::{balancers, blocks, nodes, overlays, policies, pools, zones};

/// Everything that the API should hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiPlan {
    /// Of each IPPool.
    pub pools: BTreeMap<String, ObjectPlan<IPPoolStatus>>,
    /// Of each Overlay.
    pub overlays: BTreeMap<String, ObjectPlan<OverlayStatus>>,
    /// Of each Service of type LoadBalancer that is ours.
    pub balancers: BTreeMap<ServiceKey, BalancerPlan>,
    /// Of each DnsZone.
    pub zones: BTreeMap<String, ZonePlan>,
    /// Of each ClusterNetworkPolicy.
    pub cluster_policies: BTreeMap<String, ClusterPolicyPlan>,
    /// Of each NetworkPolicy that is wrong.
    pub policy_warnings: BTreeMap<PolicyKey, EventPlan>,
    /// What each node is told.
    pub node_networks: BTreeMap<String, NodeNetworkSpec>,
    /// Blocks.
    pub blocks: AllocPlan,
    /// The condition NetworkUnavailable of Nodes, where something is to be said.
    pub node_conditions: BTreeMap<String, NodeConditionPlan>,
}

/// What a user's object should carry.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectPlan<S> {
    /// Its status.
    pub status: S,
    /// What to tell of the change.
    pub events: Vec<EventPlan>,
    /// The finalizer.
    pub finalizer: FinalizerPlan,
}

/// What a DnsZone should carry.
#[derive(Clone, Debug, PartialEq)]
pub struct ZonePlan {
    /// Its status.
    pub status: DnsZoneStatus,
    /// What to tell of the change.
    pub events: Vec<EventPlan>,
}

/// Everything that the API should hold, from what it holds.
#[must_use]
pub fn compile(snapshot: &Snapshot) -> ApiPlan {
    let overlays = overlays::validate::validate(snapshot);
    let resolved = overlays::resolve::resolve(snapshot, &overlays);
    let pools = pools::validate::validate(snapshot, &overlays);
    let blocks = plan_blocks(&blocks::view::view(snapshot, &pools, &resolved));
    let served = balancers::view::view(snapshot, &pools);
    let (balancers, held) = balancers::status::plans(snapshot, &served);
    ApiPlan {
        pools: pool_plans(snapshot, &pools, &blocks, &held),
        balancers,
        zones: zone_plans(snapshot),
        overlays: overlay_plans(snapshot, &overlays, &resolved),
        cluster_policies: policies::status::cluster_plans(snapshot),
        policy_warnings: policies::status::warnings(snapshot),
        node_networks: nodes::network::networks(snapshot, &overlays, &resolved, &pools),
        node_conditions: snapshot
            .nodes
            .keys()
            .filter_map(|node| Some((node.clone(), nodes::condition::plan(snapshot, node)?)))
            .collect(),
        blocks,
    }
}

fn zone_plans(snapshot: &Snapshot) -> BTreeMap<String, ZonePlan> {
    let judged = zones::validate::validate(snapshot);
    let plan = |(name, zone): (&String, &std::sync::Arc<weft_crds::DnsZone>)| {
        let judged = judged.get(name)?;
        let conditions = zones::status::conditions(zone, judged);
        let stored = zone
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        let plan = ZonePlan {
            events: condition::events(stored.unwrap_or_default(), &conditions),
            status: zones::status::status(snapshot, zone, judged, &conditions),
        };
        Some((name.clone(), plan))
    };
    snapshot.zones.iter().filter_map(plan).collect()
}

fn pool_plans(
    snapshot: &Snapshot,
    pools: &Pools,
    blocks: &AllocPlan,
    held: &Held,
) -> BTreeMap<String, ObjectPlan<IPPoolStatus>> {
    snapshot
        .pools
        .iter()
        .map(|(name, pool)| {
            let conditions =
                pools::status::conditions(snapshot, name, pool, pools, &blocks.findings, held);
            let stored = pool
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice());
            let used = snapshot
                .blocks
                .values()
                .any(|block| block.spec.pool == *name)
                || held.of(name).next().is_some();
            let plan = ObjectPlan {
                events: condition::events(stored.unwrap_or_default(), &conditions),
                status: pools::status::status(snapshot, name, pool, pools, &conditions, held),
                finalizer: finalizer::plan(&pool.metadata, used),
            };
            (name.clone(), plan)
        })
        .collect()
}

fn overlay_plans(
    snapshot: &Snapshot,
    overlays: &Overlays,
    resolved: &BTreeMap<String, Resolved>,
) -> BTreeMap<String, ObjectPlan<OverlayStatus>> {
    snapshot
        .overlays
        .iter()
        .map(|(name, overlay)| {
            let nodes = resolved.get(name);
            let progress = nodes
                .map(|nodes| overlays::status::progress(snapshot, name, nodes))
                .unwrap_or_default();
            let conditions =
                overlays::status::conditions(snapshot, name, overlay, overlays, nodes, &progress);
            let stored = overlay
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice());
            let used = snapshot
                .pools
                .values()
                .filter(|pool| !pool.spec.is_for_load_balancers())
                .any(|pool| pool.spec.overlay_ref.name == *name);
            let plan = ObjectPlan {
                events: condition::events(stored.unwrap_or_default(), &conditions),
                status: overlays::status::status(snapshot, overlay, &progress, &conditions),
                finalizer: finalizer::plan(&overlay.metadata, used),
            };
            (name.clone(), plan)
        })
        .collect()
}

//! Everything that the controllers know, at one moment. There is none until every store has synced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use weft_core::alloc::load_balancer::ServiceKey;
use weft_crds::{DnsZone, IPBlock, IPPool, NodeNetwork, NodeReport, Overlay};

use crate::compile::ApiPlan;
use crate::policies::object::ClusterPolicy;
use crate::policies::status::PolicyKey;
use crate::zones::memo::Memo;

/// Everything that one compilation depends on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// IPPools by name.
    pub pools: BTreeMap<String, Arc<IPPool>>,
    /// Overlays by name.
    pub overlays: BTreeMap<String, Arc<Overlay>>,
    /// IPBlocks by name.
    pub blocks: BTreeMap<String, Arc<IPBlock>>,
    /// NodeNetworks by name.
    pub node_networks: BTreeMap<String, Arc<NodeNetwork>>,
    /// NodeReports by name.
    pub reports: BTreeMap<String, Arc<NodeReport>>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Networks and addresses of Services, by what a user would call them.
    pub services: BTreeMap<String, Vec<IpNet>>,
    /// Services of type LoadBalancer, and those that still bear our condition.
    pub balancers: BTreeMap<ServiceKey, Arc<Service>>,
    /// NetworkPolicies by namespace and name.
    pub network_policies: BTreeMap<PolicyKey, Arc<NetworkPolicy>>,
    /// ClusterNetworkPolicies by name.
    pub cluster_policies: BTreeMap<String, Arc<ClusterPolicy>>,
    /// Notes of Events about NetworkPolicies that this process has told, by UID.
    pub told: BTreeSet<(String, String)>,
    /// Services of type LoadBalancer without a class are ours too.
    pub default_balancer: bool,
    /// DnsZones by name.
    pub zones: BTreeMap<String, Arc<DnsZone>>,
    /// ConfigMaps with zone files by namespace and name.
    pub zone_files: BTreeMap<(String, String), Arc<ConfigMap>>,
    /// What was read of DnsZones before.
    pub zone_memo: Arc<Memo>,
    /// Addresses at which the cluster's DNS is asked.
    pub dns_addresses: BTreeSet<IpAddr>,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// How long each node that still has blocks has been without a Node object.
    pub gone: BTreeMap<String, Duration>,
    /// How long each Node's agent has not been heard of.
    pub silent: BTreeMap<String, Duration>,
    /// How long a Node must be gone before its blocks are released.
    pub node_grace: Duration,
    /// How long an agent may be silent before its node is marked.
    pub agent_grace: Duration,
    /// The time for conditions.
    pub now: Timestamp,
}

impl Snapshot {
    /// What has been told of NetworkPolicies once a plan is carried out.
    #[must_use]
    pub fn told_after(&self, plan: &ApiPlan) -> BTreeSet<(String, String)> {
        let warnings = plan.policy_warnings.iter();
        let told = warnings.filter_map(|(key, event)| {
            let uid = self.network_policies.get(key)?.metadata.uid.clone()?;
            Some((uid, event.note.clone()))
        });
        told.collect()
    }
}

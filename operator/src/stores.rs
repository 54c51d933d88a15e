//! What the watches know: stores that fill themselves, and a bell that rings when one changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::api::networking::v1::{NetworkPolicy, ServiceCIDR};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use weft_crds::{DnsZone, IPBlock, IPPool, NodeNetwork, NodeReport, Overlay};

use crate::balancers;
use crate::policies::object::ClusterPolicy;
use crate::snapshot::Snapshot;

/// The stores of everything that the operator reads.
#[derive(Clone)]
pub struct Stores {
    pools: Store<IPPool>,
    overlays: Store<Overlay>,
    blocks: Store<IPBlock>,
    node_networks: Store<NodeNetwork>,
    reports: Store<NodeReport>,
    nodes: Store<Node>,
    services: Store<Service>,
    service_cidrs: Store<ServiceCIDR>,
    zones: Store<DeserializeGuard<DnsZone>>,
    zone_files: Store<ConfigMap>,
    network_policies: Store<NetworkPolicy>,
    cluster_policies: Store<ClusterPolicy>,
}

/// The label of ConfigMaps that hold zone files: no others are read.
const ZONE_FILE: &str = "weftnet.dev/zone-file";
/// The Service at which the cluster's DNS is asked: its name is what kubelets and policies know.
const DNS_SERVICE: (&str, &str) = ("kube-system", "kube-dns");

/// How a watch reaches its store.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchOptions {
    /// Every change is held back for so long: tests make caches old with it.
    pub delay: Duration,
}

impl Stores {
    /// Starts all watches; `bell` rings at each change.
    pub fn start(
        client: &Client,
        bell: &Arc<Notify>,
        options: WatchOptions,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let mut starter = Starter {
            client,
            bell,
            options,
            tasks,
        };
        Self {
            pools: starter.watch(|_| {}),
            overlays: starter.watch(|_| {}),
            blocks: starter.watch(|_| {}),
            node_networks: starter.watch(|_| {}),
            reports: starter.watch(|_| {}),
            nodes: starter.watch(trim_node),
            services: starter.watch(trim_service),
            service_cidrs: starter.watch_if_served(|_| {}),
            zones: starter.watch_if_served(|_| {}),
            zone_files: starter.watch_labelled(ZONE_FILE),
            network_policies: starter.watch(|policy| policy.metadata.annotations = None),
            cluster_policies: starter.watch_if_served(|_| {}),
        }
    }

    /// What the stores hold, without what only time tells; `None` until all have synced.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let Self {
            pools,
            overlays,
            blocks,
            node_networks,
            reports,
            nodes,
            services,
            service_cidrs,
            zones,
            zone_files,
            network_policies,
            cluster_policies,
        } = self;
        let services = state(services)?;
        Some(Snapshot {
            pools: by_name(pools)?,
            overlays: by_name(overlays)?,
            blocks: by_name(blocks)?,
            node_networks: by_name(node_networks)?,
            reports: by_name(reports)?,
            nodes: by_name(nodes)?,
            zones: readable(state(zones)?),
            zone_files: state(zone_files)?
                .into_iter()
                .map(|map| ((map.namespace().unwrap_or_default(), map.name_any()), map))
                .collect(),
            dns_addresses: dns_addresses(&services),
            services: service_networks(&state(service_cidrs)?, &services),
            balancers: services
                .into_iter()
                .filter(|service| balancers::view::concerns(service))
                .map(|service| (balancers::view::key(&service), service))
                .collect(),
            network_policies: state(network_policies)?
                .into_iter()
                .map(|policy| {
                    let namespace = policy.namespace().unwrap_or_default();
                    ((namespace, policy.name_any()), policy)
                })
                .collect(),
            cluster_policies: by_name(cluster_policies)?,
            ..Snapshot::default()
        })
    }

    /// Waits until every store has synced for the first time.
    pub async fn synced(&self) {
        let _ = tokio::join!(
            self.pools.wait_until_ready(),
            self.overlays.wait_until_ready(),
            self.blocks.wait_until_ready(),
            self.node_networks.wait_until_ready(),
            self.reports.wait_until_ready(),
            self.nodes.wait_until_ready(),
            self.services.wait_until_ready(),
            self.service_cidrs.wait_until_ready(),
            self.zones.wait_until_ready(),
            self.zone_files.wait_until_ready(),
            self.network_policies.wait_until_ready(),
            self.cluster_policies.wait_until_ready(),
        );
    }
}

/// Networks of Services by what a user would call them: all ServiceCIDRs, and the addresses of
/// Services outside of these.
#[must_use]
pub fn service_networks(
    cidrs: &[Arc<ServiceCIDR>],
    services: &[Arc<Service>],
) -> BTreeMap<String, Vec<IpNet>> {
    let mut networks: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    for cidr in cidrs {
        let listed = cidr
            .spec
            .iter()
            .flat_map(|spec| spec.cidrs.iter().flatten());
        networks.insert(
            format!("ServiceCIDR {}", cidr.name_any()),
            listed.filter_map(|text| text.parse().ok()).collect(),
        );
    }
    let known: Vec<IpNet> = networks.values().flatten().copied().collect();
    for service in services {
        let addresses = service
            .spec
            .iter()
            .flat_map(|spec| spec.cluster_ips.iter().flatten());
        let outside: Vec<IpNet> = addresses
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .filter(|address| !known.iter().any(|network| network.contains(address)))
            .map(IpNet::from)
            .collect();
        if !outside.is_empty() {
            let name = format!(
                "Service {}/{}",
                service.namespace().unwrap_or_default(),
                service.name_any()
            );
            networks.insert(name, outside);
        }
    }
    networks
}

/// Zones that can be read: one that a later version wrote must not hide the others.
fn readable(zones: Vec<Arc<DeserializeGuard<DnsZone>>>) -> BTreeMap<String, Arc<DnsZone>> {
    let zones = zones.into_iter();
    zones
        .filter_map(|guard| match &guard.0 {
            Ok(zone) => Some((zone.name_any(), Arc::new(zone.clone()))),
            Err(_) => None,
        })
        .collect()
}

/// Addresses of the Service at which the cluster's DNS is asked.
fn dns_addresses(services: &[Arc<Service>]) -> BTreeSet<IpAddr> {
    let (namespace, name) = DNS_SERVICE;
    let is_dns = |service: &&Arc<Service>| {
        service.metadata.name.as_deref() == Some(name)
            && service.metadata.namespace.as_deref() == Some(namespace)
    };
    let spec = services
        .iter()
        .find(is_dns)
        .and_then(|service| service.spec.as_ref());
    let listed = spec
        .into_iter()
        .flat_map(|spec| spec.cluster_ips.iter().flatten());
    listed.filter_map(|text| text.parse().ok()).collect()
}

struct Starter<'a> {
    client: &'a Client,
    bell: &'a Arc<Notify>,
    options: WatchOptions,
    tasks: &'a mut JoinSet<()>,
}

impl Starter<'_> {
    fn watch<K>(&mut self, trim: fn(&mut K)) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.start(trim, false, None)
    }

    /// A kind that an administrator may have switched off: then there is none of it.
    fn watch_if_served<K>(&mut self, trim: fn(&mut K)) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.start(trim, true, None)
    }

    /// Objects with a label alone.
    fn watch_labelled<K>(&mut self, label: &'static str) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.start(|_| {}, false, Some(label))
    }

    fn start<K>(
        &mut self,
        trim: fn(&mut K),
        may_be_missing: bool,
        label: Option<&'static str>,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let follower = Follower {
            api: Api::all(self.client.clone()),
            writer,
            bell: Arc::clone(self.bell),
            options: self.options,
            trim,
            may_be_missing,
            label,
        };
        self.tasks.spawn(follower.run());
        store
    }
}

/// Fills one store.
struct Follower<K: Resource<DynamicType = ()> + Clone + 'static> {
    api: Api<K>,
    writer: reflector::store::Writer<K>,
    bell: Arc<Notify>,
    options: WatchOptions,
    trim: fn(&mut K),
    may_be_missing: bool,
    label: Option<&'static str>,
}

impl<K> Follower<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Follows one kind for ever. The list at the start is streamed where the server can (Kubernetes
    /// 1.34 by default); a server that refuses that is asked for an ordinary list.
    async fn run(mut self) {
        let plain = match self.label {
            Some(label) => watcher::Config::default().labels(label),
            None => watcher::Config::default(),
        };
        let streaming = plain.clone().streaming_lists();
        let refused = self.follow(streaming, is_refused).await;
        tracing::info!(kind = %K::kind(&()), error = %Chain(&refused), "the API server does not stream lists: using an ordinary one");
        self.follow(plain, |_| false).await;
    }

    /// Follows until an error that ends it.
    async fn follow(
        &mut self,
        config: watcher::Config,
        ends: fn(&watcher::Error) -> bool,
    ) -> watcher::Error {
        let stream = watcher(self.api.clone(), config).default_backoff();
        let mut stream = std::pin::pin!(stream);
        loop {
            match stream.next().await {
                Some(Ok(event)) => self.store(event).await,
                Some(Err(error)) if ends(&error) => return error,
                Some(Err(error)) if self.may_be_missing && is_missing(&error) => {
                    self.store(watcher::Event::Init).await;
                    self.store(watcher::Event::InitDone).await;
                }
                Some(Err(error)) => {
                    tracing::warn!(kind = %K::kind(&()), error = %Chain(&error), "a watch was interrupted");
                }
                // A watcher never ends.
                None => std::future::pending().await,
            }
        }
    }

    async fn store(&mut self, event: watcher::Event<K>) {
        if !self.options.delay.is_zero() {
            tokio::time::sleep(self.options.delay).await;
        }
        let event = event.modify(|object| {
            object.meta_mut().managed_fields = None;
            (self.trim)(object);
        });
        self.writer.apply_watcher_event(&event);
        self.bell.notify_one();
    }
}

/// `422 Invalid`: sendInitialEvents is not known or switched off.
fn is_refused(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => matches!(status.code, 400 | 422),
        _ => false,
    }
}

/// `404 Not Found`: the kind is not served.
fn is_missing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

fn state<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> Option<Vec<Arc<K>>> {
    is_ready(store).then(|| store.state())
}

fn by_name<K: Resource<DynamicType = ()> + Clone + 'static>(
    store: &Store<K>,
) -> Option<BTreeMap<String, Arc<K>>> {
    Some(
        state(store)?
            .into_iter()
            .map(|object| (object.name_any(), object))
            .collect(),
    )
}

fn is_ready<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> bool {
    let ready = std::pin::pin!(store.wait_until_ready());
    futures::FutureExt::now_or_never(ready).is_some_and(|ready| ready.is_ok())
}

fn trim_node(node: &mut Node) {
    node.metadata.annotations = None;
    node.spec = None;
    if let Some(status) = &mut node.status {
        let addresses = status.addresses.take();
        let conditions = status.conditions.take();
        *status = k8s_openapi::api::core::v1::NodeStatus {
            addresses,
            conditions,
            ..Default::default()
        };
    }
}

fn trim_service(service: &mut Service) {
    if balancers::view::concerns(service) {
        return;
    }
    service.metadata.annotations = None;
    service.metadata.labels = None;
    service.status = None;
    if let Some(spec) = &mut service.spec {
        let cluster_ips = spec.cluster_ips.take();
        *spec = k8s_openapi::api::core::v1::ServiceSpec {
            cluster_ips,
            ..Default::default()
        };
    }
}

/// An error with its causes, for one line of a log.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

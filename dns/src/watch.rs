//! The watches: which collections, and what is kept of an object.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Config as Settings;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use weft_core::zones::config::Config;
use weft_core::zones::directory::{Needs, NodeIdentity, PodIdentity, ZoneInput};
use weft_core::zones::input::{self, ServiceInput, SliceInput};
use weft_crds::{DnsZone, PodAddress};

use crate::follow::{Update, follow};
use crate::metrics::Metrics;
use crate::state::{Input, Space, Watched};

/// A label of ConfigMaps that hold zone files: no others are read.
const ZONE_FILE: &str = "weftnet.dev/zone-file";

/// Starts tasks that watch.
pub struct Watches<'a> {
    /// The API server.
    pub client: &'a Client,
    /// Where updates go.
    pub updates: &'a mpsc::Sender<(Instant, Input)>,
    /// What is counted.
    pub metrics: &'a Arc<Metrics>,
    /// Where the tasks live.
    pub tasks: &'a mut JoinSet<()>,
}

impl Watches<'_> {
    /// Starts a task for each collection. Those that only some zones need wait until `needs` says so.
    pub fn start(&mut self, config: &Config, watched: Watched, needs: &watch::Receiver<Needs>) {
        let all = || Settings::default().streaming_lists();
        let exposed = config.clone();
        let namespaces = move |object: Namespace| {
            let space = Space {
                exposed: input::exposed(&object, &exposed),
                labels: object.metadata.labels.clone().unwrap_or_default(),
            };
            (object.name_any().into(), Some(space))
        };
        let services = |object: Service| (key(&object), ServiceInput::service(&object));
        let names = config.endpoint_pod_names;
        let slices = move |object: EndpointSlice| (key(&object), SliceInput::slice(&object, names));
        let api = Api::all(self.client.clone());
        self.follow(api, "namespaces", namespaces, Input::Namespaces, all());
        let api = Api::all(self.client.clone());
        self.follow(api, "services", services, Input::Services, all());
        let api = Api::all(self.client.clone());
        self.follow(api, "endpointslices", slices, Input::Slices, all());
        let api = Api::all(self.client.clone());
        self.follow(api, "dnszones", zone, Input::Zones, all());
        let files = |object: ConfigMap| (key(&object), Some(object.data.unwrap_or_default()));
        let api = Api::all(self.client.clone());
        let labelled = all().labels(ZONE_FILE);
        self.follow(api, "configmaps", files, Input::Files, labelled);
        self.later(
            needs,
            |needs| needs.pods,
            "podaddresses",
            person,
            Input::People,
        );
        self.later(needs, |needs| needs.nodes, "nodes", node, Input::Nodes);
        if watched.pods {
            let pods = |object: PodAddress| (key(&object), Some(addresses(&object.spec.addresses)));
            let api = Api::all(self.client.clone());
            self.follow(api, "podaddresses", pods, Input::Pods, all());
        }
        if watched.imports {
            self.imports();
        }
    }

    fn follow<K, T, F>(
        &mut self,
        api: Api<K>,
        kind: &'static str,
        trim: F,
        wrap: fn(Update<T>) -> Input,
        settings: Settings,
    ) where
        K: Clone + DeserializeOwned + Debug + Send + Resource + 'static,
        T: Send + 'static,
        F: Fn(K) -> (Box<str>, Option<T>) + Send + Sync + 'static,
    {
        let (updates, metrics) = (self.updates.clone(), Arc::clone(self.metrics));
        let task = follow(api, kind, trim, updates, wrap, metrics, settings);
        self.tasks.spawn(task);
    }

    /// The same for a collection that may never be needed.
    fn later<K, T>(
        &mut self,
        needs: &watch::Receiver<Needs>,
        needed: fn(&Needs) -> bool,
        kind: &'static str,
        trim: fn(K) -> (Box<str>, Option<T>),
        wrap: fn(Update<T>) -> Input,
    ) where
        K: Clone + DeserializeOwned + Debug + Send + Resource<DynamicType = ()> + 'static,
        T: Send + 'static,
    {
        let api = Api::<K>::all(self.client.clone());
        let (updates, metrics) = (self.updates.clone(), Arc::clone(self.metrics));
        let mut needs = needs.clone();
        self.tasks.spawn(async move {
            if needs.wait_for(needed).await.is_err() {
                return;
            }
            let settings = Settings::default().streaming_lists();
            follow(api, kind, trim, updates, wrap, metrics, settings).await;
        });
    }

    /// ServiceImports have no type of their own here.
    fn imports(&mut self) {
        let resource = ApiResource {
            group: "multicluster.x-k8s.io".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "multicluster.x-k8s.io/v1alpha1".to_owned(),
            kind: "ServiceImport".to_owned(),
            plural: "serviceimports".to_owned(),
        };
        let trim = |object: DynamicObject| {
            let key = key(&object);
            (key, ServiceInput::import(&object.data))
        };
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let settings = Settings::default().streaming_lists();
        self.follow(api, "serviceimports", trim, Input::Imports, settings);
    }
}

/// One object that cannot be read must not hide the others.
fn zone(guard: DeserializeGuard<DnsZone>) -> (Box<str>, Option<Option<Box<ZoneInput>>>) {
    let name: Box<str> = guard.name_any().into();
    let object = match guard.0 {
        Ok(object) => object,
        Err(error) => {
            tracing::warn!(zone = &*name, %error, "the DnsZone cannot be read; the version before stays");
            return (name, Some(None));
        }
    };
    let serial = object.status.and_then(|status| status.serial);
    let spec = object.spec;
    (name, Some(Some(Box::new(ZoneInput { spec, serial }))))
}

fn person(object: PodAddress) -> (Box<str>, Option<PodIdentity>) {
    let created = object.metadata.creation_timestamp.as_ref();
    let identity = PodIdentity {
        namespace: object.namespace().unwrap_or_default().into(),
        node: object.spec.node.as_str().into(),
        addresses: addresses(&object.spec.addresses),
        created: created.map_or(0, |time| time.0.as_second()),
        labels: object.spec.labels.clone(),
    };
    (key(&object), Some(identity))
}

fn node(object: Node) -> (Box<str>, Option<NodeIdentity>) {
    let name = object.name_any().into();
    let listed = object.status.and_then(|status| status.addresses);
    let texts: Vec<String> = listed
        .into_iter()
        .flatten()
        .map(|address| address.address)
        .collect();
    let identity = NodeIdentity {
        labels: object.metadata.labels.unwrap_or_default(),
        addresses: addresses(&texts),
    };
    (name, Some(identity))
}

fn addresses(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn key(object: &impl ResourceExt) -> Box<str> {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
    .into()
}

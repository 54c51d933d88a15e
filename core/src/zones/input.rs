//! Kubernetes objects, cut down to what names need, once, at the edge.
//!
//! A cluster holds 150,000 endpoints: addresses stand in one array and labels in one string of bytes for each slice,
//! so that an endpoint costs some thirty bytes and no allocation of its own.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::{Deserialize, Serialize};

use super::name::{MAX_LABEL, Name};

/// Label of an EndpointSlice that names its service (`discovery.k8s.io/v1`).
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of an imported EndpointSlice that names its service (Multi-Cluster Services API).
pub const IMPORT_NAME: &str = "multicluster.kubernetes.io/service-name";
/// Label of an imported EndpointSlice that names the cluster it comes from.
pub const IMPORT_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";

/// A service as it stands in names: the labels `SERVICE` and `NAMESPACE` in wire form, lower case.
pub type Key = Box<[u8]>;

/// Makes the key of a service; none where a name is no label.
#[must_use]
pub fn key(namespace: &str, name: &str) -> Option<Key> {
    let mut key = Vec::with_capacity(name.len() + namespace.len() + 2);
    for label in [name, namespace] {
        push_label(&mut key, label)?;
    }
    Some(key.into())
}

/// A label in wire form, lower case; none where it is none.
#[must_use]
pub fn label(text: &str) -> Option<Box<[u8]>> {
    let mut out = Vec::with_capacity(text.len() + 1);
    push_label(&mut out, text)?;
    Some(out.into())
}

fn push_label(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let length = u8::try_from(text.len()).ok()?;
    if length == 0 || text.len() > MAX_LABEL {
        return None;
    }
    out.push(length);
    out.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
    Some(())
}

/// A protocol that ports have names under.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `_tcp`
    Tcp,
    /// `_udp`
    Udp,
    /// `_sctp`
    Sctp,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// Its label, without length.
    #[must_use]
    pub fn label(self) -> &'static [u8] {
        match self {
            Self::Tcp => b"_tcp",
            Self::Udp => b"_udp",
            Self::Sctp => b"_sctp",
        }
    }
}

/// A port of a service or of a slice.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its name in lower case; empty where it has none.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

impl Port {
    fn new(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Self> {
        Some(Self {
            name: name.unwrap_or_default().to_ascii_lowercase().into(),
            protocol: Protocol::parse(protocol)?,
            number: u16::try_from(number).ok()?,
        })
    }
}

/// What the name of a service leads to.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum Face {
    /// Its cluster IPs.
    Addresses(Box<[IpAddr]>),
    /// Its endpoints.
    Headless,
    /// Another name.
    Alias(Name),
}

/// A Service or ServiceImport.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ServiceInput {
    /// What its name leads to.
    pub face: Face,
    /// Its ports.
    pub ports: Box<[Port]>,
    /// Addresses outside the cluster.
    pub external: Box<[IpAddr]>,
    /// The name of its load balancer, where that has no address.
    pub external_name: Option<Name>,
}

impl ServiceInput {
    /// Reads a Service; none where it has no name in DNS: no address yet, or an ExternalName that is no name.
    #[must_use]
    pub fn service(object: &Service) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        let single = spec.cluster_ip.as_slice();
        let ips = spec
            .cluster_ips
            .as_deref()
            .filter(|ips| !ips.is_empty())
            .unwrap_or(single);
        let face = match spec.type_.as_deref() {
            Some("ExternalName") => Face::Alias(alias(spec.external_name.as_deref()?)?),
            _ if ips.first().is_some_and(|ip| ip == "None") => Face::Headless,
            _ => Face::Addresses(ips.iter().filter_map(|ip| ip.parse().ok()).collect()),
        };
        if matches!(&face, Face::Addresses(ips) if ips.is_empty()) {
            return None;
        }
        let ports = spec.ports.iter().flatten();
        let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
            Port::new(port.name.as_deref(), port.protocol.as_deref(), port.port)
        };
        let ingress = object
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        let ingress = ingress
            .and_then(|status| status.ingress.as_deref())
            .unwrap_or_default();
        let addresses = spec.external_ips.iter().flatten();
        let addresses = addresses.chain(ingress.iter().filter_map(|ingress| ingress.ip.as_ref()));
        Some(Self {
            face,
            ports: ports.filter_map(port).collect(),
            external: unique(addresses.filter_map(|ip| ip.parse().ok())),
            external_name: ingress
                .iter()
                .find_map(|ingress| alias(ingress.hostname.as_deref()?)),
        })
    }

    /// Reads a ServiceImport (`multicluster.x-k8s.io/v1alpha1`), which has no type of its own here.
    #[must_use]
    pub fn import(object: &serde_json::Value) -> Option<Self> {
        let spec = object.get("spec")?;
        let ips = spec.get("ips").and_then(serde_json::Value::as_array);
        let ips = ips
            .into_iter()
            .flatten()
            .filter_map(|ip| ip.as_str()?.parse().ok());
        let face = match spec.get("type").and_then(serde_json::Value::as_str) {
            Some("Headless") => Face::Headless,
            _ => Face::Addresses(ips.collect()),
        };
        let ports = spec.get("ports").and_then(serde_json::Value::as_array);
        let port = |port: &serde_json::Value| {
            let text = |key: &str| port.get(key).and_then(serde_json::Value::as_str);
            let number = port.get("port").and_then(serde_json::Value::as_i64)?;
            Port::new(text("name"), text("protocol"), i32::try_from(number).ok()?)
        };
        Some(Self {
            face,
            ports: ports.into_iter().flatten().filter_map(port).collect(),
            external: Box::default(),
            external_name: None,
        })
    }
}

/// A name that aliases may lead to: an address is none.
fn alias(text: &str) -> Option<Name> {
    let address = text.trim_end_matches('.').parse::<IpAddr>().is_ok();
    Name::absolute(text).ok().filter(|_| !address)
}

fn unique(addresses: impl Iterator<Item = IpAddr>) -> Box<[IpAddr]> {
    let mut out = Vec::new();
    for address in addresses {
        if !out.contains(&address) {
            out.push(address);
        }
    }
    out.into()
}

/// Whose endpoints a slice lists.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitKey {
    /// Imported, or of this cluster.
    pub imported: bool,
    /// The service.
    #[serde(with = "ascii")]
    pub key: Key,
}

/// An EndpointSlice: its ready endpoints.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct SliceInput {
    /// Whose they are.
    pub service: UnitKey,
    /// Their ports.
    pub ports: Box<[Port]>,
    /// Their addresses.
    pub addresses: Box<[IpAddr]>,
    /// Their labels in wire form, one after the other; a single zero where an endpoint is called after its address.
    #[serde(with = "ascii")]
    pub labels: Box<[u8]>,
    /// The label of the cluster they run in, in wire form.
    #[serde(with = "ascii::option")]
    pub cluster: Option<Box<[u8]>>,
}

impl SliceInput {
    /// Reads an EndpointSlice; none where it belongs to no service or holds names instead of addresses.
    #[must_use]
    pub fn slice(object: &EndpointSlice, pod_names: bool) -> Option<Self> {
        if object.address_type == "FQDN" {
            return None;
        }
        let labels = object.metadata.labels.as_ref()?;
        let namespace = object.metadata.namespace.as_deref()?;
        let (imported, service) = match labels.get(IMPORT_NAME) {
            Some(name) => (true, name),
            None => (false, labels.get(SERVICE_NAME)?),
        };
        let key = key(namespace, service)?;
        let mut input = Self {
            service: UnitKey { imported, key },
            ports: ports(object),
            addresses: Box::default(),
            labels: Box::default(),
            cluster: labels
                .get(IMPORT_CLUSTER)
                .and_then(|name| label(name))
                .filter(|_| imported),
        };
        input.endpoints(object, pod_names);
        Some(input)
    }

    fn endpoints(&mut self, object: &EndpointSlice, pod_names: bool) {
        let (mut addresses, mut labels) = (Vec::new(), Vec::new());
        for endpoint in &object.endpoints {
            let ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready);
            if ready == Some(false) {
                continue;
            }
            let pod = endpoint
                .target_ref
                .as_ref()
                .and_then(|target| target.name.as_deref());
            let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
            let name = hostname.or(pod.filter(|_| pod_names)).and_then(label);
            for address in endpoint
                .addresses
                .iter()
                .filter_map(|address| address.parse().ok())
            {
                addresses.push(address);
                labels.extend_from_slice(name.as_deref().unwrap_or(&[0]));
            }
        }
        self.addresses = addresses.into();
        self.labels = labels.into();
    }
}

fn ports(object: &EndpointSlice) -> Box<[Port]> {
    let ports = object.ports.iter().flatten();
    let port = ports
        .filter_map(|port| Port::new(port.name.as_deref(), port.protocol.as_deref(), port.port?));
    let mut ports: Vec<_> = port.collect();
    ports.sort();
    ports.into()
}

/// The addresses of a running pod on the pod network (what its node writes as a PodAddress).
#[must_use]
pub fn pod_addresses(object: &Pod) -> Vec<IpAddr> {
    let host = object.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let Some(status) = object.status.as_ref().filter(|_| !host) else {
        return Vec::new();
    };
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let ips = ips.chain(status.pod_ip.as_deref());
    unique(ips.filter_map(|ip| ip.parse().ok())).into()
}

/// Whether a namespace is exposed by the values that say so.
#[must_use]
pub fn exposed(object: &Namespace, config: &super::config::Config) -> bool {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let listed =
        config.namespaces.is_empty() || config.namespaces.iter().any(|listed| listed == name);
    let labels = object.metadata.labels.clone().unwrap_or_default();
    let chosen = config.namespace_labels.as_ref();
    listed && chosen.is_none_or(|selector| super::selector::matches(selector, &labels))
}

/// Labels in wire form as text: names of Kubernetes' objects are ASCII, and so are the lengths before them.
mod ascii {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(bytes).map_err(serde::ser::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[u8]>, D::Error> {
        Ok(String::deserialize(deserializer)?.into_bytes().into())
    }

    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer};

        #[expect(clippy::ref_option, reason = "the form that serde calls it in")]
        pub fn serialize<S: Serializer>(
            bytes: &Option<Box<[u8]>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match bytes {
                Some(bytes) => super::serialize(bytes, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Box<[u8]>>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            Ok(text.map(|text| text.into_bytes().into()))
        }
    }
}

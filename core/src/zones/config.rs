//! What the cluster's own zones hold and how: the values `dns.cluster.*`, validated.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::name::{Name, NameError};

/// Values as a user writes them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConfigSpec {
    /// The cluster's domain, as kubelet knows it.
    pub cluster_domain: String,
    /// Zones that cluster data answers for; left out: the domain and both reverse trees.
    pub zones: Option<Vec<String>>,
    /// Time to live of cluster records, in seconds.
    pub ttl: u32,
    /// Which names of pods exist.
    pub pods: PodMode,
    /// Endpoints without a host name are called after their pods.
    pub endpoint_pod_names: bool,
    /// Only these namespaces are exposed; empty: all.
    pub namespaces: Vec<String>,
    /// Only namespaces with these labels are exposed.
    pub namespace_labels: Option<LabelSelector>,
    /// A service with a cluster IP and without ready endpoints does not exist.
    pub ignore_empty_services: bool,
    /// Zones in which a name that does not exist is asked for upstream.
    pub fallthrough: Vec<String>,
    /// Zones that publish addresses outside the cluster.
    pub external_zones: Vec<String>,
    /// And the endpoints of headless services.
    pub external_headless: bool,
    /// Zones of `zones` that answer from ServiceImports.
    pub cluster_set_zones: Vec<String>,
    /// Addresses at which the cluster's DNS is reached: those of `ns.dns.ZONE`.
    pub addresses: Vec<IpAddr>,
}

impl Default for ConfigSpec {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".to_owned(),
            zones: None,
            ttl: 5,
            pods: PodMode::Insecure,
            endpoint_pod_names: false,
            namespaces: Vec::new(),
            namespace_labels: None,
            ignore_empty_services: false,
            fallthrough: Vec::new(),
            external_zones: Vec::new(),
            external_headless: false,
            cluster_set_zones: Vec::new(),
            addresses: Vec::new(),
        }
    }
}

/// Which names `ADDRESS.NAMESPACE.pod.ZONE` exist.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PodMode {
    /// None.
    Disabled,
    /// Those of all addresses, in namespaces that exist.
    Insecure,
    /// Those of addresses that a pod of the namespace holds.
    Verified,
}

/// A value that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A zone that is no domain name.
    #[error("{text:?} is no domain name: {source}")]
    Name {
        /// The value.
        text: String,
        /// The rule.
        source: NameError,
    },
    /// No zone but reverse ones.
    #[error("zones have to hold one that is no reverse zone")]
    NoForwardZone,
    /// A time to live beyond RFC 2181.
    #[error("ttl {0} is above 2147483647")]
    Ttl(u32),
}

/// Validated values.
#[derive(Clone, Debug)]
pub struct Config {
    /// Built-in zones, each with what it answers from.
    pub zones: Vec<(Name, ZoneKind)>,
    /// See [`ConfigSpec::ttl`].
    pub ttl: u32,
    /// See [`ConfigSpec::pods`].
    pub pods: PodMode,
    /// See [`ConfigSpec::endpoint_pod_names`].
    pub endpoint_pod_names: bool,
    /// See [`ConfigSpec::namespaces`].
    pub namespaces: Vec<String>,
    /// See [`ConfigSpec::namespace_labels`].
    pub namespace_labels: Option<LabelSelector>,
    /// See [`ConfigSpec::ignore_empty_services`].
    pub ignore_empty_services: bool,
    /// See [`ConfigSpec::fallthrough`].
    pub fallthrough: Vec<Name>,
    /// See [`ConfigSpec::external_headless`].
    pub external_headless: bool,
    /// See [`ConfigSpec::addresses`].
    pub addresses: Vec<IpAddr>,
    /// The zone that reverse names of the cluster point into.
    pub primary: Name,
    /// The zone that reverse names of outside addresses point into.
    pub primary_external: Option<Name>,
}

/// What a built-in zone answers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneKind {
    /// Services, endpoints and pods.
    Cluster,
    /// Imported services.
    ClusterSet,
    /// Addresses of all these.
    Reverse,
    /// Addresses outside the cluster.
    External,
}

impl Config {
    /// Validates what a user wrote.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn parse(spec: &ConfigSpec) -> Result<Self, ConfigError> {
        let listed = match &spec.zones {
            Some(zones) => names(zones)?,
            None => names(&[
                spec.cluster_domain.clone(),
                "in-addr.arpa".into(),
                "ip6.arpa".into(),
            ])?,
        };
        let sets = names(&spec.cluster_set_zones)?;
        let external = names(&spec.external_zones)?;
        let kind = |zone: &Name| match zone {
            _ if zone.is_reverse() => ZoneKind::Reverse,
            _ if sets.iter().any(|set| zone.is_at_or_below(set)) => ZoneKind::ClusterSet,
            _ => ZoneKind::Cluster,
        };
        let mut zones: Vec<_> = listed
            .into_iter()
            .map(|zone| (kind(&zone), zone))
            .map(|(kind, zone)| (zone, kind))
            .collect();
        let forward =
            |(zone, kind): &(Name, ZoneKind)| (*kind != ZoneKind::Reverse).then(|| zone.clone());
        let primary = zones
            .iter()
            .find_map(forward)
            .ok_or(ConfigError::NoForwardZone)?;
        zones.extend(
            external
                .iter()
                .map(|zone| (zone.clone(), ZoneKind::External)),
        );
        if spec.ttl > super::record::MAX_TTL {
            return Err(ConfigError::Ttl(spec.ttl));
        }
        Ok(Self {
            zones,
            ttl: spec.ttl,
            pods: spec.pods,
            endpoint_pod_names: spec.endpoint_pod_names,
            namespaces: spec.namespaces.clone(),
            namespace_labels: spec.namespace_labels.clone(),
            ignore_empty_services: spec.ignore_empty_services,
            fallthrough: names(&spec.fallthrough)?,
            external_headless: spec.external_headless,
            addresses: spec.addresses.clone(),
            primary,
            primary_external: external.into_iter().next(),
        })
    }
}

fn names(texts: &[String]) -> Result<Vec<Name>, ConfigError> {
    let name = |text: &String| {
        Name::absolute(text).map_err(|source| ConfigError::Name {
            text: text.clone(),
            source,
        })
    };
    texts.iter().map(name).collect()
}

//! From Services and pools to a `BalancerView`: which Services are ours, and what they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;
use weft_core::alloc::load_balancer::{
    BalancerPool, BalancerRange, BalancerService, BalancerView, ServiceKey, Sharing,
};
use weft_core::view::{Family, Protocol};
use weft_crds::{ConditionType, reason};

use super::{ADDRESSES, CLASS, SHARING_KEY};
use crate::condition;
use crate::finalizer;
use crate::pools::validate::{Pools, ValidCidr};
use crate::problem::{Code, Problem};
use crate::snapshot::Snapshot;

/// Services that are ours, and why some of them cannot be read.
#[derive(Clone, Debug, Default)]
pub struct Balancers {
    /// Pools and readable Services.
    pub view: BalancerView,
    /// Services whose requests cannot be read; they keep what they hold.
    pub unreadable: BTreeMap<ServiceKey, Problem>,
    /// Services that are not ours any more and still bear our condition.
    pub left: BTreeSet<ServiceKey>,
}

/// The Services and the pools that serve them.
#[must_use]
pub fn view(snapshot: &Snapshot, pools: &Pools) -> Balancers {
    let mut balancers = Balancers::default();
    for (name, pool) in &snapshot.pools {
        let Some(valid) = pools.valid.get(name).filter(|pool| pool.for_load_balancers) else {
            continue;
        };
        let pool = BalancerPool {
            accepted: valid.rejected.is_none()
                && !valid.terminating
                && finalizer::is_set(&pool.metadata),
            priority: pool.spec.priority,
            ranges: valid.cidrs.iter().map(range).collect(),
        };
        balancers.view.pools.insert(name.clone(), pool);
    }
    for (key, service) in &snapshot.balancers {
        if is_ours(service, snapshot.default_balancer) {
            let (parsed, problem) = parse(service);
            balancers.view.services.insert(key.clone(), parsed);
            if let Some(problem) = problem {
                balancers.unreadable.insert(key.clone(), problem);
            }
        } else if bears_our_condition(service) {
            balancers.left.insert(key.clone());
        }
    }
    balancers
}

/// Whether the operator has to know more of a Service than its cluster addresses.
#[must_use]
pub fn concerns(service: &Service) -> bool {
    is_balancer(service) || bears_our_condition(service)
}

/// Namespace and name.
#[must_use]
pub fn key(service: &Service) -> ServiceKey {
    (service.namespace().unwrap_or_default(), service.name_any())
}

/// The addresses of an entry.
#[must_use]
pub fn range(entry: &ValidCidr) -> BalancerRange {
    BalancerRange {
        first: entry.first,
        last: entry.last,
        reserved: entry.reserved.clone(),
    }
}

fn is_balancer(service: &Service) -> bool {
    let type_ = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    type_ == Some("LoadBalancer")
}

fn is_ours(service: &Service, default: bool) -> bool {
    let class = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_class.as_deref());
    is_balancer(service)
        && service.metadata.deletion_timestamp.is_none()
        && class.map_or(default, |class| class == CLASS)
}

fn bears_our_condition(service: &Service) -> bool {
    let conditions = service
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    condition::find(
        conditions.unwrap_or_default(),
        ConditionType::AddressAllocated,
    )
    .is_some()
}

fn parse(service: &Service) -> (BalancerService, Option<Problem>) {
    let spec = service.spec.clone().unwrap_or_default();
    let (requested, problem) = match requested(service, &spec) {
        Ok(requested) => (requested, None),
        Err(problem) => (BTreeSet::new(), Some(problem)),
    };
    let held = held(service);
    // What cannot be read asks for nothing new.
    let requested = if problem.is_some() {
        held.clone()
    } else {
        requested
    };
    let families: BTreeSet<Family> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|family| {
            Family::ALL
                .into_iter()
                .find(|known| known.as_str() == family)
        })
        .collect();
    let sharing = service.annotations().get(SHARING_KEY).map(|key| Sharing {
        key: key.clone(),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
    });
    let parsed = BalancerService {
        created: service
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(i64::MAX, |time| time.0.as_second()),
        families: if problem.is_some() {
            held.iter().copied().map(Family::of).collect()
        } else {
            families
        },
        one_will_do: spec.ip_family_policy.as_deref() == Some("PreferDualStack"),
        held,
        requested,
        sharing,
        ports: ports(&spec),
    };
    (parsed, problem)
}

/// Addresses of the status that an address can be read from.
#[must_use]
pub fn held(service: &Service) -> BTreeSet<IpAddr> {
    let ingress = service
        .status
        .iter()
        .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    ingress
        .flatten()
        .filter_map(|entry| entry.ip.as_deref()?.parse().ok())
        .collect()
}

/// The annotation, else the older field `spec.loadBalancerIP`.
fn requested(service: &Service, spec: &ServiceSpec) -> Result<BTreeSet<IpAddr>, Problem> {
    let annotation = service.annotations().get(ADDRESSES);
    let (place, text) = match (annotation, &spec.load_balancer_ip) {
        (Some(text), _) => (format!("annotation {ADDRESSES}"), text.as_str()),
        (None, Some(text)) => ("spec.loadBalancerIP".to_owned(), text.as_str()),
        (None, None) => return Ok(BTreeSet::new()),
    };
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| {
            part.parse().map_err(|_| {
                Problem::new(
                    reason::ADDRESS_REFUSED,
                    Code::BALANCER_REQUEST,
                    format!(
                        "{place} has {part:?}, which is not an IP address: write addresses separated by commas, such as 192.0.2.10,2001:db8::10"
                    ),
                )
            })
        })
        .collect()
}

fn ports(spec: &ServiceSpec) -> BTreeSet<(Protocol, u16)> {
    let ports = spec.ports.iter().flatten();
    ports
        .filter_map(|port| {
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                Some(_) => return None,
            };
            Some((protocol, u16::try_from(port.port).ok()?))
        })
        .collect()
}

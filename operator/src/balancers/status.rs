//! The status of a Service of type LoadBalancer: its addresses in mode VIP, and a condition that
//! says where they come from or why there are none.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weft_core::alloc::load_balancer::{BalancerGrant, BalancerProblem, ServiceKey, plan_balancers};
use weft_crds::{ConditionStatus, ConditionType, reason};

use super::view::Balancers;
use crate::condition::{self, ConditionPlan, EventPlan};
use crate::problem::{Code, Problem};
use crate::snapshot::Snapshot;

/// What a Service's status should say, as far as it is ours to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalancerPlan {
    /// Its addresses.
    pub ingress: Vec<LoadBalancerIngress>,
    /// Our condition; none: the Service is not ours any more.
    pub condition: Option<Condition>,
    /// What to tell of the change.
    pub events: Vec<EventPlan>,
}

/// What each Service of ours should say, and which pool holds whose addresses.
#[must_use]
pub fn plans(
    snapshot: &Snapshot,
    balancers: &Balancers,
) -> (BTreeMap<ServiceKey, BalancerPlan>, Held) {
    let mut held = Held::default();
    let mut plans = BTreeMap::new();
    for (key, grant) in plan_balancers(&balancers.view) {
        held.count(&grant);
        let Some(service) = snapshot.balancers.get(&key) else {
            continue;
        };
        let unreadable = balancers.unreadable.get(&key);
        plans.insert(key, plan(snapshot, service, &grant, unreadable));
    }
    for key in &balancers.left {
        plans.insert(key.clone(), BalancerPlan::default());
    }
    (plans, held)
}

impl BalancerPlan {
    /// The Service says so already.
    #[must_use]
    pub fn is_stored(&self, service: &Service) -> bool {
        let status = service.status.clone().unwrap_or_default();
        let stored = status.conditions.unwrap_or_default();
        let ours = condition::find(&stored, ConditionType::AddressAllocated);
        let ingress = status
            .load_balancer
            .and_then(|status| status.ingress)
            .unwrap_or_default();
        ours == self.condition.as_ref() && (self.condition.is_none() || ingress == self.ingress)
    }
}

/// Addresses that Services hold, by pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held(BTreeMap<String, BTreeSet<std::net::IpAddr>>);

impl Held {
    /// Addresses of one pool.
    pub fn of(&self, pool: &str) -> impl Iterator<Item = std::net::IpAddr> + '_ {
        self.0.get(pool).into_iter().flatten().copied()
    }

    fn count(&mut self, grant: &BalancerGrant) {
        for (address, pool) in &grant.addresses {
            if let Some(pool) = pool {
                self.0.entry(pool.clone()).or_default().insert(*address);
            }
        }
    }
}

fn plan(
    snapshot: &Snapshot,
    service: &Service,
    grant: &BalancerGrant,
    unreadable: Option<&Problem>,
) -> BalancerPlan {
    let status = service.status.clone().unwrap_or_default();
    let stored = status.conditions.unwrap_or_default();
    let problem = unreadable
        .cloned()
        .or_else(|| grant.problem.as_ref().map(describe));
    let wanted = match &problem {
        None => ConditionPlan::ok(ConditionType::AddressAllocated, &source(grant)),
        Some(problem) => ConditionPlan::of(
            ConditionType::AddressAllocated,
            ConditionStatus::False,
            problem,
        ),
    };
    let wanted = [wanted];
    let merged = condition::merge(&stored, &wanted, service.metadata.generation, snapshot.now);
    BalancerPlan {
        ingress: grant
            .addresses
            .keys()
            .map(|address| LoadBalancerIngress {
                ip: Some(address.to_string()),
                ip_mode: Some("VIP".to_owned()),
                ..LoadBalancerIngress::default()
            })
            .collect(),
        condition: merged.into_iter().next(),
        events: condition::events(&stored, &wanted),
    }
}

fn source(grant: &BalancerGrant) -> String {
    let each: Vec<String> = grant
        .addresses
        .iter()
        .map(|(address, pool)| match pool {
            Some(pool) => format!("{address} of IPPool {pool}"),
            None => format!("{address} of a pool that does not have it any more"),
        })
        .collect();
    format!("the Service has {}", each.join(" and "))
}

fn describe(problem: &BalancerProblem) -> Problem {
    match problem {
        BalancerProblem::NoPool(family) => Problem::new(
            reason::NO_POOL,
            Code::NO_BALANCER_POOL,
            format!(
                "no accepted IPPool with uses [LoadBalancer] has {family} addresses: create one, or look at kubectl get ipp"
            ),
        ),
        BalancerProblem::Exhausted(family) => Problem::new(
            reason::POOL_EXHAUSTED,
            Code::BALANCER_POOL_EXHAUSTED,
            format!(
                "every IPPool with uses [LoadBalancer] and {family} addresses is full: add an entry to spec.cidrs of one, or delete a Service of type LoadBalancer"
            ),
        ),
        BalancerProblem::NotInPool(address) => Problem::new(
            reason::ADDRESS_REFUSED,
            Code::BALANCER_REQUEST,
            format!(
                "the Service asks for {address}, which is in no accepted IPPool with uses [LoadBalancer]: ask for an address of one, see kubectl get ipp"
            ),
        ),
        BalancerProblem::WrongFamily(address) => Problem::new(
            reason::ADDRESS_REFUSED,
            Code::BALANCER_REQUEST,
            format!(
                "the Service asks for {address}, whose family is not among its spec.ipFamilies: remove the address, or set spec.ipFamilyPolicy to RequireDualStack"
            ),
        ),
        BalancerProblem::SeveralOf(family) => Problem::new(
            reason::ADDRESS_REFUSED,
            Code::BALANCER_REQUEST,
            format!("the Service asks for two {family} addresses: ask for one of each family"),
        ),
        BalancerProblem::Taken(address, (namespace, name)) => Problem::new(
            reason::ADDRESS_IN_USE,
            Code::BALANCER_ADDRESS_IN_USE,
            format!(
                "the Service asks for {address}, which Service {namespace}/{name} has: ask for another, or let the two share it (same namespace, annotation weftnet.dev/sharing-key and externalTrafficPolicy, different ports)"
            ),
        ),
    }
}

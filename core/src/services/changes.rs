//! What an update of Services changes, and what is told about them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::batches::{Batches, Touched};
use super::unit::Unit;
use super::{Frame, ServiceName};
use crate::view::Protocol;

/// What an update changes. The order in which the agent makes it true:
///
/// 1. the frame `before` goes into the plan, and the plan's differences are committed;
/// 2. `batches` are committed one by one, in their order;
/// 3. [`super::Services::committed`], or [`super::Services::interrupted`] with the rest if one failed;
/// 4. the frame `after` goes into the plan, and the plan's differences are committed.
#[derive(Debug, Default)]
pub struct Changes {
    /// What chains must be there before the batches; none if it is what it was.
    pub before: Option<Frame>,
    /// Elements that come and go, as transactions.
    pub batches: Batches,
    /// What chains are needed when all batches are committed; none if it is the same.
    pub after: Option<Frame>,
    /// UDP connections that may lead to endpoints that are gone, to be looked for after the batches.
    pub stale: Vec<StaleFlows>,
}

/// Tracked connections to a frontend: those whose answers come from somewhere that is not an
/// endpoint are to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleFlows {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The original destination.
    pub frontend: SocketAddr,
    /// The endpoints that may answer, sorted.
    pub endpoints: Vec<SocketAddr>,
}

/// What a health check node port answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The Service.
    pub service: ServiceName,
    /// Local endpoints that are ready: none answers 503, more 200.
    pub ready: usize,
}

/// Services with a traffic policy Local, and endpoints, but none on this node; of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoLocalEndpoints {
    /// By `internalTrafficPolicy`.
    pub internal: [usize; 2],
    /// By `externalTrafficPolicy`.
    pub external: [usize; 2],
}

/// Endpoints of a service port, of both families together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Under traffic policy Cluster; none if nothing of the Service uses it.
    pub cluster: Option<Vec<SocketAddr>>,
    /// Under traffic policy Local; none if nothing of the Service uses it.
    pub local: Option<Vec<SocketAddr>>,
}

/// UDP frontends of which other endpoints answer than before, with those.
pub(super) fn stale_flows(change: &Touched) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let (old, mut new) = (udp(&change.old.units), udp(&change.new.units));
    new.retain(|frontend, endpoints| old.get(frontend) != Some(endpoints));
    let kept = udp(&change.new.units);
    let gone = old
        .into_keys()
        .filter(|frontend| !kept.contains_key(frontend));
    new.extend(gone.map(|frontend| (frontend, Vec::new())));
    new
}

/// UDP frontends, with the endpoints that may answer.
pub(super) fn udp(units: &[Unit]) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let udp = |unit: &&Unit| unit.protocol == weft_nft::l4proto::UDP;
    let units = units.iter().filter(udp);
    units
        .flat_map(|unit| {
            unit.frontends.iter().map(|frontend| {
                let at = SocketAddr::new(frontend.address, frontend.port);
                (at, unit.answers(frontend))
            })
        })
        .collect()
}

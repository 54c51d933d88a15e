//! From IPPool objects to accepted pools: readable networks that nobody else has, and an overlay
//! that carries them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use kube::core::Selector;
use weft_crds::{IPPool, PoolCidr, reason};

use crate::cidr;
use crate::overlays::resolve::addresses;
use crate::overlays::validate::Overlays;
use crate::precedence;
use crate::problem::{Code, Problem};
use crate::selector;
use crate::snapshot::Snapshot;

/// A pool whose fields could be read.
#[derive(Clone, Debug)]
pub struct ValidPool {
    /// Its networks, in the order of the spec.
    pub cidrs: Vec<ValidCidr>,
    /// Its addresses are for Services of type LoadBalancer; overlay and nodes mean nothing then.
    pub for_load_balancers: bool,
    /// The overlay that it names.
    pub overlay: String,
    /// The nodes that it selects.
    pub nodes: Selector,
    /// Rest of a released address, in seconds.
    pub cooldown_seconds: u64,
    /// It is being deleted.
    pub terminating: bool,
    /// No new address comes from it: the reason. Addresses in use stay.
    pub rejected: Option<Problem>,
}

/// One network of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidCidr {
    /// The network.
    pub cidr: IpNet,
    /// The first address that is given.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
    /// Prefix length of its blocks.
    pub block_size: u8,
    /// Networks inside it from which no pod gets an address.
    pub reserved: Vec<IpNet>,
}

/// What became of each IPPool.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    /// Those whose fields could be read, by name.
    pub valid: BTreeMap<String, ValidPool>,
    /// Those whose fields could not, by name.
    pub unreadable: BTreeMap<String, Problem>,
}

impl Pools {
    /// Why a pool is not accepted.
    #[must_use]
    pub fn rejection(&self, name: &str) -> Option<&Problem> {
        self.unreadable
            .get(name)
            .or_else(|| self.valid.get(name)?.rejected.as_ref())
    }
}

/// Reads and judges every IPPool. Of two that overlap, the one that was accepted as it stands wins,
/// then the older one, then the first by name.
#[must_use]
pub fn validate(snapshot: &Snapshot, overlays: &Overlays) -> Pools {
    let others = Others::of(snapshot, overlays);
    let mut pools = Pools::default();
    let mut order: Vec<&IPPool> = snapshot.pools.values().map(AsRef::as_ref).collect();
    order.sort_by_key(|pool| {
        precedence::key(
            *pool,
            pool.status
                .as_ref()
                .map(|status| status.conditions.as_slice()),
        )
    });
    for pool in order {
        let name = pool.metadata.name.clone().unwrap_or_default();
        match parse(pool) {
            Ok(mut valid) => {
                valid.rejected = others
                    .overlap(&valid)
                    .or_else(|| pool_overlap(&valid, &pools))
                    .or_else(|| {
                        overlay_problem(&valid, accepted_as_it_stands(pool), snapshot, overlays)
                    });
                pools.valid.insert(name, valid);
            }
            Err(problem) => {
                pools.unreadable.insert(name, problem);
            }
        }
    }
    pools
}

fn parse(pool: &IPPool) -> Result<ValidPool, Problem> {
    let spec = &pool.spec;
    let mut cidrs: Vec<ValidCidr> = Vec::new();
    for (index, entry) in spec.cidrs.iter().enumerate() {
        let valid = if spec.is_for_load_balancers() {
            parse_range(index, entry)?
        } else {
            parse_cidr(index, entry)?
        };
        if let Some(other) = cidrs
            .iter()
            .find(|other| cidr::overlap(&other.cidr, &valid.cidr))
        {
            return Err(overlap(
                index,
                &valid.cidr,
                &format!("the entry {} of the same pool", other.cidr),
                "remove one of the two",
            ));
        }
        cidrs.push(valid);
    }
    let cooldown = crate::settings::duration(&spec.cooldown).map_err(|_| {
        Problem::new(
            "InvalidCooldown",
            Code::INVALID_FIELD,
            format!(
                "spec.cooldown is {:?}: write a duration such as 30s",
                spec.cooldown
            ),
        )
    })?;
    Ok(ValidPool {
        cidrs,
        for_load_balancers: spec.is_for_load_balancers(),
        overlay: spec.overlay_ref.name.clone(),
        nodes: selector::parse("spec.nodeSelector", spec.node_selector.as_ref())?,
        cooldown_seconds: cooldown.as_secs(),
        terminating: pool.metadata.deletion_timestamp.is_some(),
        rejected: None,
    })
}

fn parse_cidr(index: usize, entry: &PoolCidr) -> Result<ValidCidr, Problem> {
    let field = format!("spec.cidrs[{index}]");
    let network = cidr::parse(&format!("{field}.cidr"), &entry.cidr)?;
    let (default, shortest, longest) = match network {
        IpNet::V4(_) => (26, 20, 32),
        IpNet::V6(_) => (122, 116, 128),
    };
    let block_size = entry.block_size.unwrap_or(default);
    let wrong_size = |remedy: String| {
        Problem::new(
            reason::INVALID_CIDR,
            Code::INVALID_BLOCK_SIZE,
            format!("{field}.blockSize is {block_size}: {remedy}"),
        )
    };
    if !(shortest..=longest).contains(&block_size) {
        return Err(wrong_size(format!(
            "write a prefix length from {shortest} to {longest}"
        )));
    }
    if block_size < network.prefix_len() {
        return Err(wrong_size(format!(
            "a block must fit into {network}: write a prefix length from {} to {longest}",
            network.prefix_len().max(shortest)
        )));
    }
    Ok(ValidCidr {
        cidr: network,
        first: network.network(),
        last: network.broadcast(),
        block_size,
        reserved: reserved(&field, &network, entry)?,
    })
}

/// An entry of a pool for load balancers: the network, or a part of it from `start` to `end`.
fn parse_range(index: usize, entry: &PoolCidr) -> Result<ValidCidr, Problem> {
    let field = format!("spec.cidrs[{index}]");
    let network = cidr::parse(&format!("{field}.cidr"), &entry.cidr)?;
    let bound = |name: &str, text: &Option<String>, default: IpAddr| {
        let Some(text) = text else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|address| network.contains(address))
            .ok_or_else(|| {
                Problem::new(
                    reason::INVALID_CIDR,
                    Code::INVALID_CIDR,
                    format!("{field}.{name} is {text:?}: write an address within {network}"),
                )
            })
    };
    let first: IpAddr = bound("start", &entry.start, first(&network))?;
    let last: IpAddr = bound("end", &entry.end, network.broadcast())?;
    if first > last {
        return Err(Problem::new(
            reason::INVALID_CIDR,
            Code::INVALID_CIDR,
            format!("{field}.start {first} lies behind {field}.end {last}: swap the two"),
        ));
    }
    Ok(ValidCidr {
        cidr: network,
        first,
        last,
        block_size: network.max_prefix_len(),
        reserved: reserved(&field, &network, entry)?,
    })
}

/// The first address of a network that a load balancer may have: in IPv6 the lowest one belongs to
/// the routers of the subnet (RFC 4291, section 2.6.1; not so in a /127, RFC 6164).
fn first(network: &IpNet) -> IpAddr {
    match network {
        IpNet::V6(net) if net.prefix_len() < 127 => {
            Ipv6Addr::from(u128::from(net.network()) + 1).into()
        }
        _ => network.network(),
    }
}

fn reserved(field: &str, network: &IpNet, entry: &PoolCidr) -> Result<Vec<IpNet>, Problem> {
    let mut reserved = Vec::new();
    for (number, text) in entry.reserved.iter().enumerate() {
        let place = format!("{field}.reserved[{number}]");
        let part = cidr::parse(&place, text)?;
        if !network.contains(&part) {
            return Err(Problem::new(
                reason::INVALID_CIDR,
                Code::INVALID_CIDR,
                format!(
                    "{place} is {part}, which is not within {network}: write a network inside it"
                ),
            ));
        }
        reserved.push(part);
    }
    Ok(reserved)
}

/// Networks that belong to others than pools.
struct Others {
    /// Each with what a user would call it, and what to do.
    taken: Vec<(IpNet, String, &'static str)>,
}

impl Others {
    fn of(snapshot: &Snapshot, overlays: &Overlays) -> Self {
        let mut taken = Vec::new();
        for (name, node) in &snapshot.nodes {
            for type_ in ["InternalIP", "ExternalIP"] {
                for address in addresses(node, type_) {
                    let party = format!("{type_} {address} of Node {name}");
                    taken.push((
                        cidr::host(address),
                        party,
                        "choose a network without nodes in it",
                    ));
                }
            }
        }
        for (party, networks) in &snapshot.services {
            for network in networks {
                let party = format!("{network} of {party}");
                taken.push((*network, party, "choose a network without Services in it"));
            }
        }
        for (name, overlay) in &overlays.valid {
            for network in &overlay.underlay_cidrs {
                let party = format!("{network} of Overlay {name}, spec.underlay.cidrs");
                taken.push((*network, party, "choose a network outside the underlay"));
            }
        }
        Self { taken }
    }

    fn overlap(&self, pool: &ValidPool) -> Option<Problem> {
        pool.cidrs.iter().enumerate().find_map(|(index, entry)| {
            let (_, party, remedy) = self
                .taken
                .iter()
                .find(|(network, ..)| cidr::overlap(network, &entry.cidr))?;
            Some(overlap(index, &entry.cidr, party, remedy))
        })
    }
}

fn pool_overlap(pool: &ValidPool, accepted: &Pools) -> Option<Problem> {
    for (index, entry) in pool.cidrs.iter().enumerate() {
        for (name, other) in accepted
            .valid
            .iter()
            .filter(|(_, other)| other.rejected.is_none())
        {
            if let Some(network) = other
                .cidrs
                .iter()
                .find(|theirs| cidr::overlap(&theirs.cidr, &entry.cidr))
            {
                let party = format!(
                    "{} of IPPool {name}, which was accepted first",
                    network.cidr
                );
                return Some(overlap(
                    index,
                    &entry.cidr,
                    &party,
                    "choose another network, or remove it from the other pool",
                ));
            }
        }
    }
    None
}

fn overlap(index: usize, network: &IpNet, party: &str, remedy: &str) -> Problem {
    Problem::new(
        reason::CIDR_OVERLAP,
        Code::CIDR_OVERLAP,
        format!("spec.cidrs[{index}].cidr {network} overlaps {party}: {remedy}"),
    )
}

fn accepted_as_it_stands(pool: &IPPool) -> bool {
    precedence::accepted_as_it_stands(
        pool,
        pool.status
            .as_ref()
            .map(|status| status.conditions.as_slice()),
    )
}

/// An overlay that is being deleted takes no further pools. Those that use it go on: a deletion by
/// mistake, which nobody can take back, must not keep pods from starting.
fn overlay_problem(
    pool: &ValidPool,
    accepted: bool,
    snapshot: &Snapshot,
    overlays: &Overlays,
) -> Option<Problem> {
    if pool.for_load_balancers {
        return None;
    }
    let name = &pool.overlay;
    let Some(overlay) = snapshot.overlays.get(name) else {
        return Some(Problem::new(
            reason::OVERLAY_NOT_FOUND,
            Code::OVERLAY_NOT_FOUND,
            format!(
                "spec.overlayRef names Overlay {name}, which does not exist: create it, or make the pool again with another spec.overlayRef"
            ),
        ));
    };
    let why = match overlays.rejection(name) {
        Some(problem) => problem.sentence.clone(),
        None if overlay.metadata.deletion_timestamp.is_some() && !accepted => {
            "it is being deleted".to_owned()
        }
        None => return None,
    };
    Some(Problem::new(
        reason::OVERLAY_NOT_ACCEPTED,
        Code::OVERLAY_NOT_ACCEPTED,
        format!(
            "spec.overlayRef names Overlay {name}, which is not accepted ({why}): see kubectl describe ovl {name}"
        ),
    ))
}

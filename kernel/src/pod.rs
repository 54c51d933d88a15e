//! A pod's veth pair, from one pod's request to both ends configured, in three exchanges with the kernel.
//!
//! The pair is made through a socket that was opened in the pod's namespace, with the host's end put
//! into the host's namespace by descriptor: CAP_NET_ADMIN is enough for all of it, and the agent never
//! enters a pod. The pod reaches everything by a next hop that is the same in every pod and that a
//! permanent neighbour entry resolves: no ARP, no neighbour discovery.

mod state;
mod verify;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo};
use nix::errno::Errno;
use weft_core::names::{self, LEAVING_LINK_GROUP, POD_LINK_GROUP};
use weft_core::plan::{LinkName, Mac, POD_GATEWAY_V4, POD_GATEWAY_V6, Route};

use crate::net::{Failure, Ipv4Setting, Step, address, execute, link, neighbour, route};
use crate::netlink::{self, Refusal, Request, Socket};

pub use verify::verify;

/// What a pod's interface should be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// Name of the host's end.
    pub host_link: LinkName,
    /// Name of the pod's end, mostly `eth0`.
    pub ifname: String,
    /// Hardware address of the host's end.
    pub host_mac: Mac,
    /// Hardware address of the pod's end.
    pub pod_mac: Mac,
    /// MTU of both ends, in bytes.
    pub mtu: u32,
    /// The pod's addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// IPv4 settings of the host's end.
    pub host_ipv4: BTreeMap<Ipv4Setting, u32>,
}

/// A pod's interface is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wired {
    /// Interface index of the host's end.
    pub host_index: u32,
    /// False if the pair was there already, as asked for.
    pub created: bool,
}

/// A pod could not be wired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The socket in the host's namespace failed.
    #[error("in the host's namespace: {0}")]
    Host(#[source] netlink::Error),
    /// The socket in the pod's namespace failed.
    #[error("in the pod's namespace: {0}")]
    Pod(#[source] netlink::Error),
    /// The kernel refused a step.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The pod has an interface of that name that is not ours.
    #[error(
        "the pod has an interface {0} already that is not the other end of {1}: another plugin made it"
    )]
    Foreign(String, LinkName),
}

/// The calling thread's network namespace, for [`wire`].
///
/// # Errors
/// When `/proc` is not there.
pub fn own_namespace() -> std::io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Gives a pod its interface. The same request again finds what is there, and makes it anew if it differs.
///
/// `host_namespace` is the namespace that `host` works on.
///
/// # Errors
/// When a socket fails, the kernel refuses a step, or the pod's interface is somebody else's.
pub fn wire(
    host: &mut Socket,
    pod: &mut Socket,
    host_namespace: &OwnedFd,
    wiring: &Wiring,
) -> Result<Wired, Error> {
    match create(pod, host_namespace, wiring)? {
        Created::New(pair) => configure(host, pod, wiring, pair),
        Created::Taken { pod_end } => {
            if let Some(pod_end) = pod_end {
                let host_end = link::find(host, &wiring.host_link).map_err(Error::Host)?;
                if host_end
                    .as_ref()
                    .is_none_or(|end| end.peer != Some(pod_end.index))
                    || pod_end.kind != Some(InfoKind::Veth)
                {
                    return Err(Error::Foreign(
                        wiring.ifname.clone(),
                        wiring.host_link.clone(),
                    ));
                }
                if let (Some(end), true) = (host_end, verify(host, pod, wiring)?.is_empty()) {
                    return Ok(Wired {
                        host_index: end.index,
                        created: false,
                    });
                }
            }
            // Half made, for another address, or left by a sandbox that is going: made anew.
            unwire(host, &wiring.host_link)?;
            match create(pod, host_namespace, wiring)? {
                Created::New(pair) => configure(host, pod, wiring, pair),
                Created::Taken { .. } => Err(Error::Foreign(
                    wiring.ifname.clone(),
                    wiring.host_link.clone(),
                )),
            }
        }
    }
}

/// Takes a pod's interface away, by the host's end. False if it was not there.
///
/// # Errors
/// When the socket fails or the kernel refuses.
pub fn unwire(host: &mut Socket, host_link: &str) -> Result<bool, Error> {
    let step = link::delete(host_link);
    let outcomes = host.request(&[step.request]).map_err(Error::Host)?;
    match outcomes.into_iter().next() {
        Some(Err(refusal)) if netlink::is_absence(refusal.errno) => Ok(false),
        Some(Err(refusal)) => Err(Failure {
            what: step.what,
            refusal,
        }
        .into()),
        _ => Ok(true),
    }
}

/// Takes many pods' interfaces away, in about the time of one: the kernel waits once for a whole group of
/// links. What is not there is success.
///
/// # Errors
/// When the socket fails or the kernel refuses.
pub fn unwire_all(host: &mut Socket, host_links: &[LinkName]) -> Result<(), Error> {
    if host_links.len() > 1 {
        // Down first: once out of the pods' group, nothing checks what they send.
        let down = host_links.iter().map(|name| link::down(name));
        let leaving = host_links
            .iter()
            .map(|name| link::set_group(name, LEAVING_LINK_GROUP));
        let marked: Vec<Step> = down.chain(leaving).collect();
        let delete = [link::delete_group(LEAVING_LINK_GROUP)];
        let failed = execute(host, &marked).map_err(Error::Host)?;
        if failed.is_empty() && execute(host, &delete).map_err(Error::Host)?.is_empty() {
            return Ok(());
        }
    }
    host_links
        .iter()
        .try_for_each(|name| unwire(host, name).map(drop))
}

/// Both ends' indices.
#[derive(Clone, Copy, Debug)]
struct Pair {
    pod_index: u32,
    host_index: u32,
}

enum Created {
    New(Pair),
    Taken { pod_end: Option<link::Observed> },
}

/// Makes the pair, and reads the pod's end in the same exchange.
fn create(pod: &mut Socket, host_namespace: &OwnedFd, wiring: &Wiring) -> Result<Created, Error> {
    let mut peer = link::named(&wiring.host_link);
    peer.attributes.extend([
        LinkAttribute::Address(wiring.host_mac.0.to_vec()),
        LinkAttribute::Mtu(wiring.mtu),
        LinkAttribute::Group(POD_LINK_GROUP),
        LinkAttribute::NetNsFd(host_namespace.as_raw_fd()),
    ]);
    let mut message = link::named(&wiring.ifname);
    message.attributes.extend([
        LinkAttribute::Address(wiring.pod_mac.0.to_vec()),
        LinkAttribute::Mtu(wiring.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ]);
    let new = Request::new(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
    );
    let get = Request::new(link::query(&wiring.ifname), 0);
    let (outcomes, replies) = pod.query(&[new, get]).map_err(Error::Pod)?;
    let pod_end = replies.into_iter().find_map(|(_, reply)| match reply {
        RouteNetlinkMessage::NewLink(message) => Some(link::read(&message)),
        _ => None,
    });
    match outcomes.into_iter().next() {
        Some(Err(refusal)) if refusal.errno == Errno::EEXIST => Ok(Created::Taken { pod_end }),
        Some(Err(refusal)) => Err(create_failed(wiring, refusal)),
        _ => {
            let pair = pod_end.and_then(|end| {
                let (pod_index, host_index) = (end.index, end.peer?);
                Some(Created::New(Pair {
                    pod_index,
                    host_index,
                }))
            });
            pair.ok_or(Error::Pod(netlink::Error::Lost))
        }
    }
}

fn create_failed(wiring: &Wiring, refusal: Refusal) -> Error {
    let what = format!(
        "create the veth pair {} and {}",
        wiring.host_link, wiring.ifname
    );
    Failure { what, refusal }.into()
}

fn configure(
    host: &mut Socket,
    pod: &mut Socket,
    wiring: &Wiring,
    pair: Pair,
) -> Result<Wired, Error> {
    all(host, &host_steps(wiring), Error::Host)?;
    all(pod, &pod_steps(wiring, pair.pod_index), Error::Pod)?;
    Ok(Wired {
        host_index: pair.host_index,
        created: true,
    })
}

fn all(
    socket: &mut Socket,
    steps: &[Step],
    failed: fn(netlink::Error) -> Error,
) -> Result<(), Error> {
    match execute(socket, steps).map_err(failed)?.into_iter().next() {
        None => Ok(()),
        Some((_, failure)) => Err(failure.into()),
    }
}

fn host_steps(wiring: &Wiring) -> Vec<Step> {
    let name = &wiring.host_link;
    let mut steps = vec![link::no_link_local(name)];
    if !wiring.host_ipv4.is_empty() {
        steps.push(link::set_ipv4(name, &wiring.host_ipv4));
    }
    steps.push(link::up(name));
    steps
}

fn pod_steps(wiring: &Wiring, index: u32) -> Vec<Step> {
    let name = &wiring.ifname;
    let mut steps = vec![link::no_link_local(name), link::up("lo"), link::up(name)];
    for wanted in state::addresses(wiring) {
        steps.push(address::add(name, index, wanted.address, wanted.link_scope));
    }
    for gateway in state::gateways(wiring) {
        steps.push(neighbour::replace(name, index, gateway, wiring.host_mac));
    }
    for (to, wanted) in state::routes(wiring) {
        steps.push(route::add(to, &wanted, index));
    }
    steps
}

//! The engine: one thread that owns everything with a memory, the address record and the kernel.
//!
//! The asynchronous side (watches, sockets, status) sends it [`Input`]s and receives [`Output`]s;
//! neither side shares state with the other. A batch of inputs is one round: take them all, update
//! the view, compile the units concerned, diff, apply, answer.

mod absence;
mod addresses;
mod attach;
mod audit;
mod check;
mod cleanup;
mod cluster;
mod commit;
mod connections;
mod detach;
mod dns;
mod fault;
mod inbox;
mod kernel;
mod opening;
mod pace;
mod policy;
mod ports;
mod repair;
mod report;
mod requests;
mod round;
mod services;
mod snapshot;
mod spool;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

pub use cleanup::{CleanupError, cleanup};
pub use connections::Reconciled;
pub use fault::{FaultPoint, Faults};
pub use policy::{Enforced, OwnPod, PeerPod, PolicyInput};
use serde::{Deserialize, Serialize};
pub use services::{Balanced, Effort, ServiceInput, ServiceSettings};
use tokio::sync::{mpsc, oneshot};
use weft_cni::wire;
use weft_core::view::AttachmentKey;

/// A random number that the kernel chooses at each boot (random(4)).
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the engine needs to start. Descriptors come from the supervisor.
#[derive(Debug)]
pub struct EngineConfig {
    /// This node's name.
    pub node: String,
    /// Where the record is: `/var/lib/weftnet`.
    pub state_dir: PathBuf,
    /// Where DEL requests wait that came while no agent answered.
    pub spool_dir: PathBuf,
    /// Below which namespaces of pods are named by the runtime, for proofs of absence: the host's `/run/netns` or
    /// `/var/run/netns` as this process sees it.
    pub netns_dir: PathBuf,
    /// `/proc/sys/net` of the host's network namespace, writable.
    pub sysctl_dir: PathBuf,
    /// Where the kernel says which boot this is: [`BOOT_ID`].
    pub boot_id: PathBuf,
    /// How long a sandbox must be missing before its address is taken back, in seconds.
    pub grace_seconds: u64,
    /// The nf_tables socket that owns our table; it outlives this process.
    pub nft_socket: OwnedFd,
    /// How Services are served; none: somebody else does.
    pub services: Option<ServiceSettings>,
    /// Addresses of the cluster's DNS Service that a server on this node answers at.
    pub dns: Vec<std::net::IpAddr>,
    /// Whether network policies are enforced.
    pub policies: bool,
}

/// What the cluster says, as of one moment. Sent whenever it changes; `None` fields have not synced.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ClusterInput {
    /// UID of this Node object: the record of another node is recognised and set aside.
    pub node_uid: String,
    /// The Node object's InternalIPs.
    pub internal_ips: Vec<std::net::IpAddr>,
    /// The Node object's zone (label `topology.kubernetes.io/zone`).
    #[serde(default)]
    pub zone: Option<String>,
    /// This node's NodeNetwork spec and its generation.
    pub network: Option<(weft_crds::NodeNetworkSpec, i64)>,
    /// The other nodes' NodeNetwork status, by name.
    pub peers: std::collections::BTreeMap<String, weft_crds::NodeNetworkStatus>,
    /// InternalIPs of the other Node objects that have no NodeNetwork, by name.
    pub other_addresses: std::collections::BTreeMap<String, Vec<std::net::IpAddr>>,
    /// All IPBlocks: name, UID, creation time in seconds, spec.
    pub blocks: Vec<BlockObject>,
}

/// An IPBlock as the API has it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct BlockObject {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resource version: decides between two that were created within one second.
    #[serde(default)]
    pub resource_version: String,
    /// When it was created, seconds since 1970. Of two that overlap the older is valid; UIDs break a tie.
    pub created: i64,
    /// Its spec.
    pub spec: weft_crds::IPBlockSpec,
}

/// What the engine is told.
#[derive(Debug)]
pub enum Input {
    /// The cluster changed. The first one proves that every store has synced: until then the engine
    /// changes nothing in the kernel, unless it was started without an API server and has a snapshot.
    Cluster(Arc<ClusterInput>),
    /// Something about Services.
    Services(ServiceInput),
    /// Whether the DNS server of this node answers, whenever that changes, and once in any case.
    Dns(bool),
    /// Something about network policies.
    Policy(Box<PolicyInput>),
    /// A request of the CNI plugin.
    Cni {
        /// What is asked.
        request: wire::Request,
        /// The rtnetlink socket inside the pod's namespace (ADD, CHECK).
        pod_netlink: Option<OwnedFd>,
        /// Where the answer goes.
        reply: oneshot::Sender<wire::Response>,
    },
    /// Stop after this round, leaving the kernel as it is.
    Stop,
}

/// What the engine tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A pod has its addresses: write its PodAddress. Sent for every attachment again at start.
    Attached(Attached),
    /// An attachment is gone: delete its PodAddress, which cool-down has begun.
    Released {
        /// Which.
        key: AttachmentKey,
        /// UID of the pod.
        pod_uid: String,
        /// Namespace of the pod.
        namespace: String,
    },
    /// What goes into NodeNetwork status, whenever it changes.
    Network(weft_crds::NodeNetworkStatus),
    /// What goes into the NodeReport, whenever it changes; the writer limits the rate. `urgent` is
    /// set where a condition or the demand for addresses changed.
    Report {
        /// The report, without its time.
        report: Box<weft_crds::NodeReportSpec>,
        /// Do not wait for the next interval.
        urgent: bool,
    },
    /// Something for an Event on the Node object.
    Event {
        /// A warning, or for information.
        warning: bool,
        /// One CamelCase word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// The first full plan is in the kernel: the agent is ready, the conf file may be written.
    Ready,
    /// Counters for metrics.
    Counters(Counters),
    /// The rules of Services are what was heard of them.
    Balanced(Balanced),
    /// The kernel refused rules of Services.
    NotBalanced,
    /// Policies are in the kernel as they were heard.
    Enforced(Enforced),
    /// The kernel refused elements of policies.
    NotEnforced,
    /// Whether the pods of other nodes have to be watched: rules ask for them.
    PodsNeeded(bool),
    /// What each health check node port answers, whenever it changes.
    ServiceChecks(std::collections::BTreeMap<u16, weft_core::services::Health>),
    /// Whether the DNS server of this node answers.
    DnsServing(bool),
    /// Connections to endpoints of Services that are gone have been looked for.
    Reconciled(Reconciled),
    /// A round has ended; told once in ten seconds at the most, and not while the thread hangs.
    Alive,
}

/// A pod with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Which sandbox.
    pub key: AttachmentKey,
    /// UID of the pod.
    pub pod_uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// At most one address of each family.
    pub addresses: Vec<std::net::IpAddr>,
    /// The pool of each, in the same order.
    pub pools: Vec<String>,
}

/// Totals since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// ADD requests answered with success.
    pub adds: u64,
    /// ADD requests answered with an error.
    pub add_failures: u64,
    /// DEL requests answered.
    pub dels: u64,
    /// Addresses taken back because their sandbox was gone.
    pub reclaimed: u64,
    /// Changes by others that were put right.
    pub repairs: u64,
    /// nf_tables transactions committed.
    pub nft_commits: u64,
    /// Dumps asked of the kernel (start, after an error, audit).
    pub kernel_dumps: u64,
    /// Attachments at present.
    pub attachments: u64,
}

/// The two ends that the asynchronous side holds.
#[derive(Debug)]
pub struct EngineHandle {
    /// Where inputs go.
    pub inputs: std::sync::mpsc::Sender<Input>,
    /// Where outputs come from.
    pub outputs: mpsc::UnboundedReceiver<Output>,
}

/// Starts the engine's thread. It ends after [`Input::Stop`], or when every sender of inputs is
/// gone; then the outputs end.
pub fn start(config: EngineConfig) -> EngineHandle {
    start_with(config, Faults::none())
}

/// Starts the engine with a function that is asked at each [`FaultPoint`] whether to stop dead there,
/// as if the process had been killed.
pub fn start_with(config: EngineConfig, faults: Faults) -> EngineHandle {
    let (inputs, received) = std::sync::mpsc::channel();
    let (sent, outputs) = mpsc::unbounded_channel();
    round::spawn(config, faults, received, sent);
    EngineHandle { inputs, outputs }
}

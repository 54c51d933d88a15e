//! The messages between `weft-cni` and the agent, over a unix stream socket.
//!
//! One request, one response, each a JSON document after its length as four bytes, big-endian.
//! With a request for ADD or CHECK travels one descriptor (SCM_RIGHTS): an rtnetlink socket that was
//! opened inside the pod's network namespace, so that the agent can configure the pod without ever
//! entering that namespace.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where the agent listens, unless configured otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weftnet/cni.sock";
/// Where DEL requests wait while no agent answers.
pub const DEFAULT_SPOOL: &str = "/var/lib/weftnet/spool";
/// Says that the agent has been ready since the node booted.
pub const DEFAULT_READY_FILE: &str = "/run/weftnet/ready";
/// The longest message accepted, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// What the plugin asks of the agent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "verb", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Request {
    /// Give a sandbox an interface.
    Add(Attachment),
    /// Take it away. Unknown is success.
    Del(Attachment),
    /// Compare it with the kernel.
    Check(Attachment),
    /// Release what is not in the list.
    Gc {
        /// The attachments that the runtime knows. `None`: the key was absent, which says nothing.
        valid: Option<Vec<Valid>>,
    },
    /// Could a pod be served, now or at a later attempt?
    Status,
}

/// One interface of one sandbox, as the runtime names it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS`; empty in a repeated DEL.
    pub netns: String,
    /// `K8S_POD_NAMESPACE`.
    pub pod_namespace: String,
    /// `K8S_POD_NAME`.
    pub pod_name: String,
    /// `K8S_POD_UID`; empty where the runtime does not say.
    pub pod_uid: String,
    /// Capability `portMappings`.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
}

/// One element of the capability `portMappings`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// 1 to 65535; 0 asks for nothing.
    pub host_port: u16,
    /// 1 to 65535.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`, in either case.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// Only at this address of the node; empty is every address.
    #[serde(default, rename = "hostIP")]
    pub host_ip: String,
}

/// One element of `cni.dev/valid-attachments`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Valid {
    /// `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

/// What the agent answers.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Response {
    /// ADD has succeeded: isolation, routes and addresses are in the kernel.
    Added(Added),
    /// DEL, CHECK, GC or STATUS has succeeded.
    Done,
    /// It did not succeed.
    Failed {
        /// A CNI error code (CNI specification 1.1, section 5).
        code: u32,
        /// A sentence without a full stop.
        msg: String,
        /// More: the cause, and the next step.
        details: String,
    },
}

/// What a sandbox got.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Host end of the veth pair.
    pub host_link: String,
    /// Its hardware address.
    pub host_mac: String,
    /// Hardware address inside the sandbox.
    pub pod_mac: String,
    /// MTU of the sandbox's interface, in bytes.
    pub mtu: u32,
    /// At most one address of each family.
    pub addresses: Vec<IpAddr>,
}

fn tcp() -> String {
    "tcp".to_owned()
}

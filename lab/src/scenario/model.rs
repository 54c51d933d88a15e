//! The words of a scenario file: what the YAML says, as types. The JSON schema is made from them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::probe::connect::{Ending, Protocol};
use crate::state::ProxyMode;

mod churn;
mod dial;
mod policy;
mod questions;

pub use super::number::{Count, Pause, Text};
pub use churn::{Churn, ChurnFault};
pub use dial::Dial;
pub use policy::{Ends, FirstInstant, Hears, Reach, Talk};
pub use questions::Questions;

/// One scenario: what a cluster promises, and how to find out.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// A sentence that is true when the scenario passes.
    pub name: String,
    /// What the cluster must be able to do; without it the scenario is skipped with the reason.
    #[serde(default)]
    pub requires: Vec<Capability>,
    /// `Full`: only in the long set.
    #[serde(default)]
    pub profile: Profile,
    /// The cluster that it needs. A lab of its own is made where the given one differs.
    #[serde(default)]
    pub topology: Topology,
    /// Texts for `${value.NAME}`, such as those that differ between the short and the long set.
    #[serde(default)]
    pub values: BTreeMap<String, Text>,
    /// Objects of any kind, applied before the pods and deleted after the scenario.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// Pods of the lab's helper image, by name; all are Ready before the first step.
    #[serde(default)]
    pub pods: BTreeMap<String, PodSpec>,
    /// What must hold from the first step to the last.
    #[serde(default)]
    pub always: Always,
    /// What is done and expected, in this order.
    pub steps: Vec<Step>,
    /// Faults that the detectors must notice.
    #[serde(default)]
    pub controls: Vec<Control>,
    /// Done at the end whatever happened, so that the cluster is as before.
    #[serde(default)]
    pub finally: Vec<Step>,
    /// Commands whose output is kept when it fails, besides what is always collected.
    #[serde(default)]
    pub on_failure: Vec<Exec>,
}

/// What a cluster must be able to do.
#[derive(
    Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Weftnet connects the pods.
    Weftnet,
    /// Pods have IPv4.
    Ipv4,
    /// Pods have IPv6.
    Ipv6,
    /// The scenario may read and change nodes and stop components.
    NodeExec,
    /// There is a namespace that plays the outside world.
    Outside,
    /// Weftnet serves Services.
    Services,
    /// Weftnet serves DNS.
    Dns,
}

/// In which set a scenario is.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Always run.
    #[default]
    Short,
    /// Run with `--full` alone.
    Full,
}

/// The cluster that a scenario needs. What is not said may be anything.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// At least so many nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u8>,
    /// Exactly these families.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<IpFamily>,
    /// Exactly so many L2 segments, over which the nodes are spread in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u8>,
    /// Who serves Services: `none` is Weftnet itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<KubeProxy>,
    /// Whether there is a cluster DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<bool>,
    /// A lab made for this scenario alone, because it leaves the cluster changed.
    #[serde(default)]
    pub own: bool,
}

/// Whether kube-proxy runs, and how.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum KubeProxy {
    /// It does not.
    None,
    /// With nf_tables.
    Nftables,
    /// With iptables.
    Iptables,
}

impl KubeProxy {
    /// As a lab's option.
    pub fn mode(self) -> Option<ProxyMode> {
        match self {
            Self::None => None,
            Self::Nftables => Some(ProxyMode::Nftables),
            Self::Iptables => Some(ProxyMode::Iptables),
        }
    }
}

/// Address families.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both.
    Dual,
}

/// One family, where a step is about packets.
#[derive(
    Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Is the address of this family?
    pub fn matches(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::Ipv4)
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// A pod of the lab's helper image.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// The number of its node, from 1. Absent: the scheduler chooses.
    #[serde(default)]
    pub node: Option<usize>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Arguments of weft-probe per container. Default: one container `main` with `serve`.
    #[serde(default)]
    pub containers: BTreeMap<String, Vec<String>>,
    /// Use the node's network.
    #[serde(default)]
    pub host_network: bool,
    /// Not made at the beginning but by a step `create`.
    #[serde(default)]
    pub later: bool,
    /// Do not wait until it is Ready: the scenario expects that it is not.
    #[serde(default)]
    pub unready: bool,
}

/// What must hold from the first step to the last.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Always {
    /// Numbered packets that flow all the time.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// Connections that are opened, and held open, all the time.
    #[serde(default)]
    pub dials: Vec<Dial>,
    /// DNS questions that are asked all the time; each must be answered, at the second attempt at the latest.
    #[serde(default)]
    pub questions: Vec<Questions>,
    /// No two pods of the cluster have an address in common: asked of the API and of each pod's own interfaces.
    #[serde(default = "yes")]
    pub unique_addresses: bool,
    /// Nodes that must never stop being Ready, by number; 0 is all.
    #[serde(default)]
    pub ready_nodes: Vec<usize>,
    /// Services of the scenario's namespace whose ready endpoints must never become fewer.
    #[serde(default)]
    pub endpoints: BTreeMap<String, usize>,
}

fn yes() -> bool {
    true
}

/// Numbered packets.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flow {
    /// Who sends: a pod, `node/1`, or `outside`.
    pub from: String,
    /// Who receives.
    pub to: String,
    /// Send to this Service (`service/NAME`) that leads to the receiver; it must have UDP ports from
    /// 9001 on, one for each family of each flow before.
    #[serde(default)]
    pub via: Option<String>,
    /// Packets per second.
    #[serde(default = "rate")]
    pub rate: u32,
    /// How many packets may be lost.
    #[serde(default)]
    pub allowed_loss: u64,
    /// Not one packet may arrive.
    #[serde(default)]
    pub denied: bool,
    /// Families; default: all that the cluster has.
    #[serde(default)]
    pub families: Vec<Family>,
    /// For a step: how many packets. A flow of `always` goes on until the end.
    #[serde(default = "packets")]
    pub packets: Count,
    /// Numbers that the sender leaves out, for a control.
    #[serde(default)]
    pub skip: String,
}

fn rate() -> u32 {
    1000
}

fn packets() -> Count {
    Count::Same(500)
}

/// One thing that is done or expected.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Apply objects (server-side apply).
    Apply(Vec<Value>),
    /// Change an object by a merge patch (RFC 7386); it is not deleted afterwards.
    Patch(PatchSpec),
    /// Objects that the API server must refuse, with a message.
    Refused(Refused),
    /// Delete a pod of the scenario or an object, and wait until it is gone.
    Delete(Target),
    /// Make a pod of the scenario (again) and wait until it is Ready.
    Create(Create),
    /// An object of the API is as expected, or becomes so in time.
    Expect(Expect),
    /// An Event was written since the scenario began.
    Event(EventSpec),
    /// Ask a server.
    Connect(Connect),
    /// Open many connections to a Service.
    Dial(Dial),
    /// Ask a DNS server a number of questions.
    Questions(Questions),
    /// A truth table of who reaches whom.
    Reach(Reach),
    /// Begin a connection that goes on.
    Talk(Talk),
    /// Such connections go on, or nothing of them comes through any more.
    Hears(Hears),
    /// A pod is sent to from before it exists.
    FirstInstant(FirstInstant),
    /// Run a program in the network of a pod, a node or the outside world.
    Exec(Exec),
    /// Processes run on a node, or have ended.
    Processes(Processes),
    /// Send a number of packets and count them at the other end.
    Probe(Flow),
    /// Send forged frames and count them where they must not, or must, arrive.
    Spoof(Spoof),
    /// No two pods have an address in common, now.
    UniqueAddresses(Empty),
    /// Break something.
    Fault(Fault),
    /// ADD and DEL of made-up sandboxes while the agent is killed.
    Churn(Churn),
    /// Do nothing for a while.
    Wait(Pause),
    /// Several times the same.
    Repeat(Repeat),
}

/// Nothing to say.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A change of an object.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchSpec {
    /// The object.
    pub object: ObjectRef,
    /// What changes; `null` removes.
    pub patch: Value,
}

/// An object that must be refused.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refused {
    /// The object.
    pub object: Value,
    /// A part of the message.
    pub message: String,
}

/// What to delete: a pod of the scenario, or any object.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// A pod of the scenario.
    #[serde(default)]
    pub pod: Option<String>,
    /// An object.
    #[serde(default)]
    pub object: Option<ObjectRef>,
}

/// Which pods to make.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Create {
    /// A pod of the scenario.
    pub pod: String,
    /// So many of it, as `NAME-1`, `NAME-2`, …
    #[serde(default)]
    pub count: Option<Count>,
}

/// Names an object.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `DaemonSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; absent: the scenario's own.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// An object is as expected, or becomes so in time.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// The object.
    pub object: ObjectRef,
    /// A part of it: maps by key, each element of a list matches some element; a text that begins
    /// with `~` is contained in the object's text.
    #[serde(default)]
    pub matches: Value,
    /// It is not there.
    #[serde(default)]
    pub absent: bool,
    /// How long it may take.
    #[serde(default = "within")]
    pub within: String,
    /// So long without a break, within the limit; with `within: 0s` the first break fails.
    #[serde(default)]
    pub steadily: Option<String>,
}

/// An Event was written since the scenario began.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventSpec {
    /// Its reason, if that matters.
    #[serde(default)]
    pub reason: Option<String>,
    /// Kind and name of the object that it is about, such as `Node/node-1`.
    #[serde(default)]
    pub about: Option<String>,
    /// A part of the message.
    #[serde(default)]
    pub message: String,
    /// How long it may take.
    #[serde(default = "within")]
    pub within: String,
}

fn within() -> String {
    "20s".to_owned()
}

/// Ask a server.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connect {
    /// Who asks: a pod, `POD/CONTAINER`, `node/1`, or `outside`.
    pub from: String,
    /// Who is asked: the same, `localhost`, an address, `service/NAME` or `balancer/NAME`.
    pub to: String,
    /// Port; default 8080 for HTTP, else 7070.
    #[serde(default)]
    pub port: Option<u16>,
    /// How; default HTTP.
    #[serde(default)]
    pub protocol: Protocol,
    /// Families; default: all that the cluster has.
    #[serde(default)]
    pub families: Vec<Family>,
    /// How it must end; default: answered.
    #[serde(default = "answered")]
    pub ends: Ending,
    /// Which source address the receiver must see: `own` (an address of the sender), a pod, or `node/1`.
    #[serde(default)]
    pub seen_as: Option<String>,
    /// Who must have answered: the host name of a pod.
    #[serde(default)]
    pub answered_by: Option<String>,
    /// How long it may take until it ends as expected.
    #[serde(default = "within")]
    pub within: String,
    /// How long one try may take.
    #[serde(default = "timeout")]
    pub timeout: String,
    /// So many tries in a row must end as expected.
    #[serde(default = "once")]
    pub times: u32,
}

fn answered() -> Ending {
    Ending::Answered
}

fn timeout() -> String {
    "2s".to_owned()
}

fn once() -> u32 {
    1
}

/// Run a program of the lab's machine in the network of a pod, or a program in a node.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exec {
    /// A pod, `POD/CONTAINER`, `node/1`, `outside`, or `machine`.
    #[serde(rename = "in")]
    pub place: String,
    /// Program and arguments, with `${…}`.
    pub command: Vec<String>,
    /// Its exit code; `null` in the file: any.
    #[serde(default = "zero")]
    pub exit: Option<i32>,
    /// Standard output or standard error contains each of these.
    #[serde(default)]
    pub contains: Vec<String>,
    /// And none of these.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// How long it may take until all this is so; default: it is tried once.
    #[serde(default)]
    pub within: Option<String>,
    /// Only where the cluster has this family.
    #[serde(default)]
    pub family: Option<Family>,
    /// Keep the trimmed output under this name, for `${kept.NAME}`.
    #[serde(default)]
    pub keep: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn zero() -> Option<i32> {
    Some(0)
}

/// Processes of a node.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Processes {
    /// The node's number; 0 is every one.
    pub node: usize,
    /// Name of the program, and leading arguments, such as `weft-agent work`.
    pub process: String,
    /// They have ended.
    #[serde(default)]
    pub absent: bool,
    /// How long it may take.
    #[serde(default = "within")]
    pub within: String,
}

/// Forged frames.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spoof {
    /// The pod that forges.
    pub from: String,
    /// What: `udp`, `arp-request`, `arp-reply`, `ns`, `na`, `ra`.
    pub kind: String,
    /// In whose name: an address, with `${…}`.
    pub claim: String,
    /// To whom: an address and port, with `${…}`.
    pub to: String,
    /// Where frames are counted: pods, `node/1`, `outside`.
    pub watch: Vec<String>,
    /// The interface there; default `eth0`.
    #[serde(default)]
    pub interface: Option<String>,
    /// Only where the cluster has this family.
    #[serde(default)]
    pub family: Option<Family>,
    /// Whether they arrive there.
    pub arrives: Arrives,
    /// How many are sent.
    #[serde(default = "ten")]
    pub count: u32,
}

fn ten() -> u32 {
    10
}

/// Whether frames arrive.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Arrives {
    /// Not one.
    None,
    /// All.
    All,
}

/// Something is broken on purpose.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// Send a signal to processes of a node.
    Signal(Signal),
    /// Stop the API server, or start it again: `stop` or `start`.
    ApiServer(Switch),
}

/// Which way.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Stop it.
    Stop,
    /// Start it.
    Start,
}

/// A signal to processes of a node.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signal {
    /// The node's number, or 0 for all.
    pub node: usize,
    /// Name of the program, and leading arguments, such as `weft-agent work`.
    pub process: String,
    /// `KILL`, `TERM`, `STOP`, `CONT`.
    #[serde(default = "kill")]
    pub signal: String,
}

fn kill() -> String {
    "KILL".to_owned()
}

/// Several times the same.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repeat {
    /// How often.
    pub times: Count,
    /// What.
    pub steps: Vec<Step>,
}

/// A fault that a detector must notice.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Control {
    /// A sentence.
    pub name: String,
    /// What is injected; these steps must succeed.
    #[serde(default)]
    pub inject: Vec<Step>,
    /// The detectors: one of these steps must fail.
    pub detect: Vec<Step>,
    /// A part of what the failing step must say.
    pub notices: String,
    /// Undoes what was injected.
    #[serde(default)]
    pub heal: Vec<Step>,
}

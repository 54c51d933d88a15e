//! The cluster under a scenario: its client, its nodes and places, and what it is able to do.
//!
//! Programs run in a pod by entering the network namespace of one of its processes, which the node's
//! cgroups name by pod UID and container id. That takes a few milliseconds, brings the machine's own
//! tools (`ip`, `nft`) to pods whose image has none, and works while the API server and the kubelet
//! are down, where `kubectl exec` does not.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::model::{Capability, IpFamily, Switch, Topology};
use super::pods::PodFacts;
use crate::address::{Addresses, Families};
use crate::cluster::Cluster;
use crate::place::spawn::{Entry, View, spawn};
use crate::place::{FoundProcess, Place};
use crate::state::{Cni, NodeRecord, Options};

/// A cluster that scenarios run on.
#[derive(Clone)]
pub struct Lab {
    cluster: Cluster,
    options: Options,
    /// Talks to its API server.
    pub client: kube::Client,
    /// Its nodes in the order of their numbers.
    pub nodes: Vec<Node>,
    outside: Place,
    switch: Place,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name and addresses.
    pub record: NodeRecord,
    /// Its namespaces.
    pub place: Place,
}

/// Where a program runs.
#[derive(Debug)]
pub enum Spot<'a> {
    /// In all of a place's namespaces.
    Place(&'a Place),
    /// In the network namespace of a process of a place.
    Network(&'a Place, i32),
    /// On the machine.
    Machine,
}

impl Lab {
    /// Takes a running cluster.
    ///
    /// # Errors
    /// When a node or the API server is not there.
    pub async fn open(cluster: Cluster) -> Result<Self> {
        let client = cluster.client().await?;
        let state = cluster.state();
        if !state.complete {
            bail!(
                "lab {0} is half made: take it down and make it anew (weft-lab down --name {0})",
                state.name
            );
        }
        let mut nodes = Vec::new();
        for record in state.nodes.values() {
            let place = cluster.place(&record.name)?;
            nodes.push(Node {
                record: record.clone(),
                place,
            });
        }
        let (outside, switch) = (cluster.outside()?, cluster.switch()?);
        Ok(Self {
            client,
            nodes,
            outside,
            switch,
            options: state.options,
            cluster,
        })
    }

    /// What this cluster was asked to be.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The lab's handle.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Why a scenario cannot run here; `None` when it can.
    pub fn lacks(&self, topology: &Topology, requires: &[Capability]) -> Option<String> {
        let options = self.options();
        let own = match options.families {
            Families::Ipv4 => IpFamily::Ipv4,
            Families::Ipv6 => IpFamily::Ipv6,
            Families::Dual => IpFamily::Dual,
        };
        let nodes = topology
            .nodes
            .filter(|nodes| usize::from(*nodes) > self.nodes.len());
        let nodes =
            nodes.map(|nodes| format!("it needs {nodes} nodes and there are {}", self.nodes.len()));
        let family = topology.ip_family.filter(|family| *family != own);
        let family =
            family.map(|family| format!("it needs ipFamily {family:?} and the lab has {own:?}"));
        let segments = topology
            .segments
            .filter(|segments| *segments != options.segments);
        let segments = segments.map(|wanted| {
            format!(
                "it needs {wanted} segments and there are {}",
                options.segments
            )
        });
        let proxy = topology
            .kube_proxy
            .filter(|proxy| proxy.mode() != options.kube_proxy);
        let proxy = proxy.map(|wanted| {
            format!(
                "it needs kube-proxy {wanted:?} and the lab has {:?}",
                options.kube_proxy
            )
        });
        let dns = topology
            .dns
            .filter(|dns| *dns != (options.coredns || options.weft_dns));
        let dns = dns.map(|wanted| format!("it needs cluster DNS: {wanted}"));
        nodes
            .or(family)
            .or(proxy)
            .or(dns)
            .or(segments)
            .or_else(|| self.missing(requires))
    }

    /// Which capability is missing.
    pub fn missing(&self, requires: &[Capability]) -> Option<String> {
        let options = self.options();
        requires.iter().find_map(|capability| match capability {
            Capability::Weftnet => (options.cni != Cni::Weftnet).then(|| {
                format!(
                    "it is about Weftnet, and {:?} connects the pods",
                    options.cni
                )
            }),
            Capability::Ipv4 => {
                (!options.families.has_ipv4()).then(|| "pods have no IPv4".to_owned())
            }
            Capability::Ipv6 => {
                (!options.families.has_ipv6()).then(|| "pods have no IPv6".to_owned())
            }
            Capability::Services => options.kube_proxy.map(|mode| {
                format!("it is about Weftnet's services, and kube-proxy ({mode:?}) runs")
            }),
            Capability::Dns => (!options.weft_dns)
                .then(|| "it is about Weftnet's DNS, which is not here".to_owned()),
            Capability::NodeExec | Capability::Outside => None,
        })
    }

    /// Node `number`, from 1.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn node(&self, number: usize) -> Result<&Node> {
        let node = number
            .checked_sub(1)
            .and_then(|index| self.nodes.get(index));
        node.ok_or_else(|| {
            anyhow!(
                "there is no node {number}: the lab has {} nodes, numbered from 1",
                self.nodes.len()
            )
        })
    }

    /// The outside world's addresses.
    pub fn outside_addresses(&self) -> Addresses {
        self.cluster.state().plan().outside()
    }

    /// The namespace of the bridges and the router.
    pub fn switch(&self) -> &Place {
        &self.switch
    }

    /// The namespace of the outside world.
    pub fn outside(&self) -> Spot<'_> {
        Spot::Network(&self.outside, self.outside.pid())
    }

    /// The network of a pod's container.
    ///
    /// # Errors
    /// When none of its processes is found.
    pub fn container(&self, pod: &PodFacts, container: Option<&str>) -> Result<Spot<'_>> {
        let node = self.nodes.iter().find(|node| node.record.name == pod.node);
        let node = node.with_context(|| {
            format!(
                "pod {} is on node {:?}, which the lab does not have",
                pod.name, pod.node
            )
        })?;
        let id = match container {
            Some(name) => pod.containers.get(name).with_context(|| {
                format!(
                    "pod {} has no running container {name}; it has {:?}",
                    pod.name,
                    pod.containers.keys()
                )
            })?,
            None => pod
                .containers
                .values()
                .next()
                .with_context(|| format!("pod {} has no running container", pod.name))?,
        };
        let pids = node.place.cgroups().processes();
        let found = pids.into_iter().find(|pid| in_container(*pid, id));
        let pid = found
            .with_context(|| format!("no process of pod {} was found on {}", pod.name, pod.node))?;
        Ok(Spot::Network(&node.place, pid))
    }

    /// Processes of node `number` whose program and first arguments are these words.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn processes(&self, number: usize, words: &str) -> Result<Vec<FoundProcess>> {
        let mut words = words.split_whitespace();
        let program = words.next().unwrap_or_default();
        let arguments: Vec<&str> = words.collect();
        let mut found = self.node(number)?.place.processes(program);
        found.retain(|process| {
            let own = process.arguments.iter().skip(1).map(String::as_str);
            own.take(arguments.len()).eq(arguments.iter().copied())
        });
        Ok(found)
    }

    /// Stops or starts the API server.
    ///
    /// # Errors
    /// When it does not end or begin.
    pub async fn api_server(&self, switch: Switch) -> Result<()> {
        let cluster = self.cluster.clone();
        let switched = tokio::task::spawn_blocking(move || match switch {
            Switch::Stop => cluster.stop_api_server(),
            Switch::Start => cluster.start_api_server(),
        });
        switched.await??;
        if switch == Switch::Start {
            crate::api::wait_until_ready(&self.client, || true).await?;
        }
        Ok(())
    }
}

fn in_container(pid: i32, id: &str) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    text.is_ok_and(|text| text.contains(id))
}

/// The helper program beside this one, for use in namespaces.
///
/// # Errors
/// When it was not built.
pub fn probe_program() -> Result<PathBuf> {
    let own = crate::place::own_program()?;
    let program = own.with_file_name("weft-probe");
    if program.exists() {
        return Ok(program);
    }
    bail!(
        "{} is missing: build it with `cargo build -p weft-lab`",
        program.display()
    )
}

/// Starts a program with its output piped.
///
/// # Errors
/// When it cannot be started there.
pub fn start(spot: &Spot<'_>, argv: &[String]) -> Result<Child> {
    let (program, arguments) = argv.split_first().context("the command is empty")?;
    let mut command = match spot {
        Spot::Place(place) => place.command(argv)?,
        Spot::Network(..) | Spot::Machine => {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = match spot {
        Spot::Place(place) => return place.spawn(command),
        Spot::Network(place, pid) => {
            let entry = Entry::open(*pid, View::Network, place.cgroups())
                .with_context(|| format!("failed to enter the network of process {pid}"))?;
            spawn(&entry, command, true)
        }
        Spot::Machine => command.spawn(),
    };
    child.with_context(|| format!("failed to start {program}"))
}

/// Runs a program to its end, or kills it when the time is up.
///
/// # Errors
/// When it cannot be started there or does not end.
pub async fn output(spot: &Spot<'_>, argv: &[String], limit: Duration) -> Result<Output> {
    let child = start(spot, argv)?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let mut waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = tokio::time::timeout(limit, &mut waiting).await;
    if ended.is_err() {
        // Not collected yet, so the number is still this child's.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waiting.await;
        bail!(
            "{} did not end within {} s",
            argv.join(" "),
            limit.as_secs()
        );
    }
    Ok(ended.context("time is up")???)
}

//! Packets between pods against a bare veth pair: latency of requests, CPU time of bulk data; pods of
//! the same node, of two nodes, and of two nodes over VXLAN against the nodes themselves. Each round
//! measures every path once, so that what slows the machine slows all. Both ends are on one CPU.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::measure::Measure;
use super::ours;
use super::rig::Rig;
use super::sample::{Sample, Statistic};
use crate::probe::pingpong::Measured;
use crate::progress::Progress;
use crate::scenario::lab::{Spot, output, probe_program};
use crate::scenario::model::PodSpec;
use crate::scenario::pods::{self, PodFacts};
use crate::scenario::process::Process;
use crate::scenario::{objects, wait};

/// The namespace of the benchmark's pods.
const NAMESPACE: &str = "lab-bench";
const OVERLAY: &str = "bench-vxlan";
const PORT: u16 = 9100;
/// Both ends and all that lies between them run here: which CPU wakes which is chance, and costs more
/// than the paths differ by.
const CPU: usize = 1;

/// A way from a client to a server.
struct Path<'a> {
    name: &'static str,
    client: Spot<'a>,
    prefix: Vec<String>,
    to: String,
}

/// Measures.
///
/// # Errors
/// When a path does not carry packets.
pub fn run(rig: &Rig, rounds: usize, progress: &Progress) -> Result<Vec<Measure>> {
    let mut measures = ours::run(rig, progress)?;
    let pods = make_pods(rig)?;
    bare_veth(rig, "add")?;
    let measured = packets(rig, &pods, rounds, progress);
    bare_veth(rig, "del")?;
    clean(rig)?;
    measures.extend(measured?);
    Ok(measures)
}

fn packets(
    rig: &Rig,
    pods: &BTreeMap<String, PodFacts>,
    rounds: usize,
    progress: &Progress,
) -> Result<Vec<Measure>> {
    let mut servers = Vec::new();
    for name in ["near", "far", "far-vxlan"] {
        servers.push(serve(rig, &rig.lab.container(&pods[name], None)?, &[])?);
    }
    servers.push(serve(rig, &Spot::Place(rig.node(2)?), &[])?);
    servers.push(serve(
        rig,
        &Spot::Place(rig.node(1)?),
        &in_netns("lab-bare-b"),
    )?);
    let paths = paths(rig, pods)?;
    let mut latency: BTreeMap<&str, Sample> = BTreeMap::new();
    let mut cpu: BTreeMap<&str, Sample> = BTreeMap::new();
    for round in 0..=rounds {
        progress.note(&format!("round {round} of {rounds}"));
        for path in &paths {
            let requests = ask(rig, path, "tcp", "700ms")?;
            let bulk = ask(rig, path, "bulk", "700ms")?;
            // The first round fills caches and connection tracking.
            if round > 0 {
                latency.entry(path.name).or_default().push(requests.p50_us);
                let per_gigabyte = bulk.machine_cpu_seconds / (bulk.bytes as f64 / 1e9);
                cpu.entry(path.name).or_default().push(per_gigabyte);
            }
        }
    }
    drop(servers);
    Ok(measures(&latency, &cpu))
}

fn measures(latency: &BTreeMap<&str, Sample>, cpu: &BTreeMap<&str, Sample>) -> Vec<Measure> {
    let ratio =
        |name: &str, unit: &str, from: &BTreeMap<&str, Sample>, ours: &str, peer: &str, goal| {
            let program = if peer == "bare" {
                "a bare veth"
            } else {
                "node to node"
            };
            Measure::ratio(
                name,
                unit,
                (&from[ours], &from[peer]),
                (program, "Linux"),
                Statistic::Median,
                goal,
            )
        };
    vec![
        ratio(
            "requests, same node",
            "us",
            latency,
            "same",
            "bare",
            Some(1.35),
        ),
        ratio(
            "requests, two nodes",
            "us",
            latency,
            "cross",
            "bare",
            Some(1.6),
        ),
        ratio(
            "requests, two nodes, VXLAN",
            "us",
            latency,
            "vxlan",
            "nodes",
            None,
        ),
        ratio(
            "bulk data, same node",
            "CPU s/GB",
            cpu,
            "same",
            "bare",
            Some(1.10),
        ),
        // The bare veth has neither the second pair nor the switch between two nodes.
        ratio(
            "bulk data, two nodes",
            "CPU s/GB",
            cpu,
            "cross",
            "nodes",
            Some(1.10),
        ),
        ratio(
            "bulk data, two nodes",
            "CPU s/GB",
            cpu,
            "cross",
            "bare",
            None,
        ),
        ratio(
            "bulk data, two nodes, VXLAN",
            "CPU s/GB",
            cpu,
            "vxlan",
            "nodes",
            Some(1.25),
        ),
    ]
}

fn paths<'a>(rig: &'a Rig, pods: &BTreeMap<String, PodFacts>) -> Result<Vec<Path<'a>>> {
    let pod = |name: &str| rig.lab.container(&pods[name], None);
    let to = |name: &str| -> Result<String> {
        let address = pods[name]
            .addresses
            .first()
            .with_context(|| format!("pod {name} has no address"))?;
        Ok(std::net::SocketAddr::new(*address, PORT).to_string())
    };
    let node = rig.lab.node(2)?.record.addresses.first();
    Ok(vec![
        Path {
            name: "bare",
            client: Spot::Place(rig.node(1)?),
            prefix: in_netns("lab-bare-a"),
            to: format!("10.98.0.2:{PORT}"),
        },
        Path {
            name: "same",
            client: pod("client")?,
            prefix: Vec::new(),
            to: to("near")?,
        },
        Path {
            name: "cross",
            client: pod("client")?,
            prefix: Vec::new(),
            to: to("far")?,
        },
        Path {
            name: "vxlan",
            client: pod("client-vxlan")?,
            prefix: Vec::new(),
            to: to("far-vxlan")?,
        },
        Path {
            name: "nodes",
            client: Spot::Place(rig.node(1)?),
            prefix: Vec::new(),
            to: std::net::SocketAddr::new(node, PORT).to_string(),
        },
    ])
}

fn in_netns(name: &str) -> Vec<String> {
    ["ip", "netns", "exec", name].map(str::to_owned).to_vec()
}

/// The last of two; the only one of a machine that has no more.
fn cpu() -> usize {
    let all = std::thread::available_parallelism();
    all.map_or(0, |all| CPU.min(all.get() - 1))
}

fn serve(rig: &Rig, spot: &Spot<'_>, prefix: &[String]) -> Result<Process> {
    let mut argv = prefix.to_vec();
    argv.extend([
        probe_program()?.display().to_string(),
        "pingpong".to_owned(),
        "serve".to_owned(),
        format!("--port={PORT}"),
        format!("--cpu={}", cpu()),
    ]);
    let process = Process::start(spot, &argv)?;
    rig.runtime.block_on(process.ready(Duration::from_secs(10)))
}

fn ask(rig: &Rig, path: &Path<'_>, mode: &str, time: &str) -> Result<Measured> {
    let mut argv = path.prefix.clone();
    argv.extend([
        probe_program()?.display().to_string(),
        "pingpong".to_owned(),
        "run".to_owned(),
    ]);
    argv.extend([
        format!("--mode={mode}"),
        format!("--for={time}"),
        format!("--cpu={}", cpu()),
        path.to.clone(),
    ]);
    let output = rig
        .runtime
        .block_on(output(&path.client, &argv, Duration::from_secs(30)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} to {}: {}",
            path.name,
            path.to,
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })
}

/// Two namespaces of node 1 with nothing but a veth pair between them.
fn bare_veth(rig: &Rig, verb: &str) -> Result<()> {
    let script = match verb {
        "add" => {
            "set -e; ip netns add lab-bare-a; ip netns add lab-bare-b
             ip link add eth0 netns lab-bare-a type veth peer name eth0 netns lab-bare-b
             ip -n lab-bare-a address add 10.98.0.1/24 dev eth0; ip -n lab-bare-b address add 10.98.0.2/24 dev eth0
             for side in a b; do ip -n lab-bare-$side link set lo up; ip -n lab-bare-$side link set eth0 up; done"
        }
        _ => "ip netns del lab-bare-a; ip netns del lab-bare-b",
    };
    rig.node(1)?.text(&["sh", "-c", script])?;
    Ok(())
}

fn make_pods(rig: &Rig) -> Result<BTreeMap<String, PodFacts>> {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let overlay = json!({"apiVersion": "weftnet.dev/v1alpha1", "kind": "Overlay", "metadata": {"name": OVERLAY},
        "spec": {"mode": "VXLAN", "vxlan": {"vni": 4300, "port": 4900}}});
    let pool = json!({"apiVersion": "weftnet.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": OVERLAY},
        "spec": {"cidrs": [{"cidr": "10.69.0.0/16"}, {"cidr": "fd00:69::/64"}], "priority": 1000, "overlayRef": {"name": OVERLAY}}});
    let plain = vec![("client", 1), ("near", 1), ("far", 2)];
    let encapsulated = vec![("client-vxlan", 1), ("far-vxlan", 2)];
    rig.runtime.block_on(async {
        objects::apply(&rig.lab, NAMESPACE, &namespace).await?;
        let mut all = start(rig, &plain).await?;
        objects::apply(&rig.lab, NAMESPACE, &overlay).await?;
        objects::apply(&rig.lab, NAMESPACE, &pool).await?;
        wait::until(Duration::from_secs(60), async || {
            let reference = serde_json::from_value(
                json!({"apiVersion": "weftnet.dev/v1alpha1", "kind": "IPPool", "name": OVERLAY}),
            )?;
            let found = objects::get(&rig.lab, NAMESPACE, &reference)
                .await?
                .context("the pool is gone")?;
            match found["status"]["summary"]["nodes"].as_u64() {
                Some(nodes) if nodes >= 2 => Ok(()),
                _ => bail!("pool {OVERLAY} has no blocks yet"),
            }
        })
        .await?;
        all.extend(start(rig, &encapsulated).await?);
        Ok(all)
    })
}

async fn start(rig: &Rig, wanted: &[(&str, usize)]) -> Result<BTreeMap<String, PodFacts>> {
    for (name, node) in wanted {
        let spec = PodSpec {
            node: Some(*node),
            ..PodSpec::default()
        };
        pods::create(&rig.lab, NAMESPACE, name, &spec).await?;
    }
    let names: Vec<String> = wanted.iter().map(|(name, _)| (*name).to_owned()).collect();
    let facts = pods::ready(&rig.lab, NAMESPACE, &names, Duration::from_secs(60)).await?;
    Ok(facts
        .into_iter()
        .map(|facts| (facts.name.clone(), facts))
        .collect())
}

fn clean(rig: &Rig) -> Result<()> {
    let reference = |api: &str, kind: &str, name: &str| {
        serde_json::from_value(json!({"apiVersion": api, "kind": kind, "name": name}))
    };
    rig.runtime.block_on(async {
        objects::delete(
            &rig.lab,
            NAMESPACE,
            &reference("v1", "Namespace", NAMESPACE)?,
            true,
        )
        .await?;
        for kind in ["IPPool", "Overlay"] {
            objects::delete(
                &rig.lab,
                NAMESPACE,
                &reference("weftnet.dev/v1alpha1", kind, OVERLAY)?,
                true,
            )
            .await?;
        }
        Ok(())
    })
}

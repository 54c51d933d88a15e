//! CNI ADD, from the start of the plugin to its answer: `weft-cni` with the agent of a running node,
//! against the reference plugins bridge and ptp with host-local, in the same node and in turn.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::inside::{enter, inside};
use super::measure::Measure;
use super::rig::Rig;
use super::sample::{Sample, Statistic};
use crate::place::Place;
use crate::progress::Progress;
use crate::scenario::{objects, wait};

/// How many at once.
const AT_ONCE: usize = 110;
/// The pool of the measured addresses.
const POOL: &str = "bench";

/// A plugin and its configuration.
#[derive(Clone, Debug)]
struct Plugin {
    name: &'static str,
    program: PathBuf,
    config: String,
}

/// Measures.
///
/// # Errors
/// When a plugin fails: no figure is worth anything then.
pub fn run(rig: &Rig, rounds: usize, progress: &Progress) -> Result<Vec<Measure>> {
    make_pool(rig)?;
    let node = rig.node(1)?;
    let plugins = plugins(rig);
    progress.note(&format!("{rounds} times one after another"));
    let one = inside(node, || in_turn(&plugins, rounds))?;
    progress.note(&format!("{AT_ONCE} at once, 5 times"));
    let mut many = vec![Sample::default(); plugins.len()];
    for _ in 0..5 {
        for (plugin, sample) in plugins.iter().zip(&mut many) {
            for value in at_once(node, plugin)? {
                sample.push(value);
            }
        }
    }
    inside(node, || remove_bridges(&plugins))?;
    delete_pool(rig)?;
    Ok(measures(&one, &many))
}

fn measures(one: &[Sample], many: &[Sample]) -> Vec<Measure> {
    let (ours, ours_many) = (&one[0], &many[0]);
    let mut all = vec![
        Measure::alone(
            "ADD one at a time, p50",
            "ms",
            ours,
            Statistic::Median,
            Some(10.0),
        ),
        Measure::alone(
            "ADD one at a time, p99",
            "ms",
            ours,
            Statistic::P99,
            Some(40.0),
        ),
        Measure::alone(
            "ADD 110 at once, p99",
            "ms",
            ours_many,
            Statistic::P99,
            Some(500.0),
        ),
    ];
    for (index, program) in [(1, "bridge"), (2, "ptp")] {
        let against = (program, "CNI plugins, host-local, IPv4 alone");
        for (name, statistic) in [("p50", Statistic::Median), ("p99", Statistic::P99)] {
            let title = format!("ADD one at a time, {name}, to {program}");
            all.push(Measure::ratio(
                &title,
                "ms",
                (ours, &one[index]),
                against,
                statistic,
                None,
            ));
        }
        let title = format!("ADD 110 at once, p99, to {program}");
        all.push(Measure::ratio(
            &title,
            "ms",
            (ours_many, &many[index]),
            against,
            Statistic::P99,
            None,
        ));
    }
    all
}

fn plugins(rig: &Rig) -> [Plugin; 3] {
    let state = rig.lab.cluster().state();
    let ipam = json!({
        "type": "host-local",
        "dataDir": "/run/lab-bench",
        // IPv4 alone: with IPv6 ptp waits two seconds for duplicate address detection, which ours does
        // not need. Ours does both families in the time that is measured.
        "ranges": [[{"subnet": "10.99.0.0/20"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let config = |value: Value| value.to_string();
    [
        Plugin {
            name: "weft-cni",
            program: PathBuf::from("/opt/cni/bin/weft-cni"),
            config: config(json!({"cniVersion": "1.1.0", "name": "weftnet", "type": "weft-cni"})),
        },
        Plugin {
            name: "bridge",
            program: state.programs.path("bridge"),
            config: config(
                json!({"cniVersion": "1.0.0", "name": "lab-bench-bridge", "type": "bridge",
                "bridge": "lab-bench0", "isGateway": true, "ipMasq": false, "ipam": ipam}),
            ),
        },
        Plugin {
            name: "ptp",
            program: state.programs.path("ptp"),
            config: config(
                json!({"cniVersion": "1.0.0", "name": "lab-bench-ptp", "type": "ptp", "ipMasq": false, "ipam": ipam}),
            ),
        },
    ]
}

/// A pool that has enough addresses ready on node 1.
fn make_pool(rig: &Rig) -> Result<()> {
    let node = &rig.lab.node(1)?.record.name;
    let pool = json!({
        "apiVersion": "weftnet.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": POOL},
        "spec": {
            "cidrs": [{"cidr": "10.68.0.0/16"}, {"cidr": "fd00:68::/64"}],
            "priority": 1000, "prealloc": 128, "cooldown": "1s",
            "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": node}},
        }
    });
    rig.runtime.block_on(async {
        objects::apply(&rig.lab, "default", &pool).await?;
        let report = serde_json::from_value(json!({
            "apiVersion": "weftnet.dev/v1alpha1", "kind": "NodeReport", "name": node
        }))?;
        wait::until(Duration::from_secs(60), async || {
            let found = objects::get(&rig.lab, "default", &report)
                .await?
                .context("there is no NodeReport yet")?;
            let pools = found["spec"]["pools"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let enough = pools
                .iter()
                .filter(|pool| pool["pool"] == POOL && pool["free"].as_u64() >= Some(128));
            if enough.count() == 2 {
                Ok(())
            } else {
                bail!("pool {POOL} has not 128 free addresses on {node}: {pools:?}")
            }
        })
        .await
    })
}

fn delete_pool(rig: &Rig) -> Result<()> {
    let reference = serde_json::from_value(json!({
        "apiVersion": "weftnet.dev/v1alpha1", "kind": "IPPool", "name": POOL
    }))?;
    rig.runtime
        .block_on(objects::delete(&rig.lab, "default", &reference, false))
}

fn in_turn(plugins: &[Plugin], rounds: usize) -> Result<Vec<Sample>> {
    let mut samples = vec![Sample::default(); plugins.len()];
    for round in 0..rounds + 5 {
        for (plugin, sample) in plugins.iter().zip(&mut samples) {
            let sandbox = Sandbox::make(&format!("lab-bench-{round}"))?;
            let milliseconds = call(plugin, "ADD", &sandbox.0)?;
            call(plugin, "DEL", &sandbox.0)?;
            // The first few fill caches.
            if round >= 5 {
                sample.push(milliseconds);
            }
        }
    }
    Ok(samples)
}

fn at_once(node: &Place, plugin: &Plugin) -> Result<Vec<f64>> {
    let sandboxes = inside(node, || {
        (0..AT_ONCE)
            .map(|n| Sandbox::make(&format!("lab-bench-{n}")))
            .collect::<Result<Vec<_>>>()
    })?;
    let (barrier, pid) = (Barrier::new(AT_ONCE), node.pid());
    let results: Vec<Result<f64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = sandboxes
            .iter()
            .map(|sandbox| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let entered = enter(pid);
                    barrier.wait();
                    entered?;
                    call(plugin, "ADD", &sandbox.0)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
            .collect()
    });
    inside(node, || {
        for sandbox in &sandboxes {
            call(plugin, "DEL", &sandbox.0)?;
        }
        drop(sandboxes);
        Ok(())
    })?;
    // Addresses rest for a second before they are used again.
    std::thread::sleep(Duration::from_millis(1500));
    results.into_iter().collect()
}

/// Calls a plugin as a runtime does; milliseconds from its start to its end.
fn call(plugin: &Plugin, verb: &str, sandbox: &str) -> Result<f64> {
    let uid = uid(sandbox);
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={sandbox};K8S_POD_INFRA_CONTAINER_ID={sandbox};K8S_POD_UID={uid}"
    );
    let folder = plugin.program.parent().unwrap_or(Path::new("/opt/cni/bin"));
    let mut command = Command::new(&plugin.program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", sandbox)
        .env("CNI_NETNS", format!("/var/run/netns/{sandbox}"))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", folder)
        .env("CNI_ARGS", arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("failed to start {}", plugin.program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(plugin.config.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        bail!("{} {verb} failed: {}", plugin.name, words.trim());
    }
    Ok(milliseconds)
}

/// A pod UID made from a name, so that DEL names the same pod as ADD.
fn uid(sandbox: &str) -> String {
    let sum = sandbox.bytes().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    format!("00000000-0000-4000-8000-{:012x}", sum & 0xffff_ffff_ffff)
}

fn remove_bridges(plugins: &[Plugin]) -> Result<()> {
    let found = plugins.iter().any(|plugin| plugin.name == "bridge");
    if found {
        ip(&["link", "del", "lab-bench0"])?;
    }
    std::fs::remove_dir_all("/run/lab-bench").context("failed to remove /run/lab-bench")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("failed to start ip")?;
    crate::place::succeeded(&output, &format!("ip {}", arguments.join(" ")))
}

/// A network namespace by name, removed when dropped (on a thread in the node).
#[derive(Debug)]
struct Sandbox(String);

impl Sandbox {
    fn make(name: &str) -> Result<Self> {
        if ip(&["netns", "add", name]).is_err() {
            // One that an earlier, broken run left.
            ip(&["netns", "del", name])?;
            ip(&["netns", "add", name])?;
        }
        Ok(Self(name.to_owned()))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Fails where it is gone already.
        let _ = ip(&["netns", "del", &self.0]);
    }
}

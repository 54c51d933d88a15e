//! `firstInstant`: a pod is sent to from before it exists, and what reached its network from the first
//! instant on is read from its own counters.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, ResourceExt};

use super::READY;
use crate::scenario::lab::{self, probe_program};
use crate::scenario::model::{Arrives, FirstInstant};
use crate::scenario::process::Process;
use crate::scenario::stage::Stage;
use crate::scenario::{pods, spot};

pub(super) async fn run(stage: &mut Stage<'_>, what: &FirstInstant) -> Result<()> {
    let spec = stage
        .scenario
        .pods
        .get(&what.pod)
        .with_context(|| format!("there is no pod {}", what.pod))?;
    let number = spec.node.context("the pod needs a node")?;
    let node = stage.lab.node(number)?.record.name.clone();
    let mut argv = vec![probe_program()?.display().to_string(), "spray".to_owned()];
    argv.extend(blocks(stage, &node).await?);
    for _ in 0..what.times.get(stage.is_full) {
        let from = spot::network(stage.lab, &stage.pods, &what.from)?;
        let sender = Process::start(&from, &argv)?
            .ready(Duration::from_secs(10))
            .await?;
        let names = [what.pod.clone()];
        pods::create(stage.lab, &stage.namespace, &what.pod, spec).await?;
        let facts = pods::ready(stage.lab, &stage.namespace, &names, READY).await?;
        stage
            .pods
            .extend(facts.into_iter().map(|facts| (facts.name.clone(), facts)));
        // It is there for a while, and is sent to meanwhile.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let arrived = datagrams(stage, &what.pod).await?;
        let lines = sender.stop(Duration::from_secs(10)).await?;
        let sent: crate::probe::spray::Sprayed =
            serde_json::from_str(lines.last().context("the sender printed nothing")?)?;
        pods::delete(stage.lab, &stage.namespace, &names).await?;
        stage.pods.remove(&what.pod);
        stage.tally.packets += sent.rounds;
        match what.arrives {
            Arrives::None if arrived > 0 => bail!(
                "{arrived} datagrams reached {} of {} that were sent to its address",
                what.pod,
                sent.rounds
            ),
            Arrives::All if arrived == 0 => {
                bail!("no datagram of {} reached {}", sent.rounds, what.pod)
            }
            Arrives::None | Arrives::All => {}
        }
    }
    Ok(())
}

/// Networks from which pods of a node get their addresses.
async fn blocks(stage: &Stage<'_>, node: &str) -> Result<Vec<String>> {
    let kind = GroupVersionKind::gvk("weftnet.dev", "v1alpha1", "IPBlock");
    let kind = ApiResource::from_gvk_with_plural(&kind, "ipblocks");
    let all = Api::<DynamicObject>::all_with(stage.lab.client.clone(), &kind);
    let mut own = Vec::new();
    for block in all.list(&ListParams::default()).await? {
        let spec = &block.data["spec"];
        if spec["node"] == node {
            let cidr = spec["cidr"].as_str();
            let cidr = cidr.with_context(|| format!("{} has no network", block.name_any()))?;
            own.push(cidr.to_owned());
        }
    }
    if own.is_empty() {
        bail!("node {node} has no blocks");
    }
    Ok(own)
}

/// UDP datagrams that came to a pod's network since it exists, whether anybody waited for them or not.
async fn datagrams(stage: &Stage<'_>, pod: &str) -> Result<u64> {
    let spot = spot::network(stage.lab, &stage.pods, pod)?;
    let argv = ["cat", "/proc/net/snmp", "/proc/net/snmp6"].map(str::to_owned);
    let output = lab::output(&spot, &argv, Duration::from_secs(10)).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    count(&text).with_context(|| format!("no counters of UDP in {text:?}"))
}

fn count(text: &str) -> Option<u64> {
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (rows.next()?, rows.next()?);
    let mut v4 = names.split_whitespace().zip(values.split_whitespace());
    let mut total = 0;
    let wanted = ["InDatagrams", "NoPorts"];
    for (name, value) in v4.by_ref() {
        if wanted.contains(&name) {
            total += value.parse::<u64>().ok()?;
        }
    }
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("Udp6InDatagrams" | "Udp6NoPorts"), Some(value)) = (words.next(), words.next())
        {
            total += value.parse::<u64>().ok()?;
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_both_families_are_counted_with_and_without_a_receiver() {
        let text = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts InErrors\nUdp: 3 4 9\n\
                    UdpLite: InDatagrams NoPorts\nUdpLite: 7 7\nUdp6InDatagrams 10\nUdp6NoPorts 20\n";
        assert_eq!(count(text), Some(37));
        assert_eq!(count("Ip: x\n"), None);
    }
}

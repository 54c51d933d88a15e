//! Labs made beside the given one for scenarios that need another topology, and taken down again.

use crate::address::Families;
use crate::cluster::Cluster;
use crate::name::LabName;
use crate::progress::Progress;
use crate::state::{Cni, Options};
use crate::up::{Environment, up};

use super::lab::Lab;
use super::model::{Capability, IpFamily, Scenario, Topology};
use super::outcome::{Outcome, Verdict};
use super::read::Loaded;
use super::run::not_in_set;

/// Runs each scenario on a lab that fits it; scenarios with the same needs one after another on the same lab.
pub fn run(
    env: &Environment,
    like: &Lab,
    mut waiting: Vec<Loaded>,
    is_full: bool,
    progress: &Progress,
    mut on: impl FnMut(&Cluster, &Loaded) -> anyhow::Result<Outcome>,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    waiting.retain(|one| {
        let (requires, wants_dns) = (&one.scenario.requires, wants_dns(like, &one.scenario));
        let requires = requires
            .iter()
            .filter(|one| !wants_dns || **one != Capability::Dns);
        let lacks = like
            .missing(&requires.copied().collect::<Vec<_>>())
            .filter(|_| !changes_kind(&one.scenario.topology));
        let why = not_in_set(&one.scenario, is_full).or(lacks);
        outcomes.extend(
            why.iter()
                .map(|why| Outcome::skipped(&one.scenario.name, &one.file, why.clone())),
        );
        why.is_none()
    });
    while !waiting.is_empty() {
        let first = waiting.remove(0);
        let dns = wants_dns(like, &first.scenario);
        let mut group = vec![first];
        if !group[0].scenario.topology.own {
            let (same, other) = waiting.into_iter().partition(|one| {
                one.scenario.topology == group[0].scenario.topology
                    && wants_dns(like, &one.scenario) == dns
            });
            let same: Vec<Loaded> = same;
            group.extend(same);
            waiting = other;
        }
        match make(env, like, &group[0].scenario.topology, dns, progress) {
            Ok((cluster, name)) => {
                for one in &group {
                    outcomes.push(on(&cluster, one).unwrap_or_else(|error| failed(one, &error)));
                }
                take_down(env, &name, progress);
            }
            Err(error) => outcomes.extend(group.iter().map(|one| failed(one, &error))),
        }
    }
    outcomes
}

/// Whether the lab that is made beside has Weftnet's DNS because the scenario is about it.
fn wants_dns(like: &Lab, scenario: &Scenario) -> bool {
    scenario.requires.contains(&Capability::Dns) && like.options().cni == Cni::Weftnet
}

/// Whether the lab that is made beside may be able to do what the given one is not.
fn changes_kind(topology: &Topology) -> bool {
    topology.ip_family.is_some() || topology.kube_proxy.is_some()
}

fn failed(one: &Loaded, error: &anyhow::Error) -> Outcome {
    let mut outcome = Outcome::skipped(&one.scenario.name, &one.file, String::new());
    outcome.verdict = Verdict::Failed(format!("{error:#}"));
    outcome
}

fn make(
    env: &Environment,
    like: &Lab,
    topology: &Topology,
    dns: bool,
    progress: &Progress,
) -> anyhow::Result<(Cluster, LabName)> {
    let options = options(like.options(), topology, dns);
    let name: LabName = name(like.cluster().name().as_str())
        .parse()
        .map_err(anyhow::Error::msg)?;
    progress.note(&format!("making lab {name} beside for {topology:?}"));
    match up(env, &name, &options, progress) {
        Ok(cluster) => Ok((cluster, name)),
        Err(error) => {
            take_down(env, &name, progress);
            Err(error.context(format!("failed to make a lab for {topology:?}")))
        }
    }
}

fn take_down(env: &Environment, name: &LabName, progress: &Progress) {
    if let Err(error) = crate::down::down(&env.state_dir, name) {
        progress.note(&format!("lab {name} was not taken down: {error:#}"));
    }
}

/// A name beside the given one, within the length that a name may have.
fn name(like: &str) -> String {
    let short: String = like.chars().take(13).collect();
    format!("{short}-beside")
}

fn options(like: &Options, topology: &Topology, dns: bool) -> Options {
    let weft_dns = dns || topology.dns.unwrap_or(like.weft_dns) && like.weft_dns;
    let segments = topology.segments.unwrap_or(1).max(1);
    let nodes = topology.nodes.unwrap_or(3).max(1);
    let families = match topology.ip_family {
        None => like.families,
        Some(IpFamily::Ipv4) => Families::Ipv4,
        Some(IpFamily::Ipv6) => Families::Ipv6,
        Some(IpFamily::Dual) => Families::Dual,
    };
    Options {
        families,
        segments,
        kube_proxy: topology
            .kube_proxy
            .map_or(like.kube_proxy, |proxy| proxy.mode()),
        coredns: topology.dns.unwrap_or(like.coredns) && !weft_dns,
        weft_dns,
        placement: (0..nodes).map(|node| node % segments).collect(),
        ..like.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_beside_is_a_name() {
        for like in ["default", "aaaaaaaaaaaaaaaaaaaa", "a"] {
            assert!(name(like).parse::<LabName>().is_ok(), "{}", name(like));
        }
    }
}

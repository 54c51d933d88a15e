//! Policies against the layout with a chain for each policy and a set for each selector: changes,
//! loading, new connections, churn, memory.
//!
//! Both are given the same cluster, in network namespaces of their own, and measured in turn. What the
//! agent is made of (compilation, transactions, the nf_tables socket) is driven as its engine drives it.

mod chains;
mod engine;
mod load;
mod rig;

use std::time::Duration;

use anyhow::Result;

use super::measure::Measure;
use super::sample::{Sample, Statistic};
use crate::progress::Progress;
use crate::scenario::number::Random;
use chains::Chains;
use engine::Engine;
use load::{Asks, Load};
use rig::Rig;

/// The peer.
const AGAINST: (&str, &str) = ("chains and sets", "model");
/// Numbers of policies.
const SIZES: [u32; 2] = [1_000, 10_000];
/// Changes of each kind that are measured at each size.
const CHANGES: usize = 300;
/// Pods that go and come.
const CHURN: u32 = 1_000;

/// A change of the cluster.
#[derive(Clone, Copy, Debug)]
pub enum Changed {
    /// A pod's label.
    Pod {
        /// Its number.
        pod: u32,
        /// What it becomes.
        app: u32,
    },
    /// A namespace's label.
    Namespace {
        /// Its number.
        namespace: u32,
        /// What it becomes.
        team: u32,
    },
    /// A policy's rule.
    Policy {
        /// Its number.
        policy: u32,
        /// What it becomes.
        asks: Asks,
    },
}

/// A way to lay policies out in the kernel.
pub trait Layout {
    /// Makes a change; how long it took until the kernel had it.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn change(&mut self, changed: Changed) -> Result<Duration>;
}

/// Measures.
///
/// # Errors
/// When a namespace cannot be made, or the kernel refuses.
pub fn run(rounds: usize, progress: &Progress) -> Result<Vec<Measure>> {
    crate::conformance::packets::check()?;
    let mut all = vec![memory()?];
    let one = Load { policies: 1 };
    let few = Rig::new()?;
    let few_engine = Engine::load(few.node(), one)?.0;
    let few_chains_rig = Rig::new()?;
    let few_chains = Chains::load(few_chains_rig.node(), one)?.0;
    for policies in SIZES {
        progress.note(&format!("{policies} policies: cold start"));
        let load = Load { policies };
        let (ours, theirs) = (Rig::new()?, Rig::new()?);
        let (mut engine, mut chains) = cold(&ours, &theirs, load, &mut all)?;
        progress.note(&format!("{policies} policies: new connections"));
        let places = [&few, &ours, &few_chains_rig, &theirs];
        all.extend(connections(places, policies, rounds)?);
        progress.note(&format!("{policies} policies: changes"));
        all.extend(changes(&mut engine, &mut chains, load)?);
        all.extend(churn(&mut engine, policies)?);
    }
    drop((few_engine, few_chains));
    Ok(all)
}

/// First, while nothing else has taken and freed memory.
fn memory() -> Result<Measure> {
    let rig = Rig::new()?;
    let before = super::anonymous();
    let (engine, _) = Engine::load(rig.node(), Load { policies: 10_000 })?;
    let taken = super::anonymous() - before;
    drop(engine);
    Ok(Measure::alone(
        "memory that 10,000 policies and 20,000 pods take",
        "MiB",
        &[taken].into_iter().collect(),
        Statistic::Median,
        Some(80.0),
    ))
}

fn cold(ours: &Rig, theirs: &Rig, load: Load, all: &mut Vec<Measure>) -> Result<(Engine, Chains)> {
    let (mut seconds, mut cpu, mut elements, mut peer) =
        <(Sample, Sample, Sample, Sample)>::default();
    let mut kept = None;
    for _ in 0..3 {
        // A socket that holds the table ends before the next loads it.
        drop(kept.take());
        let (engine, loaded) = Engine::load(ours.node(), load)?;
        seconds.push(loaded.seconds);
        cpu.push(loaded.cpu);
        elements.push(loaded.elements as f64);
        let (chains, took) = Chains::load(theirs.node(), load)?;
        peer.push(took);
        kept = Some((engine, chains));
    }
    let title = |what: &str| format!("{} policies, cold start: {what}", load.policies);
    let alone = |what: &str, unit: &str, sample: &Sample, goal| {
        Measure::alone(&title(what), unit, sample, Statistic::Median, goal)
    };
    all.push(alone("CPU", "s", &cpu, Some(2.0)));
    all.push(alone("elements", "", &elements, Some(100_000.0)));
    all.push(Measure::ratio(
        &title("objects to commit, the other layout without finding who matches"),
        "s",
        (&seconds, &peer),
        AGAINST,
        Statistic::Median,
        None,
    ));
    kept.ok_or_else(|| anyhow::anyhow!("nothing was loaded"))
}

/// New connections of four nodes in turn: ours with one policy and with many, theirs the same.
fn connections(places: [&Rig; 4], policies: u32, rounds: usize) -> Result<Vec<Measure>> {
    let mut samples: [Sample; 4] = Default::default();
    for round in 0..rounds + 1 {
        let mut figures = [0.0; 4];
        for step in 0..4 {
            // Another one first each time.
            let at = (round + step) % 4;
            figures[at] = places[at].connections()?;
        }
        // The first round fills caches.
        if round > 0 {
            for (sample, figure) in samples.iter_mut().zip(figures) {
                sample.push(figure);
            }
        }
    }
    let [one, many, their_one, their_many] = &samples;
    let ratio = |title: String, pair, against, goal| {
        Measure::ratio(&title, "us", pair, against, Statistic::Median, goal)
    };
    Ok(vec![
        ratio(
            format!("new connection, {policies} policies to one"),
            (many, one),
            ("ours", "1 policy"),
            Some(1.1),
        ),
        ratio(
            format!("new connection, {policies} policies"),
            (many, their_many),
            AGAINST,
            Some(1.0),
        ),
        ratio(
            format!("for comparison: the other layout, {policies} policies to one"),
            (their_many, their_one),
            ("it", "1 policy"),
            None,
        ),
    ])
}

/// Changes of each kind, ours and theirs in turn.
fn changes(engine: &mut Engine, chains: &mut Chains, load: Load) -> Result<Vec<Measure>> {
    let mut all = Vec::new();
    let mut random = Random::new(5);
    let mut below = |limit: u32| (random.share() * f64::from(limit)) as u32 % limit;
    for kind in [
        "pod's label",
        "local pod's label",
        "namespace's label",
        "policy",
    ] {
        let (mut ours, mut theirs) = (Sample::default(), Sample::default());
        for number in 0..CHANGES {
            let changed = match kind {
                "pod's label" => Changed::Pod {
                    pod: load::LOCAL + below(load::CLIENT - load::LOCAL),
                    app: below(load::APPS),
                },
                "local pod's label" => Changed::Pod {
                    pod: 1 + below(load::LOCAL - 1),
                    app: below(load::APPS),
                },
                "namespace's label" => Changed::Namespace {
                    namespace: 1 + below(load::NAMESPACES - 2),
                    team: below(load::TEAMS),
                },
                _ => Changed::Policy {
                    policy: policy_here(below(load.policies)),
                    asks: Asks {
                        team: below(load::TEAMS),
                        app: below(load::APPS),
                    },
                },
            };
            let mut figures = [Duration::ZERO; 2];
            for side in [number % 2, 1 - number % 2] {
                figures[side] = match side {
                    0 => engine.change(changed)?,
                    _ => chains.change(changed)?,
                };
            }
            ours.push(figures[0].as_secs_f64() * 1e3);
            theirs.push(figures[1].as_secs_f64() * 1e3);
        }
        let title = format!("{} policies, a {kind}: event to commit", load.policies);
        all.push(Measure::alone(
            &format!("{title}, p99"),
            "ms",
            &ours,
            Statistic::P99,
            Some(50.0),
        ));
        all.push(Measure::ratio(
            &title,
            "ms",
            (&ours, &theirs),
            AGAINST,
            Statistic::Median,
            None,
        ));
    }
    Ok(all)
}

/// A policy of a namespace that has a local pod, and not the one that lets the client in.
fn policy_here(policy: u32) -> u32 {
    let namespace = load::namespace_of_policy(policy);
    policy - namespace + 1 + namespace % (load::LOCAL - 1)
}

fn churn(engine: &mut Engine, policies: u32) -> Result<Vec<Measure>> {
    let (mut hash, mut interval, mut cpu) = <(Sample, Sample, Sample)>::default();
    for number in 0..CHURN {
        let churned = engine.churn(load::LOCAL + number, load::PODS + number)?;
        hash.push(churned.hash as f64 / 2.0);
        interval.push(churned.interval as f64);
        // Of a core, when it happens a hundred times a second.
        cpu.push(churned.cpu.as_secs_f64() * 100.0 * 100.0);
    }
    let measure = |what: &str, unit: &str, sample: &Sample, statistic, goal| {
        let title = format!("{policies} policies, remote pods come and go: {what}");
        Measure::alone(&title, unit, sample, statistic, Some(goal))
    };
    Ok(vec![
        measure(
            "elements of hash maps, each",
            "",
            &hash,
            Statistic::Median,
            1.0,
        ),
        measure(
            "elements of interval maps",
            "",
            &interval,
            Statistic::P99,
            0.0,
        ),
        measure("CPU at 100 a second", "%", &cpu, Statistic::Median, 5.0),
    ])
}

//! Services against kube-proxy in nftables mode: loading, changes, new connections, memory.
//!
//! Two nodes of one lab stand side by side. On the first kube-proxy works, with a real API server; on
//! the second what the agent is made of (compilation, batches, the nf_tables socket) is driven as the
//! agent's engine drives it. Connections of both go the same way, in turn.

mod connections;
mod engine;
mod peer;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::inside::inside;
use super::measure::Measure;
use super::rig;
use super::sample::{Sample, Statistic};
use crate::cluster::Cluster;
use crate::name::LabName;
use crate::progress::Progress;
use crate::scenario::number::Random;
use crate::up::Environment;
use engine::{Engine, Load};

/// Services that kube-proxy is given: making more takes the API server minutes.
pub const PEER_SERVICES: usize = 10_000;
/// The peer.
const PEER: &str = "kube-proxy";
/// Sizes of cold loads: Services, endpoints each, goal in seconds.
const LOADS: [(usize, usize, f64); 3] = [(10_000, 2, 0.5), (45_000, 1, 1.5), (5_000, 50, 2.0)];
/// Changes of one endpoint that are measured at each size.
const CHANGES: usize = 300;

/// Measures, on a lab made for it.
///
/// # Errors
/// When the lab cannot be made, or a change is refused.
pub fn run(
    env: &Environment,
    name: &LabName,
    rounds: usize,
    progress: &Progress,
) -> Result<Vec<Measure>> {
    rig::on_bare_nodes(env, name, 2, progress, |cluster| {
        measured(cluster, rounds, progress)
    })
}

fn measured(cluster: &Cluster, rounds: usize, progress: &Progress) -> Result<Vec<Measure>> {
    let version = cluster.state().options.kubernetes;
    let against = (PEER, version.as_str());
    let ours = cluster.place("node-2")?;
    let mut peer = peer::Peer::new(cluster)?;
    let mut all = Vec::new();

    progress.note("new connections with 10 Services");
    peer.services(10)?;
    peer.start()?;
    let frontend = peer.frontend();
    let mut engine = inside(&ours, || Engine::new(frontend, Load::new(10, 1)))?;
    let few = connections::in_turn(&ours, peer.place(), frontend, rounds)?;

    progress.note(&format!("{PEER} with {PEER_SERVICES} Services"));
    peer.services(PEER_SERVICES)?;
    let theirs = peer.restart()?;
    let their_changes = peer.changes(rounds)?;
    for (services, endpoints, goal) in LOADS {
        progress.note(&format!("cold load of {services} Services × {endpoints}"));
        let mut sample = Sample::default();
        for _ in 0..3 {
            let (loaded, seconds) = inside(&ours, || {
                Engine::timed(frontend, Load::new(services, endpoints))
            })?;
            engine = loaded;
            sample.push(seconds);
        }
        let title = format!("cold load, {services} services × {endpoints}");
        all.push(Measure::alone(
            &title,
            "s",
            &sample,
            Statistic::Median,
            Some(goal),
        ));
        if services == PEER_SERVICES {
            let title = format!("{title}, to {PEER} with × 1");
            all.push(Measure::ratio(
                &title,
                "s",
                (&sample, &theirs),
                against,
                Statistic::Median,
                None,
            ));
        }
        if endpoints <= 2 {
            let changes = inside(&ours, || changes(&mut engine))?;
            all.extend(changes.measures(services, &their_changes, against));
        }
        if services == 45_000 {
            progress.note("new connections with many Services");
            let many = connections::in_turn(&ours, peer.place(), frontend, rounds)?;
            all.extend(compared(&few, &many, against));
            progress.note("1,000 changes a second, and 10,000 random ones under load");
            all.push(inside(&ours, || sustained(&mut engine))?);
            all.push(under_load(&ours, &mut engine, frontend)?);
        }
    }
    progress.note("memory with 10,000 Services and 150,000 endpoints");
    let memory = inside(&ours, || Engine::memory(frontend, Load::new(10_000, 15)))?;
    all.push(Measure::alone(
        "memory that 10,000 services × 15 take",
        "MiB",
        &[memory].into_iter().collect(),
        Statistic::Median,
        Some(80.0),
    ));
    Ok(all)
}

/// What changes of one endpoint cost.
struct Changes {
    whole: Sample,
    kernel: Sample,
    messages: Sample,
    dumps: u64,
}

fn changes(engine: &mut Engine) -> Result<Changes> {
    let mut random = Random::new(7);
    let mut changes = Changes {
        whole: Sample::default(),
        kernel: Sample::default(),
        messages: Sample::default(),
        dumps: 0,
    };
    for _ in 0..CHANGES {
        let cost = engine.change(&mut random)?;
        changes.whole.push(cost.whole.as_secs_f64() * 1e3);
        changes.kernel.push(cost.kernel.as_secs_f64() * 1e3);
        changes.messages.push(cost.messages as f64);
    }
    changes.dumps = engine.dumps();
    Ok(changes)
}

impl Changes {
    fn measures(&self, services: usize, theirs: &Sample, against: (&str, &str)) -> Vec<Measure> {
        let Self {
            whole,
            kernel,
            messages,
            dumps,
        } = self;
        let title = |what: &str| format!("one endpoint of {services} services, {what}");
        let alone = |what: &str, unit: &str, sample: &Sample, statistic, goal| {
            Measure::alone(&title(what), unit, sample, statistic, Some(goal))
        };
        let dumps: Sample = [*dumps as f64].into_iter().collect();
        let mut all = vec![
            alone("event to commit, p50", "ms", whole, Statistic::Median, 2.0),
            alone("event to commit, p99", "ms", whole, Statistic::P99, 20.0),
            alone("in the kernel, p50", "ms", kernel, Statistic::Median, 0.1),
            alone("netlink messages, most", "", messages, Statistic::P99, 16.0),
            alone("dumps asked for", "", &dumps, Statistic::Median, 0.0),
        ];
        if services == PEER_SERVICES {
            let title = title(&format!("to a sync of {PEER}"));
            let pair = (whole, theirs);
            all.push(Measure::ratio(
                &title,
                "ms",
                pair,
                against,
                Statistic::Median,
                None,
            ));
        }
        all
    }
}

/// New connections: ours with few and many, and against the peer's with as many as it has.
fn compared(
    few: &connections::Pair,
    many: &connections::Pair,
    against: (&str, &str),
) -> Vec<Measure> {
    let mut same = Measure::ratio(
        "new connection, ours with 45,000 services to ours with 10",
        "us",
        (&many.ours, &few.ours),
        ("ours", "10 services"),
        Statistic::Median,
        Some(1.0),
    );
    // Equal within the interval, whichever way it leans.
    same.met = same
        .interval
        .map(|[low, high]| low <= 1.0 && high >= 1.0 || high < 1.0);
    let ratio = |title: &str, pair: &connections::Pair| {
        Measure::ratio(
            title,
            "us",
            (&pair.ours, &pair.peer),
            against,
            Statistic::Median,
            Some(1.0),
        )
    };
    vec![
        same,
        ratio("new connection, 10 services, to kube-proxy", few),
        ratio(
            "new connection, ours 45,000 services, to kube-proxy with 10,000",
            many,
        ),
    ]
}

/// A thousand changes a second for a minute: how far behind the last of each tenth of a second was.
fn sustained(engine: &mut Engine) -> Result<Measure> {
    let (mut random, mut lag) = (Random::new(9), Sample::default());
    let begin = Instant::now();
    for number in 0..60_000_u32 {
        let due = Duration::from_millis(u64::from(number));
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        engine.change(&mut random)?;
        if number % 100 == 99 {
            lag.push(begin.elapsed().saturating_sub(due).as_secs_f64() * 1e3);
        }
    }
    Ok(Measure::alone(
        "1,000 changes a second for a minute, behind",
        "ms",
        &lag,
        Statistic::P99,
        Some(100.0),
    ))
}

/// Ten thousand random changes while connections to a Service that always has its endpoint go on.
fn under_load(
    place: &crate::place::Place,
    engine: &mut Engine,
    frontend: std::net::SocketAddr,
) -> Result<Measure> {
    let load = connections::Load::start(place, frontend)?;
    inside(place, || {
        let mut random = Random::new(11);
        (0..10_000).try_for_each(|_| engine.change(&mut random).map(drop))
    })?;
    let (tried, failed) = load.stop().context("the load")?;
    let title = format!("failed of {tried} connections during 10,000 changes");
    let failed: Sample = [failed as f64].into_iter().collect();
    Ok(Measure::alone(
        &title,
        "",
        &failed,
        Statistic::Median,
        Some(0.0),
    ))
}

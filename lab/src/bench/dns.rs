//! `bench dns`: what a question costs, ours against CoreDNS with its kubernetes plugin and the standard chain, on the
//! same API server and in the same run.
//!
//! CPU time is the server process's own, user and system, from the scheduler's count in nanoseconds. Beside both
//! stands a loop that sends datagrams back as they come, with the same sockets: what the kernel alone costs.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{Api, PostParams};
use serde_json::json;

use super::inside::in_network;
use super::measure::Measure;
use super::rig;
use super::sample::{Sample, Statistic};
use crate::cluster::Cluster;
use crate::name::LabName;
use crate::place::Place;
use crate::progress::Progress;
use crate::up::Environment;

mod load;
mod server;

use load::Question;
use server::Server;

const NODE: &str = "node-1";
const NAMESPACE: &str = "bench";
/// Services that are asked for in turn.
const SERVICES: usize = 100;
/// How long each server is asked at a time.
const TURN: Duration = Duration::from_millis(1500);
/// Questions a second of the steady load.
const STEADY: u32 = 5_000;
/// Questions a second at which the time to an answer is measured.
const BUSY: u32 = 50_000;

/// Measures, on a lab made for it.
///
/// # Errors
/// When the lab cannot be made, or a server does not answer.
pub fn run(
    env: &Environment,
    name: &LabName,
    rounds: usize,
    progress: &Progress,
) -> Result<Vec<Measure>> {
    rig::on_bare_nodes(env, name, 1, progress, |cluster| {
        measured(env, cluster, rounds, progress)
    })
}

fn measured(
    env: &Environment,
    cluster: &Cluster,
    rounds: usize,
    progress: &Progress,
) -> Result<Vec<Measure>> {
    create(cluster)?;
    let kubeconfig = cluster.paths().pki().join("admin.kubeconfig");
    let place = cluster.place(NODE)?;
    let servers = [
        server::ours(env, cluster, &kubeconfig)?,
        server::core_dns(cluster, &kubeconfig)?,
        server::echo(cluster)?,
    ];
    let version = crate::asset::versions::version_of("coredns")?;
    let against = ("CoreDNS", version.as_str());
    let kinds = [
        ("hit", Question::Hit),
        ("no data", Question::NoData),
        ("no such name", Question::NoName),
    ];
    for server in &servers[..2] {
        in_network(&place, || server.answers_rightly())?;
    }
    let mut all = Vec::new();
    for (word, question) in kinds {
        progress.note(&format!("{word}: flat out, and {STEADY} a second"));
        let flat = in_turn(&place, &servers, question, None, rounds)?;
        let steady = in_turn(&place, &servers, question, Some(STEADY), rounds)?;
        for (how, costs) in [("flat out", flat), (&*format!("{STEADY} a second"), steady)] {
            let title = |what: &str| format!("CPU a question, {word}, {how}{what}");
            let [ours, theirs, echo] = &costs;
            all.push(Measure::ratio(
                &title(""),
                "us",
                (ours, theirs),
                against,
                Statistic::Median,
                Some(0.2),
            ));
            if how == "flat out" {
                all.push(Measure::alone(
                    &title(", ours"),
                    "us",
                    ours,
                    Statistic::Median,
                    Some(5.0),
                ));
            }
            all.push(Measure::ratio(
                &title(", to an echo"),
                "us",
                (ours, echo),
                ("echo", ""),
                Statistic::Median,
                None,
            ));
        }
    }
    progress.note(&format!("{BUSY} a second: time to the answer"));
    let waits = (0..rounds).map(|_| in_network(&place, || servers[0].waits(BUSY, TURN)));
    let waits: Sample = waits.collect::<Result<Vec<f64>>>()?.into_iter().collect();
    let title = format!("p99 of the time to an answer, {BUSY} a second");
    all.push(Measure::alone(
        &title,
        "us",
        &waits,
        Statistic::Median,
        Some(200.0),
    ));
    Ok(all)
}

/// Microseconds of CPU a question of each server, measured in turn; the first round fills caches.
fn in_turn(
    place: &Place,
    servers: &[Server; 3],
    question: Question,
    rate: Option<u32>,
    rounds: usize,
) -> Result<[Sample; 3]> {
    let mut samples: [Sample; 3] = Default::default();
    for round in 0..=rounds {
        for turn in 0..servers.len() {
            let index = (turn + round) % servers.len();
            let cost = in_network(place, || servers[index].cost(question, rate, TURN))?;
            if round > 0 {
                samples[index].push(cost);
            }
        }
    }
    Ok(samples)
}

fn create(cluster: &Cluster) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = cluster.client().await?;
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await?;
        let services: Api<Service> = Api::namespaced(client, NAMESPACE);
        for number in 0..SERVICES {
            let service: Service = serde_json::from_value(json!({
                "metadata": {"name": format!("web-{number}")},
                "spec": {"ports": [{"name": "http", "port": 80}]},
            }))?;
            services.create(&PostParams::default(), &service).await?;
        }
        Ok(())
    })
}

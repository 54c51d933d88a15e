//! `churn`: sandboxes come and go, many at once, while the agent is killed; no address has two
//! holders, and none is lost.
//!
//! What remains is asked of the node itself: the agent's count of attachments, its report, links of
//! the host and elements of its nft table must know nothing of a sandbox that is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weft_core::names::{self, OurLink};
use weft_core::view::AttachmentKey;

use super::{none_of, time};
use crate::install;
use crate::place::Place;
use crate::scenario::lab::Lab;
use crate::scenario::model::{Churn, ChurnFault};
use crate::scenario::stage::Stage;
use crate::scenario::{objects, wait};

mod ledger;
mod plugin;
mod rounds;

use ledger::Ledger;
use plugin::Plugin;
use rounds::{Plan, Rounds};

/// The agent writes a report at most once in ten seconds.
const REPORT: Duration = Duration::from_secs(15);
/// For an agent whose container was killed: kubelet doubles its pause, from 10 s.
const BACK: Duration = Duration::from_secs(240);
/// For the leak of a control, which nothing takes back.
const SHORT: Duration = Duration::from_secs(2);
/// Asks the agent's metrics without a program that the node may lack.
const METRICS: &str = r#"exec 3<>/dev/tcp/127.0.0.1/9470; printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; cat <&3"#;

/// What a node holds for its pods, as seen at one time.
#[derive(Clone, Debug)]
struct Holdings {
    /// By the agent's account.
    attachments: u64,
    /// Host ends of pods' links.
    links: BTreeSet<String>,
}

pub(super) async fn run(stage: &mut Stage<'_>, what: &Churn) -> Result<()> {
    let place = stage.lab.node(what.node)?.place.clone();
    let cooldown = what
        .cooldown
        .as_deref()
        .map(|text| time(&stage.fill(text)?))
        .transpose()?;
    wait::until(BACK, async || holdings(&place)).await?;
    let rounds = Arc::new(Rounds::new(plan(stage, what)?, Plugin::of(&place)?));
    let mut ledger = churn(&rounds, stage.lab, what.inject).await?;
    if what.inject == Some(ChurnFault::SharedAddress) {
        ledger.share_one();
    }
    let mut sentences = ledger.wrongs();
    sentences.extend(ledger.shared(cooldown.unwrap_or_default()));
    sentences.extend(ledger.badly_refused(&what.pool, what.dry));
    // What was seen already may have left anything behind.
    if sentences.is_empty() {
        let returned = returned(stage, &place, what, &ledger).await;
        sentences.extend(returned.err().map(|error| format!("{error:#}")));
    }
    tokio::task::spawn_blocking(move || rounds.clean()).await?;
    none_of(&sentences)
}

async fn churn(rounds: &Arc<Rounds>, lab: &Lab, inject: Option<ChurnFault>) -> Result<Ledger> {
    let (rounds, lab) = (rounds.clone(), lab.clone());
    let ledger = tokio::task::spawn_blocking(move || {
        rounds.run(&lab);
        rounds.clean();
        if inject == Some(ChurnFault::Leak) {
            rounds.leave_one();
        }
        rounds.ledger()
    });
    Ok(ledger.await?)
}

fn plan(stage: &mut Stage<'_>, what: &Churn) -> Result<Plan> {
    let seed = (stage.random.share() * f64::from(u32::MAX)) as u64;
    Ok(Plan {
        // A run's sandboxes are never taken for those of an earlier one.
        run: format!("lab-churn-{:x}", jiff::Timestamp::now().as_millisecond()),
        node: what.node,
        adds: what.adds.get(stage.is_full),
        parallel: what.parallel,
        life: what.life.clone(),
        kills: what.kills.get(stage.is_full),
        between_kills: what.between_kills.clone(),
        container_kills: what.container_kills.get(stage.is_full),
        leaks: what.leaks.get(stage.is_full),
        is_full: stage.is_full,
        deadline: Instant::now() + time(&what.within)?,
        seed,
    })
}

/// Waits until the node holds nothing for sandboxes that are gone. Other pods may come and go meanwhile.
async fn returned(stage: &Stage<'_>, place: &Place, what: &Churn, ledger: &Ledger) -> Result<()> {
    let grace = grace(stage.lab).await?;
    // The time begins when there is an agent again to see what is missing.
    wait::until(BACK, async || holdings(place)).await?;
    let limit = if what.inject == Some(ChurnFault::Leak) {
        SHORT
    } else {
        grace * 2
    };
    let ours: BTreeSet<String> = ledger.sandboxes().map(host_link).collect();
    let holdings = wait::until(limit, async || {
        let Holdings { attachments, links } = holdings(place)?;
        let left: Vec<&String> = links.intersection(&ours).collect();
        if !left.is_empty() || attachments != links.len() as u64 {
            bail!(
                "after {limit:?} the agent has {attachments} attachments for {} links of pods; links of sandboxes that are gone: {left:?}",
                links.len()
            );
        }
        Ok(attachments)
    })
    .await?;
    no_elements(place, ledger)?;
    wait::until(REPORT, async || unused(stage, what, holdings).await).await
}

/// The host's end of a sandbox's link.
fn host_link(sandbox: &str) -> String {
    names::pod_link(&AttachmentKey {
        container_id: sandbox.to_owned(),
        ifname: "eth0".to_owned(),
    })
}

/// The agent's `--sandbox-grace`.
async fn grace(lab: &Lab) -> Result<Duration> {
    let reference = serde_json::from_value(
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "weft-agent"}),
    )?;
    let set = objects::get(lab, install::NAMESPACE, &reference)
        .await?
        .context("there is no DaemonSet weft-agent")?;
    let arguments = set
        .pointer("/spec/template/spec/containers/0/args")
        .and_then(Value::as_array);
    let text = arguments
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find_map(|word| word.strip_prefix("--sandbox-grace="));
    time(text.context("the agent has no argument --sandbox-grace")?)
}

fn holdings(place: &Place) -> Result<Holdings> {
    let metrics = place.text(&["bash", "-c", METRICS])?;
    let value = |name: &str| {
        let mut lines = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        lines
            .next()
            .with_context(|| format!("the agent's metrics lack {name}"))
    };
    if value("weft_agent_ready")? != 1 {
        bail!("the agent of {} is not ready", place.name());
    }
    let links = place.text(&["ip", "-oneline", "link", "show", "type", "veth"])?;
    let links = links
        .lines()
        .filter_map(|line| line.split([':', '@']).nth(1))
        .map(str::trim);
    let links = links.filter(|name| names::recognise(name) == Some(OurLink::Pod));
    Ok(Holdings {
        attachments: value("weft_agent_attachments")?,
        links: links.map(str::to_owned).collect(),
    })
}

/// No address of a sandbox that is gone stands in the node's table.
fn no_elements(place: &Place, ledger: &Ledger) -> Result<()> {
    let table = place.text(&["nft", "list", "table", "inet", "weftnet"])?;
    let words: BTreeSet<&str> = table
        .split(|c: char| c.is_whitespace() || ",{}".contains(c))
        .collect();
    let left: BTreeSet<IpAddr> = ledger
        .addresses()
        .filter(|address| words.contains(address.to_string().as_str()))
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    bail!("addresses that nobody holds are in table inet weftnet: {left:?}")
}

/// The node reports no more addresses of the pool in use than it has pods.
async fn unused(stage: &Stage<'_>, what: &Churn, pods: u64) -> Result<()> {
    let name = &stage.lab.node(what.node)?.record.name;
    let reference = serde_json::from_value(
        json!({"apiVersion": "weftnet.dev/v1alpha1", "kind": "NodeReport", "name": name}),
    )?;
    let report = objects::get(stage.lab, "", &reference)
        .await?
        .context("there is no NodeReport")?;
    let pools = report.pointer("/spec/pools").and_then(Value::as_array);
    let pools: Vec<&Value> = pools
        .into_iter()
        .flatten()
        .filter(|pool| pool["pool"] == what.pool.as_str())
        .collect();
    let in_use = |pool: &&&Value| {
        pool["allocated"]
            .as_u64()
            .is_none_or(|allocated| allocated > pods)
    };
    if pools.is_empty() || pools.iter().any(|pool| in_use(&pool)) {
        bail!(
            "NodeReport {name} says of pool {} with {pods} pods: {pools:?}",
            what.pool
        );
    }
    Ok(())
}

//! `connect`: asks a server as a pod, a node or the outside world would, and compares how it ended,
//! who answered, and which source address the receiver saw.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::time;
use crate::probe::connect::{Ending, Outcome, Protocol};
use crate::scenario::lab::{self, probe_program};
use crate::scenario::model::{Connect, Family};
use crate::scenario::stage::Stage;
use crate::scenario::{services, spot, wait};

pub(super) async fn run(stage: &mut Stage<'_>, what: &Connect) -> Result<()> {
    let families = stage.families(&what.families);
    for family in families {
        for _ in 0..what.times {
            let ended = wait::until(time(&what.within)?, async || {
                once(stage, what, family).await
            })
            .await;
            ended.with_context(|| format!("over {family}"))?;
            stage.tally.connections += 1;
        }
    }
    Ok(())
}

async fn once(stage: &Stage<'_>, what: &Connect, family: Family) -> Result<()> {
    let target = stage.fill(&what.to)?;
    let to = services::address(stage, &target, family).await?;
    let outcome = ask(stage, what, to).await?;
    if outcome.ending != what.ends {
        let why = outcome.error.unwrap_or_default();
        bail!("{to} ended {:?}, not {:?} {why}", outcome.ending, what.ends);
    }
    if what.ends != Ending::Answered {
        return Ok(());
    }
    let answer = outcome.answer.context("there is no answer")?;
    if what.seen_as.as_deref() == Some("own") && outcome.local != Some(answer.peer) {
        let local = outcome
            .local
            .map(|local| local.to_string())
            .unwrap_or_default();
        bail!(
            "the receiver saw {}, and it was sent from {local}",
            answer.peer
        );
    }
    let is_pod = stage
        .pods
        .contains_key(what.from.split('/').next().unwrap_or_default());
    if let Some(wanted) = what
        .seen_as
        .as_ref()
        .filter(|wanted| *wanted != "own" || is_pod)
    {
        let wanted = if wanted == "own" { &what.from } else { wanted };
        let allowed = spot::addresses(stage.lab, &stage.pods, &stage.fill(wanted)?)?;
        if !allowed.contains(&answer.peer.ip()) {
            bail!(
                "the receiver saw {}, which is not an address of {wanted} {allowed:?}",
                answer.peer.ip()
            );
        }
    }
    match &what.answered_by {
        Some(name) if *name != answer.hostname => bail!("{} answered, not {name}", answer.hostname),
        _ => Ok(()),
    }
}

pub(super) async fn ask(stage: &Stage<'_>, what: &Connect, to: IpAddr) -> Result<Outcome> {
    let port = what.port.unwrap_or(if what.protocol == Protocol::Http {
        8080
    } else {
        7070
    });
    let protocol = serde_json::to_value(what.protocol)?;
    let argv = [
        probe_program()?.display().to_string(),
        "connect".to_owned(),
        format!("--protocol={}", protocol.as_str().unwrap_or_default()),
        format!("--timeout={}", what.timeout),
        std::net::SocketAddr::new(to, port).to_string(),
    ];
    let spot = spot::network(stage.lab, &stage.pods, &what.from)?;
    let limit = time(&what.timeout)? * 3 + Duration::from_secs(10);
    let output = lab::output(&spot, &argv, limit).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| {
        format!(
            "no outcome but {text:?} {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

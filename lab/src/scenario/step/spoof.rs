//! `spoof`: forged frames leave a pod, and are counted where they must not (or, for a control, must)
//! arrive. A counter that saw nothing at all would prove nothing, so each must count one honest
//! packet first.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::probe::sniff::Counted;
use crate::scenario::model::{Arrives, Spoof};
use crate::scenario::process::Process;
use crate::scenario::stage::Stage;
use crate::scenario::{lab, spot};

pub(super) async fn run(stage: &mut Stage<'_>, what: &Spoof) -> Result<()> {
    if what.family.is_some_and(|family| !stage.has(family)) {
        return Ok(());
    }
    let mark = format!("weft-spoof-{}", stage.tally.steps);
    let claim = stage.fill(&what.claim)?;
    let mut counters = Vec::new();
    for place in &what.watch {
        counters.push((place, counter(stage, what, place, &claim, &mark).await?));
    }
    send(stage, what, &claim, &mark).await?;
    // What is under way arrives within this time on one machine.
    tokio::time::sleep(Duration::from_millis(150)).await;
    for (place, process) in counters {
        let lines = process.stop(Duration::from_secs(5)).await?;
        let last = lines
            .last()
            .with_context(|| format!("the counter in {place} printed nothing"))?;
        let counted: Counted = serde_json::from_str(last)?;
        judge(what, place, &counted)?;
    }
    Ok(())
}

fn judge(what: &Spoof, place: &str, counted: &Counted) -> Result<()> {
    let arrived: u64 = counted.frames.values().sum();
    match what.arrives {
        Arrives::None if arrived > 0 => bail!(
            "{arrived} forged frames arrived in {place}: {:?}",
            counted.frames
        ),
        Arrives::All if arrived < u64::from(what.count) => {
            bail!(
                "{arrived} of {} frames arrived in {place}; it saw {} frames",
                what.count,
                counted.seen
            )
        }
        _ => Ok(()),
    }
}

async fn counter(
    stage: &Stage<'_>,
    what: &Spoof,
    place: &str,
    claim: &str,
    mark: &str,
) -> Result<Process> {
    let interface = what.interface.clone().unwrap_or_else(|| "eth0".to_owned());
    let mut argv = vec![
        lab::probe_program()?.display().to_string(),
        "sniff".to_owned(),
    ];
    argv.push(format!("--interface={}", stage.fill(&interface)?));
    argv.push(if what.kind == "udp" {
        format!("--contains={mark}")
    } else {
        format!("--mentions={claim}")
    });
    let process = Process::start(&spot::network(stage.lab, &stage.pods, place)?, &argv)?;
    process.ready(Duration::from_secs(10)).await
}

async fn send(stage: &Stage<'_>, what: &Spoof, claim: &str, mark: &str) -> Result<()> {
    let argv = [
        lab::probe_program()?.display().to_string(),
        "spoof".to_owned(),
        what.kind.clone(),
        format!("--claim={claim}"),
        format!("--to={}", stage.fill(&what.to)?),
        format!("--count={}", what.count),
        format!("--payload={mark}"),
    ];
    let from = spot::network(stage.lab, &stage.pods, &what.from)?;
    let output = lab::output(&from, &argv, Duration::from_secs(30)).await?;
    if !output.status.success() {
        bail!(
            "nothing was sent: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

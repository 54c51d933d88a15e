//! Many connections to one Service: as a step (`dial`) and for the whole run (`always.dials`).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::time;
use crate::probe::connect::Protocol;
use crate::probe::dial::Dialled;
use crate::scenario::lab::probe_program;
use crate::scenario::model::{Dial, Family};
use crate::scenario::process::Process;
use crate::scenario::stage::Stage;
use crate::scenario::{services, spot, wait};

/// How many a second for a whole run, where the file says nothing.
const RATE: u32 = 20;

/// Connections under way, in one family.
#[derive(Debug)]
pub struct Dialling {
    what: Dial,
    family: Family,
    process: Process,
}

/// A fixed number of connections, again until they end as expected.
pub(super) async fn step(stage: &mut Stage<'_>, what: &Dial) -> Result<()> {
    let count = what.count.get(stage.is_full);
    wait::until(time(&what.within)?, async || once(stage, what, count).await).await?;
    stage.tally.connections += count;
    Ok(())
}

async fn once(stage: &Stage<'_>, what: &Dial, count: u64) -> Result<()> {
    let limit = Duration::from_secs(60) + time(&what.timeout)? * u32::try_from(count)?;
    for mut dialling in start(stage, std::slice::from_ref(what), Some(count)).await? {
        let lines = dialling.process.lines(limit).await?;
        judge(stage, &dialling.what, &read(&lines)?)
            .with_context(|| format!("over {}", dialling.family))?;
    }
    Ok(())
}

/// Starts dialling in all families.
///
/// # Errors
/// When a connection that is to be held does not open.
pub async fn start(stage: &Stage<'_>, dials: &[Dial], count: Option<u64>) -> Result<Vec<Dialling>> {
    let mut all = Vec::new();
    for what in dials {
        for family in stage.families(&what.families) {
            let port = what.port.unwrap_or(match what.protocol {
                Protocol::Http => 8080,
                Protocol::Tcp | Protocol::Udp => 7070,
            });
            let target = stage.fill(&what.to)?;
            let address = services::address(stage, &target, family).await?;
            let protocol = serde_json::to_value(what.protocol)?;
            let rate = what.rate.unwrap_or(if count.is_some() { 0 } else { RATE });
            let mut argv = vec![
                probe_program()?.display().to_string(),
                "dial".to_owned(),
                SocketAddr::new(address, port).to_string(),
                format!("--protocol={}", protocol.as_str().unwrap_or_default()),
                format!("--rate={rate}"),
                format!("--hold={}", what.hold),
                format!("--timeout={}", what.timeout),
            ];
            argv.extend(count.map(|count| format!("--count={count}")));
            let spot = spot::network(stage.lab, &stage.pods, &what.from)?;
            let process = Process::start(&spot, &argv)?
                .ready(Duration::from_secs(20))
                .await
                .with_context(|| format!("dialling {} from {}", what.to, what.from))?;
            all.push(Dialling {
                what: what.clone(),
                family,
                process,
            });
        }
    }
    Ok(all)
}

/// Ends what dials for the whole run, and judges it.
///
/// # Errors
/// A sentence about what failed.
pub async fn finish(stage: &mut Stage<'_>, dialling: Dialling) -> Result<()> {
    let Dialling {
        what,
        family,
        process,
    } = dialling;
    let limit = time(&what.timeout)? * 2 + Duration::from_secs(10);
    let dialled = read(&process.stop(limit).await?)?;
    stage.tally.connections += dialled.tried;
    judge(stage, &what, &dialled)
        .with_context(|| format!("dialling {} from {} over {family}", what.to, what.from))
}

fn read(lines: &[String]) -> Result<Dialled> {
    let last = lines.last().context("the dialler printed nothing")?;
    serde_json::from_str(last).with_context(|| format!("the dialler printed {last:?}"))
}

fn judge(stage: &Stage<'_>, what: &Dial, dialled: &Dialled) -> Result<()> {
    verdict(what, dialled)?;
    let Some(wanted) = &what.seen_as else {
        return Ok(());
    };
    let allowed = spot::addresses(stage.lab, &stage.pods, &stage.fill(wanted)?)?;
    let foreign = dialled
        .seen_as
        .keys()
        .find(|seen| !allowed.iter().any(|address| address.to_string() == **seen));
    match foreign {
        Some(seen) => bail!("a server saw {seen}, which is not an address of {wanted} {allowed:?}"),
        None => Ok(()),
    }
}

/// What must hold whatever the addresses are.
fn verdict(what: &Dial, dialled: &Dialled) -> Result<()> {
    if dialled.tried == 0 {
        bail!("nothing was dialled");
    }
    if dialled.failed() > what.allowed_failures {
        bail!(
            "{} of {} connections failed: {}",
            dialled.failed(),
            dialled.tried,
            dialled.failures.join("; ")
        );
    }
    if let Some(first) = dialled.broken.first() {
        bail!("{} held connections broke: {first}", dialled.broken.len());
    }
    let answered: Vec<&String> = dialled.answered.keys().collect();
    let mut wanted: Vec<&String> = what.answered_by.iter().collect();
    wanted.sort();
    if !wanted.is_empty() && wanted != answered {
        bail!("{:?} answered, not {wanted:?}", dialled.answered);
    }
    match what.servers {
        Some(servers) if servers != answered.len() => bail!(
            "{} servers answered, not {servers}: {:?}",
            answered.len(),
            dialled.answered
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(extra: serde_json::Value) -> Dial {
        let mut value = serde_json::json!({"from": "a", "to": "service/b"});
        value
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn dialled() -> Dialled {
        Dialled {
            tried: 3,
            answered: [("x".to_owned(), 2), ("y".to_owned(), 1)].into(),
            ..Dialled::default()
        }
    }

    #[test]
    fn who_answered_must_be_exactly_who_should() {
        let judge = |extra| verdict(&what(extra), &dialled());
        assert!(judge(serde_json::json!({"answeredBy": ["y", "x"]})).is_ok());
        assert!(judge(serde_json::json!({"answeredBy": ["x"]})).is_err());
        assert!(judge(serde_json::json!({"answeredBy": ["x", "y", "z"]})).is_err());
        assert!(judge(serde_json::json!({"servers": 2})).is_ok());
        assert!(judge(serde_json::json!({"servers": 1})).is_err());
    }

    #[test]
    fn one_failure_one_broken_connection_and_silence_are_noticed() {
        let what = what(serde_json::json!({}));
        assert!(verdict(&what, &dialled()).is_ok());
        let mut failed = dialled();
        failed.failed.insert("timeout".to_owned(), 1);
        assert!(verdict(&what, &failed).is_err());
        let mut broken = dialled();
        broken.broken.push("held connection 0".to_owned());
        assert!(verdict(&what, &broken).is_err());
        assert!(verdict(&what, &Dialled::default()).is_err());
    }
}

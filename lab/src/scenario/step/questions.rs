//! DNS questions: as a step (`questions`) and for the whole run (`always.questions`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::time;
use crate::address::{DNS_IPV4, DNS_IPV6};
use crate::probe::questions::Questioned;
use crate::scenario::lab::probe_program;
use crate::scenario::model::{Family, Questions};
use crate::scenario::process::Process;
use crate::scenario::spot;
use crate::scenario::stage::Stage;

/// Questions under way, to one address.
#[derive(Debug)]
pub struct Asking {
    what: Questions,
    server: SocketAddr,
    process: Process,
}

/// A fixed number of questions.
pub(super) async fn step(stage: &mut Stage<'_>, what: &Questions) -> Result<()> {
    let count = what.count.get(stage.is_full);
    let limit = Duration::from_secs(20)
        + time(&what.timeout)? * 2
        + Duration::from_secs(count) / what.rate.max(1);
    for mut asking in start(stage, std::slice::from_ref(what), Some(count)).await? {
        let lines = asking.process.lines(limit).await?;
        judge(&asking.what, &read(&lines)?).with_context(|| title(&asking))?;
    }
    Ok(())
}

/// Starts asking, at each address.
///
/// # Errors
/// When the client cannot be started.
pub async fn start(
    stage: &Stage<'_>,
    questions: &[Questions],
    count: Option<u64>,
) -> Result<Vec<Asking>> {
    let mut all = Vec::new();
    for what in questions {
        for server in servers(stage, what)? {
            let mut argv = vec![
                probe_program()?.display().to_string(),
                "questions".to_owned(),
                stage.fill(&what.name)?,
                format!("--server={server}"),
                format!("--type={}", what.kind),
                format!("--rate={}", what.rate),
                format!("--timeout={}", what.timeout),
            ];
            argv.extend(what.tcp.then(|| "--tcp".to_owned()));
            argv.extend(count.map(|count| format!("--count={count}")));
            let spot = spot::network(stage.lab, &stage.pods, &what.from)?;
            let process = Process::start(&spot, &argv)?
                .ready(Duration::from_secs(20))
                .await
                .with_context(|| format!("asking for {} from {}", what.name, what.from))?;
            all.push(Asking {
                what: what.clone(),
                server,
                process,
            });
        }
    }
    Ok(all)
}

fn servers(stage: &Stage<'_>, what: &Questions) -> Result<Vec<SocketAddr>> {
    if let Some(server) = &what.server {
        let server = stage.fill(server)?;
        let address: IpAddr = server
            .parse()
            .with_context(|| format!("{server:?} is no address"))?;
        return Ok(vec![SocketAddr::new(address, 53)]);
    }
    let families = stage.families(&what.families).into_iter();
    let texts = families.map(|family| match family {
        Family::Ipv4 => DNS_IPV4,
        Family::Ipv6 => DNS_IPV6,
    });
    texts
        .map(|text| Ok(SocketAddr::new(text.parse()?, 53)))
        .collect()
}

/// Ends what asks for the whole run, and judges it.
///
/// # Errors
/// A sentence about what was not answered.
pub async fn finish(stage: &mut Stage<'_>, asking: Asking) -> Result<()> {
    let title = title(&asking);
    let Asking { what, process, .. } = asking;
    let limit = time(&what.timeout)? * 2 + Duration::from_secs(10);
    let questioned = read(&process.stop(limit).await?)?;
    stage.tally.connections += questioned.asked;
    judge(&what, &questioned).context(title)
}

fn title(asking: &Asking) -> String {
    format!(
        "asking {} for {} from {}",
        asking.server, asking.what.name, asking.what.from
    )
}

fn read(lines: &[String]) -> Result<Questioned> {
    let last = lines.last().context("the client printed nothing")?;
    serde_json::from_str(last).with_context(|| format!("the client printed {last:?}"))
}

fn judge(what: &Questions, questioned: &Questioned) -> Result<()> {
    let Questioned {
        asked,
        again,
        failed,
        failures,
        answers: _,
        slowest,
    } = questioned;
    if *asked == 0 {
        bail!("nothing was asked");
    }
    if *failed > 0 {
        bail!(
            "{failed} of {asked} questions failed: {}",
            failures.join("; ")
        );
    }
    if let Some(at_once) = what.at_once
        && (asked - again) * 100 < at_once * asked
    {
        bail!("{again} of {asked} questions were answered only at the second attempt");
    }
    if let Some(limit) = &what.slowest
        && Duration::from_micros(*slowest) > time(limit)?
    {
        bail!("one answer took {slowest} µs, longer than {limit}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_slowness_and_silence_are_noticed() {
        let what = |extra: &str| -> Questions {
            serde_json::from_str(&format!("{{\"from\": \"a\", \"name\": \"b.\"{extra}}}")).unwrap()
        };
        let good = Questioned {
            asked: 100,
            again: 2,
            slowest: 5_000,
            ..Questioned::default()
        };
        assert!(judge(&what(""), &good).is_ok());
        assert!(judge(&what(", \"atOnce\": 98, \"slowest\": \"5ms\""), &good).is_ok());
        assert!(judge(&what(", \"atOnce\": 99"), &good).is_err());
        assert!(judge(&what(", \"slowest\": \"4ms\""), &good).is_err());
        let bad = Questioned {
            failed: 1,
            ..good.clone()
        };
        assert!(judge(&what(""), &bad).is_err());
        assert!(judge(&what(""), &Questioned::default()).is_err());
    }
}

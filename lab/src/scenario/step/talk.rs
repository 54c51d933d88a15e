//! `talk` and `hears`: connections that go on beside the steps, and what their ends hear.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::time;
use crate::probe::talk::{Heard, Transport};
use crate::scenario::lab::probe_program;
use crate::scenario::model::{Ends, Hears, Talk};
use crate::scenario::process::{Process, Words};
use crate::scenario::stage::Stage;
use crate::scenario::{services, spot, wait};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A connection under way.
#[derive(Debug)]
pub struct Talking {
    what: Talk,
    caller: Words,
    called: Words,
    _processes: [Process; 2],
}

/// Begins a connection; both ends have it when this returns.
pub(super) async fn begin(stage: &mut Stage<'_>, what: &Talk) -> Result<()> {
    let program = probe_program()?.display().to_string();
    let silent = |talks: bool| (!talks).then(|| "--silent".to_owned());
    let protocol = match what.protocol {
        Transport::Tcp => "--protocol=tcp",
        Transport::Udp => "--protocol=udp",
    };
    let word = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let limit = Duration::from_secs(10);
    let mut argv = word(&[&program, "talk", "listen", protocol]);
    argv.push(format!("--port={}", what.port));
    argv.extend(silent(what.talks != Ends::Caller));
    let to = spot::network(stage.lab, &stage.pods, &what.to)?;
    let mut listener = Process::start(&to, &argv)?.ready(limit).await?;
    let address = services::address(stage, &what.to, what.family).await?;
    let mut argv = word(&[&program, "talk", "call", protocol]);
    argv.push(SocketAddr::new(address, what.port).to_string());
    argv.extend(silent(what.talks != Ends::Called));
    let from = spot::network(stage.lab, &stage.pods, &what.from)?;
    let mut caller = Process::start(&from, &argv)?.ready(limit).await?;
    let talking = Talking {
        what: what.clone(),
        called: listener.follow()?,
        caller: caller.follow()?,
        _processes: [caller, listener],
    };
    wait::until(limit, async || match talking.silent(talking.heard()?) {
        Some(_) => bail!("connection {} is not there", what.name),
        None => Ok(()),
    })
    .await?;
    stage.talks.insert(what.name.clone(), talking);
    Ok(())
}

/// Whether connections go on, or have ended.
pub(super) async fn hears(stage: &Stage<'_>, what: &Hears) -> Result<()> {
    let watched = time(&what.watched)?;
    for name in &what.talks {
        let talking = stage
            .talks
            .get(name)
            .with_context(|| format!("there is no connection {name}"))?;
        wait::until(time(&what.within)?, async || {
            let before = talking.heard()?;
            if what.still {
                tokio::time::sleep(watched).await;
                let Some(silent) = talking.more(before)? else {
                    return Ok(());
                };
                bail!("{name}: {silent} hears nothing any more");
            }
            let until = tokio::time::Instant::now() + watched;
            while tokio::time::Instant::now() < until {
                tokio::time::sleep(LOOK).await;
                let now = talking.heard()?;
                if now != before {
                    bail!("{name}: still heard, {before:?} and then {now:?} bytes");
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

impl Talking {
    /// Bytes that the caller and the called have heard.
    fn heard(&self) -> Result<(u64, u64)> {
        let bytes = |words: &Words| -> Result<u64> {
            let line = words.last();
            if line.is_empty() {
                return Ok(0);
            }
            Ok(serde_json::from_str::<Heard>(&line)?.bytes)
        };
        Ok((bytes(&self.caller)?, bytes(&self.called)?))
    }

    /// An end that should have heard more than before and has not.
    fn more(&self, before: (u64, u64)) -> Result<Option<&str>> {
        let now = self.heard()?;
        Ok(self.silent((now.0 - before.0, now.1 - before.1)))
    }

    /// An end that is talked to and hears nothing.
    fn silent(&self, heard: (u64, u64)) -> Option<&str> {
        let talks = self.what.talks;
        if talks != Ends::Caller && heard.0 == 0 {
            return Some(&self.what.from);
        }
        (talks != Ends::Called && heard.1 == 0).then_some(&self.what.to)
    }
}

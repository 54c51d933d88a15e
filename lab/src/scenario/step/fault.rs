//! `fault` and `processes`: breaks something on purpose, and sees whether it runs.

use anyhow::{Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::time;
use crate::scenario::model::{self, Fault, Processes};
use crate::scenario::stage::Stage;
use crate::scenario::wait;

pub(super) fn title(what: &Fault) -> String {
    match what {
        Fault::Signal(signal) => format!(
            "{} to {} on node {}",
            signal.signal, signal.process, signal.node
        ),
        Fault::ApiServer(switch) => format!("API server {switch:?}"),
    }
}

pub(super) async fn run(stage: &mut Stage<'_>, what: &Fault) -> Result<()> {
    match what {
        Fault::Signal(what) => signal(stage, what),
        Fault::ApiServer(switch) => stage.lab.api_server(*switch).await,
    }
}

fn signal(stage: &Stage<'_>, what: &model::Signal) -> Result<()> {
    let signal: Signal = format!("SIG{}", what.signal).parse().map_err(|_| {
        anyhow!(
            "{:?} is no signal: write KILL, TERM, STOP or CONT",
            what.signal
        )
    })?;
    let numbers = if what.node == 0 {
        1..=stage.lab.nodes.len()
    } else {
        what.node..=what.node
    };
    let mut sent = 0;
    for number in numbers {
        for process in stage.lab.processes(number, &what.process)? {
            // It may end in this very moment, which is no failure of the fault.
            sent += u32::from(kill(Pid::from_raw(process.pid), signal).is_ok());
        }
    }
    if sent == 0 {
        bail!("no process {:?} was found there", what.process);
    }
    Ok(())
}

/// Node numbers, where 0 is every one.
fn numbers(stage: &Stage<'_>, node: usize) -> std::ops::RangeInclusive<usize> {
    if node == 0 {
        1..=stage.lab.nodes.len()
    } else {
        node..=node
    }
}

pub(super) async fn processes(stage: &mut Stage<'_>, what: &Processes) -> Result<()> {
    wait::until(time(&what.within)?, async || {
        for number in numbers(stage, what.node) {
            let found = stage.lab.processes(number, &what.process)?;
            if found.is_empty() != what.absent {
                bail!(
                    "on node {number} there are {} processes {:?}",
                    found.len(),
                    what.process
                );
            }
        }
        Ok(())
    })
    .await
}

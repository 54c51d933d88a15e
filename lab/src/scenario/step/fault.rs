//! `fault`: breaks something on purpose.

use anyhow::{Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scenario::model::{self, Fault};
use crate::scenario::stage::Stage;

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

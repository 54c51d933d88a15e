//! The sandbox's first process: it keeps the namespaces alive, buries orphans and ends on request.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::Error;

/// Waits until SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be blocked.
pub fn run() -> Result<(), Error> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals
        .thread_block()
        .map_err(Error::call("block signals"))?;
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(Error::call("wait for signals")(error)),
        }
    }
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

//! Turns SIGTERM and SIGINT into an orderly end: signals are blocked everywhere and waited for in
//! one place. Blocked signals reach a container's first process too, whose default is to ignore them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

use super::Error;

/// Becomes true when the program is asked to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Blocks the signals in this thread and those it starts, and watches for them. Call it first.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install() -> Result<Self, Error> {
        let signals = block()?;
        let stop = Self::default();
        let seen = stop.clone();
        std::thread::spawn(move || {
            if signals.wait().is_ok() {
                seen.0.store(true, Ordering::Release);
            }
        });
        Ok(stop)
    }

    /// Has the end been asked for?
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Blocks SIGTERM and SIGINT in this thread and those it starts.
///
/// # Errors
/// When the kernel refuses.
pub fn block() -> Result<SigSet, Error> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
        .thread_block()
        .map_err(Error::call("block SIGTERM and SIGINT"))?;
    Ok(signals)
}

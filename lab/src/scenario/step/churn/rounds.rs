//! The sandboxes' lives, many at once, and the kills meanwhile. Each thread waits for programs, so
//! threads they are.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ledger::Ledger;
use super::plugin::Plugin;
use crate::scenario::lab::Lab;
use crate::scenario::model::Pause;
use crate::scenario::number::Random;

/// Before a runtime tries again.
const RETRY: Duration = Duration::from_millis(300);
/// How often the killer looks for its victim.
const LOOK: Duration = Duration::from_millis(10);

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) run: String,
    pub(super) node: usize,
    pub(super) adds: u64,
    pub(super) parallel: u64,
    pub(super) life: Pause,
    pub(super) kills: u64,
    pub(super) between_kills: Pause,
    pub(super) container_kills: u64,
    pub(super) leaks: u64,
    pub(super) is_full: bool,
    pub(super) deadline: Instant,
    pub(super) seed: u64,
}

/// What is shared while it is done.
#[derive(Debug)]
pub(super) struct Rounds {
    plan: Plan,
    plugin: Plugin,
    ledger: Mutex<Ledger>,
    /// Sandboxes whose namespace is there.
    present: Mutex<BTreeSet<String>>,
    begun: AtomicU64,
    added: AtomicU64,
    killed: AtomicU64,
}

impl Rounds {
    pub(super) fn new(plan: Plan, plugin: Plugin) -> Self {
        Self {
            plan,
            plugin,
            ledger: Mutex::default(),
            present: Mutex::default(),
            begun: AtomicU64::new(0),
            added: AtomicU64::new(0),
            killed: AtomicU64::new(0),
        }
    }

    /// All of it. What went wrong is in the ledger.
    pub(super) fn run(&self, lab: &Lab) {
        std::thread::scope(|scope| {
            for worker in 0..self.plan.parallel {
                scope.spawn(move || self.work(worker));
            }
            scope.spawn(|| self.kill(lab));
        });
        if self.added.load(Ordering::SeqCst) < self.plan.adds || self.kills_left() > 0 {
            let (added, killed) = (
                self.added.load(Ordering::SeqCst),
                self.killed.load(Ordering::SeqCst),
            );
            self.wrong(format!(
                "the time is up after {added} ADDs and {killed} kills"
            ));
        }
    }

    /// Makes one sandbox that stays until [`Rounds::clean`].
    pub(super) fn leave_one(&self) {
        self.begin(&format!("{}-stays", self.plan.run));
    }

    /// Takes away what is still there, whatever went wrong before.
    pub(super) fn clean(&self) {
        let present = lock(&self.present).clone();
        for sandbox in present {
            self.end(&sandbox);
        }
    }

    /// What was seen so far.
    pub(super) fn ledger(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    fn kills_left(&self) -> u64 {
        let all = self.plan.kills + self.plan.container_kills;
        all.saturating_sub(self.killed.load(Ordering::SeqCst))
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.plan.deadline
    }

    fn work(&self, worker: u64) {
        let mut random = Random::new(self.plan.seed.wrapping_add(worker + 1));
        // As long as there is somebody to kill there is somebody at work.
        while !self.is_late()
            && (self.added.load(Ordering::SeqCst) < self.plan.adds || self.kills_left() > 0)
        {
            let number = self.begun.fetch_add(1, Ordering::SeqCst);
            let sandbox = format!("{}-{number}", self.plan.run);
            if !self.begin(&sandbox) {
                self.end(&sandbox);
                std::thread::sleep(RETRY);
                continue;
            }
            let life = self.plan.life.get(self.plan.is_full, random.share());
            std::thread::sleep(life.unwrap_or_default());
            let count = self.added.fetch_add(1, Ordering::SeqCst) + 1;
            if self.leaks(count) {
                self.abandon(&sandbox);
            } else {
                self.end(&sandbox);
            }
        }
    }

    /// The leaks are spread evenly over the ADDs.
    fn leaks(&self, count: u64) -> bool {
        let Plan { adds, leaks, .. } = self.plan;
        count <= adds && count * leaks / adds > (count - 1) * leaks / adds
    }

    fn begin(&self, sandbox: &str) -> bool {
        if let Err(error) = self.plugin.make(sandbox) {
            self.wrong(format!("{error:#}"));
            return false;
        }
        lock(&self.present).insert(sandbox.to_owned());
        match self.plugin.add(sandbox) {
            Ok(Ok(addresses)) => {
                lock(&self.ledger).begin(sandbox, addresses);
                return true;
            }
            Ok(Err(refused)) => lock(&self.ledger).refused.push(refused),
            Err(error) => self.wrong(format!("{error:#}")),
        }
        false
    }

    fn end(&self, sandbox: &str) {
        lock(&self.ledger).end(sandbox);
        if let Err(error) = self.plugin.del(sandbox) {
            self.wrong(format!("{error:#}"));
        }
        self.abandon(sandbox);
    }

    fn abandon(&self, sandbox: &str) {
        lock(&self.ledger).end(sandbox);
        if !lock(&self.present).remove(sandbox) {
            return;
        }
        if let Err(error) = self.plugin.delete(sandbox) {
            self.wrong(format!("{error:#}"));
        }
    }

    fn kill(&self, lab: &Lab) {
        let mut random = Random::new(self.plan.seed);
        let Plan {
            kills,
            container_kills,
            ..
        } = self.plan;
        let all = kills + container_kills;
        for count in 1..=all {
            let is_container = count * container_kills / all > (count - 1) * container_kills / all;
            let words = if is_container {
                "weft-agent run"
            } else {
                "weft-agent work"
            };
            // A new one is there, or will be in a moment.
            let victims = loop {
                if self.is_late() {
                    return;
                }
                match lab.processes(self.plan.node, words) {
                    Ok(victims) if !victims.is_empty() => break victims,
                    _ => std::thread::sleep(LOOK),
                }
            };
            let pause = self
                .plan
                .between_kills
                .get(self.plan.is_full, random.share());
            std::thread::sleep(pause.unwrap_or_default());
            for victim in victims {
                // It may have ended with its container.
                let _ = kill(Pid::from_raw(victim.pid), Signal::SIGKILL);
            }
            self.killed.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn wrong(&self, sentence: String) {
        lock(&self.ledger).wrong.push(sentence);
    }
}

/// What a thread that panicked left is still worth reading.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The loop: a store changes, a snapshot is taken and compiled, and if this process leads the
//! differences are written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weft_daemon::{client, probes, termination};

use crate::apply::{Applier, Outcome};
use crate::compile::compile;
use crate::diff::{Change, diff};
use crate::error::Error;
use crate::health::Health;
use crate::leader::{Elector, Leadership};
use crate::metrics::WriteLabels;
use crate::patience::Patience;
use crate::settings::RunSettings;
use crate::snapshot::Snapshot;
use crate::stores::{Chain, Stores, WatchOptions};
use crate::zones::memo::Memo;

/// Changes that arrive together are compiled together.
const SETTLE: Duration = Duration::from_millis(100);
/// Counts in a status are written at most this often.
const COUNTS_INTERVAL: Duration = Duration::from_secs(3);
/// Without any change, for what only time tells: grace periods.
const TICK: Duration = Duration::from_secs(5);
/// After a write failed.
const RETRY: Duration = Duration::from_secs(1);
/// A write that is not answered in time is given up; the next round decides anew.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration or the port cannot be used, or a background task ended.
pub async fn run(settings: RunSettings) -> Result<(), Error> {
    let client = client::client(&settings.api).await?;
    let identity = settings.identity.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}_{}", host.trim(), std::process::id())
    });
    let health = Arc::new(Health::default());
    let listener = probes::listen(settings.health_port).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(probes::serve(listener, Arc::clone(&health)));

    let (elector, leadership) = Elector::new(
        client.clone(),
        &settings.namespace,
        &settings.lease_name,
        &identity,
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let election = tokio::spawn(elector.run(async {
        let _ = stopped.await;
    }));

    let controller = Controller {
        applier: Applier::new(client.clone(), &identity),
        leadership,
        health,
        node_grace: settings.node_grace,
        agent_grace: settings.agent_grace,
        default_balancer: settings.default_load_balancer,
        cluster_domain: settings.cluster_domain.clone(),
    };
    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "started");
    let ended = tokio::select! {
        error = controller.run(&client, WatchOptions::default(), &mut tasks) => Err(error),
        () = termination() => Ok(()),
    };
    drop(stop);
    let _ = election.await;
    ended
}

/// The controllers, once connected.
pub struct Controller {
    /// Makes changes.
    pub applier: Applier,
    /// Whether to write.
    pub leadership: Leadership,
    /// What the probes ask for.
    pub health: Arc<Health>,
    /// How long a Node must be gone before its blocks are released.
    pub node_grace: Duration,
    /// How long an agent may be silent before its node is marked.
    pub agent_grace: Duration,
    /// Services of type LoadBalancer without a class are ours too.
    pub default_balancer: bool,
    /// The cluster's domain.
    pub cluster_domain: String,
}

impl Controller {
    /// Runs until a background task ends, which none should.
    pub async fn run(
        mut self,
        client: &Client,
        options: WatchOptions,
        tasks: &mut JoinSet<()>,
    ) -> Error {
        let bell = Arc::new(Notify::new());
        let stores = Stores::start(client, &bell, options, tasks);
        let began = Instant::now();
        let mut state = LoopState::default();
        tokio::select! {
            () = stores.synced() => {}
            _ = tasks.join_next() => return Error::TaskEnded { task: "a watch" },
        }
        self.health.synced.store(true, Ordering::Relaxed);
        tracing::info!("every watch has synced");
        loop {
            let wait = self.round(&stores, &mut state, began).await;
            tokio::select! {
                () = bell.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = self.leadership.changed() => {}
                _ = tasks.join_next() => return Error::TaskEnded { task: "a watch" },
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// One round; how long to wait for the next if nothing happens.
    async fn round(&self, stores: &Stores, state: &mut LoopState, began: Instant) -> Duration {
        let leads = self.leadership.holds();
        self.health.metrics.leading.set(i64::from(leads));
        if !leads {
            state.patience.restart();
            return TICK;
        }
        let Some(mut snapshot) = stores.snapshot() else {
            return TICK;
        };
        snapshot.node_grace = self.node_grace;
        snapshot.agent_grace = self.agent_grace;
        snapshot.default_balancer = self.default_balancer;
        snapshot.zone_memo = Arc::clone(&state.zone_memo);
        snapshot.cluster_domain.clone_from(&self.cluster_domain);
        snapshot.now = whole_seconds(Timestamp::now());
        state.patience.observe(&mut snapshot, began.elapsed());
        snapshot.told = std::mem::take(&mut state.told);
        let changes = self.changes(&snapshot, state);
        let mut wait = next_deadline(&snapshot);
        if state.counts_wait {
            wait = wait.min(COUNTS_INTERVAL);
        }
        if self.write(&changes).await {
            wait
        } else {
            RETRY
        }
    }

    fn changes(&self, snapshot: &Snapshot, state: &mut LoopState) -> Vec<Change> {
        let plan = compile(snapshot);
        self.health.metrics.record(snapshot, &plan);
        // Whether or not an Event can be written, it is not tried again; what is right now is forgotten.
        state.told = snapshot.told_after(&plan);
        let mut changes = diff(&plan, snapshot);
        let now = Instant::now();
        let counts_due = state
            .counts_written
            .is_none_or(|at| now.duration_since(at) >= COUNTS_INTERVAL);
        state.counts_wait = false;
        if counts_due {
            if changes.iter().any(|change| !change.is_urgent()) {
                state.counts_written = Some(now);
            }
        } else {
            let all = changes.len();
            changes.retain(Change::is_urgent);
            state.counts_wait = changes.len() < all;
        }
        changes
    }

    /// Writes while leading; whether all went well.
    async fn write(&self, changes: &[Change]) -> bool {
        let mut well = true;
        for change in changes {
            if !self.leadership.holds() {
                return false;
            }
            let written = tokio::time::timeout(WRITE_TIMEOUT, self.applier.apply(change)).await;
            let result = match written {
                Ok(Ok(Outcome::Done)) => {
                    tell(change);
                    "done"
                }
                Ok(Ok(Outcome::Overtaken)) => "overtaken",
                Ok(Err(error)) => {
                    tracing::warn!(change = change.verb(), error = %Chain(&error), "a write failed");
                    "failed"
                }
                Err(_) => {
                    tracing::warn!(change = change.verb(), "a write was not answered in time");
                    "failed"
                }
            };
            well &= result != "failed";
            let labels = WriteLabels {
                change: change.verb(),
                result,
            };
            self.health.metrics.writes.get_or_create(&labels).inc();
        }
        well
    }
}

#[derive(Default)]
struct LoopState {
    patience: Patience,
    counts_written: Option<Instant>,
    counts_wait: bool,
    zone_memo: Arc<Memo>,
    told: BTreeSet<(String, String)>,
}

fn tell(change: &Change) {
    match change {
        Change::CreateBlock(block) => {
            tracing::info!(
                block = block.name,
                pool = block.pool,
                node = block.node,
                "granted a block"
            );
        }
        Change::DrainBlock(drain) => {
            tracing::info!(
                block = drain.block.name,
                node = drain.block.node,
                reason = drain.reason.as_str(),
                "draining a block"
            );
        }
        Change::DeleteBlock(delete) => {
            tracing::info!(
                block = delete.block.name,
                node = delete.block.node,
                reason = delete.reason.as_str(),
                "took a block back"
            );
        }
        _ => tracing::debug!(change = change.verb(), "wrote"),
    }
}

/// When the next grace period ends, at most a tick away.
fn next_deadline(snapshot: &Snapshot) -> Duration {
    let gone = snapshot
        .gone
        .values()
        .map(|gone| (snapshot.node_grace, *gone));
    let silent = snapshot
        .silent
        .values()
        .map(|silent| (snapshot.agent_grace, *silent));
    gone.chain(silent)
        .filter(|(grace, passed)| passed < grace)
        .map(|(grace, passed)| grace - passed)
        .fold(TICK, Duration::min)
}

/// Conditions have whole seconds: what is written is what is read back.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

//! The worker: the engine in its thread, and around it one loop that watches, serves and writes.
//!
//! This is the one place that starts tasks. They share no state; each gets what it needs by
//! channel. If one of them ends, the process ends, and the supervisor starts another.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use weft_crds::NodeNetworkStatus;

use crate::cli::{Settings, WorkArgs};
use crate::engine::{self, EngineConfig, EngineHandle, Input, Output};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::services::checks::{self, Checks};
use crate::services::health::{self as proxy_health, ProxyHealth};
use crate::status::events::Notice;
use crate::status::node_report::Report;
use crate::status::pod_address::Change;
use crate::status::{self, Writer};
use crate::watch::{Identity, Synced};
use crate::{api, cni_conf, cni_server, descriptors, dns, errors, health};

/// For the engine to finish its round when it is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the worker ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not started by a supervisor, or not as it does.
    #[error(
        "failed to take the supervisor's descriptors; weft-agent work is started by weft-agent run"
    )]
    Inherit(#[source] io::Error),
    /// The node's name is missing.
    #[error("the node's name is empty: give --node-name (NODE_NAME)")]
    NodeName,
    /// The DNS server of this node could not be listened to.
    #[error("failed to listen to the DNS server of this node")]
    DnsSocket(#[source] io::Error),
    /// The loop could not be made.
    #[error("failed to start the event loop")]
    Runtime(#[source] io::Error),
    /// A part of the agent has ended, which it never should.
    #[error("{0} ended")]
    Ended(String),
}

/// Works until told to stop.
///
/// # Errors
/// Where the worker cannot start, or a part of it has ended.
pub fn run(arguments: &WorkArgs) -> Result<(), Error> {
    let WorkArgs {
        nft_descriptor,
        cni_descriptor,
        supervisor,
        settings,
    } = arguments;
    if settings.node_name.is_empty() {
        return Err(Error::NodeName);
    }
    die_with(*supervisor).map_err(Error::Inherit)?;
    let nft_socket = descriptors::inherit(*nft_descriptor).map_err(Error::Inherit)?;
    let listener = descriptors::inherit(*cni_descriptor).map_err(Error::Inherit)?;
    let engine = engine::start(EngineConfig {
        node: settings.node_name.clone(),
        state_dir: settings.state_dir.clone(),
        spool_dir: settings.spool_dir(),
        netns_dir: settings.netns_dir.clone(),
        sysctl_dir: settings.sysctl_dir.clone(),
        boot_id: engine::BOOT_ID.into(),
        grace_seconds: settings.sandbox_grace.as_secs(),
        nft_socket,
        services: settings.service_settings(),
        dns: settings.dns_addresses.clone(),
        policies: settings.policies,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(work(settings.clone(), engine, listener))
}

/// A worker without its supervisor would serve with sockets that nobody hands on.
fn die_with(supervisor: i32) -> io::Result<()> {
    SigSet::empty().thread_set_mask()?;
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid().as_raw() != supervisor {
        return Err(io::Error::other("the supervisor is gone"));
    }
    Ok(())
}

/// Where outputs of the engine go.
struct Outlets {
    network: watch::Sender<Option<NodeNetworkStatus>>,
    reports: mpsc::UnboundedSender<Report>,
    notices: mpsc::UnboundedSender<Notice>,
    changes: mpsc::UnboundedSender<Change>,
    ready: watch::Sender<bool>,
    checks: watch::Sender<Checks>,
    pods_needed: watch::Sender<bool>,
    health: Arc<Health>,
    proxy: Arc<ProxyHealth>,
    metrics: Arc<Metrics>,
}

/// The other ends, for the writers.
struct Wanted {
    network: watch::Receiver<Option<NodeNetworkStatus>>,
    reports: mpsc::UnboundedReceiver<Report>,
    notices: mpsc::UnboundedReceiver<Notice>,
    changes: mpsc::UnboundedReceiver<Change>,
    pods_needed: watch::Receiver<bool>,
    /// For writers of their own accord.
    to_notices: mpsc::UnboundedSender<Notice>,
}

async fn work(settings: Settings, engine: EngineHandle, listener: OwnedFd) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
    let EngineHandle { inputs, outputs } = engine;
    let (health, metrics) = (Arc::<Health>::default(), Arc::<Metrics>::default());
    let proxy = Arc::<ProxyHealth>::default();
    let (outlets, wanted) = outlets(health.clone(), proxy.clone(), metrics.clone());
    let listener = StdListener::from(listener);
    listener.set_nonblocking(true).map_err(Error::Inherit)?;
    let server = cni_server::Server {
        listener: UnixListener::from_std(listener).map_err(Error::Inherit)?,
        inputs: inputs.clone(),
        ready_file: settings.ready_file(),
        metrics: metrics.clone(),
    };

    if !settings.dns_addresses.is_empty() {
        dns::start(&settings.dns_socket(), inputs.clone()).map_err(Error::DnsSocket)?;
    }

    let mut parts = JoinSet::new();
    let ready = outlets.ready.subscribe();
    spawn(
        &mut parts,
        "the CNI files' installer",
        never_ends(cni_conf::run(settings.clone(), ready, health.clone())),
    );
    let serving = spawn(&mut parts, "the CNI server", server.run());
    let port = settings.health_port;
    spawn(
        &mut parts,
        "the health server",
        health::run(
            settings.health_address,
            port,
            health.clone(),
            metrics.clone(),
        ),
    );
    if settings.services {
        spawn_service_health(&mut parts, &settings, &outlets, &wanted);
    }
    spawn(&mut parts, "the engine", dispatch(outputs, outlets));
    spawn(
        &mut parts,
        "the API client",
        cluster(settings, inputs.clone(), wanted, health, proxy, metrics),
    );

    tokio::select! {
        _ = terminate.recv() => {
            tracing::info!("stopping; the kernel stays as it is");
            serving.abort();
            stop(&inputs, &mut parts).await;
            Ok(())
        }
        Some(ended) = parts.join_next() => Err(Error::Ended(match ended {
            Ok(name) => name.to_owned(),
            Err(error) => errors::chain(&error),
        })),
    }
}

fn spawn(
    parts: &mut JoinSet<&'static str>,
    name: &'static str,
    part: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::AbortHandle {
    parts.spawn(async move {
        part.await;
        name
    })
}

/// The answers that load balancers ask for, as from kube-proxy.
fn spawn_service_health(
    parts: &mut JoinSet<&'static str>,
    settings: &Settings,
    outlets: &Outlets,
    wanted: &Wanted,
) {
    let (address, port) = (settings.health_address, settings.proxy_health_port);
    let (proxy, metrics) = (outlets.proxy.clone(), outlets.metrics.services.clone());
    if port != 0 {
        spawn(
            parts,
            "the service proxy's health server",
            proxy_health::run(address, port, proxy.clone(), metrics),
        );
    }
    spawn(
        parts,
        "the health check node ports",
        never_ends(checks::run(
            outlets.checks.subscribe(),
            proxy,
            wanted.to_notices.clone(),
        )),
    );
}

async fn never_ends(part: impl Future<Output = ()>) {
    part.await;
    std::future::pending().await
}

/// Tells the engine, and waits until it has ended.
async fn stop(inputs: &Sender<Input>, parts: &mut JoinSet<&'static str>) {
    if inputs.send(Input::Stop).is_err() {
        return;
    }
    let ended = async {
        while let Some(ended) = parts.join_next().await {
            if ended.is_ok_and(|name| name == "the engine") {
                return;
            }
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
        tracing::warn!("the engine did not finish its round in time");
    }
}

fn outlets(
    health: Arc<Health>,
    proxy: Arc<ProxyHealth>,
    metrics: Arc<Metrics>,
) -> (Outlets, Wanted) {
    let (network, wanted_network) = watch::channel(None);
    let (reports, wanted_reports) = mpsc::unbounded_channel();
    let (notices, wanted_notices) = mpsc::unbounded_channel();
    let (changes, wanted_changes) = mpsc::unbounded_channel();
    let (ready, _) = watch::channel(false);
    let (checks, _) = watch::channel(Checks::new());
    let (pods_needed, wanted_pods) = watch::channel(false);
    let wanted = Wanted {
        network: wanted_network,
        reports: wanted_reports,
        notices: wanted_notices,
        changes: wanted_changes,
        pods_needed: wanted_pods,
        to_notices: notices.clone(),
    };
    (
        Outlets {
            network,
            reports,
            notices,
            changes,
            ready,
            checks,
            pods_needed,
            health,
            proxy,
            metrics,
        },
        wanted,
    )
}

/// Directs each output of the engine. Ends with the engine.
async fn dispatch(mut outputs: mpsc::UnboundedReceiver<Output>, outlets: Outlets) {
    let Outlets {
        network,
        reports,
        notices,
        changes,
        ready,
        checks,
        pods_needed,
        health,
        proxy,
        metrics,
    } = outlets;
    // A writer's end closes only when the process ends.
    while let Some(output) = outputs.recv().await {
        match output {
            Output::Attached(attached) => drop(changes.send(Change::Attached(attached))),
            Output::Released {
                key,
                pod_uid: _,
                namespace: _,
            } => drop(changes.send(Change::Released(key))),
            Output::Network(status) => drop(network.send_replace(Some(status))),
            Output::Report { report, urgent } => drop(reports.send(Report {
                spec: report,
                urgent,
            })),
            Output::Event {
                warning,
                reason,
                message,
            } => {
                if warning {
                    tracing::warn!(reason, message, "event");
                } else {
                    tracing::info!(reason, message, "event");
                }
                drop(notices.send(Notice {
                    warning,
                    reason,
                    message,
                }));
            }
            Output::Ready => {
                health.set_planned();
                metrics.ready.set(1);
                drop(changes.send(Change::Complete));
                ready.send_replace(true);
            }
            Output::Counters(counters) => metrics.count_engine(&counters),
            Output::Balanced(balanced) => {
                proxy.updated(balanced.heard, Instant::now());
                metrics.services.balanced(&balanced);
            }
            Output::NotBalanced => metrics.services.failed(),
            Output::DnsServing(serving) => {
                metrics.dns_serving.set(serving.into());
            }
            Output::PodsNeeded(needed) => drop(pods_needed.send_replace(needed)),
            Output::Enforced(enforced) => metrics.policies.enforced(&enforced),
            Output::NotEnforced => metrics.policies.failed(),
            Output::ServiceChecks(now) => drop(checks.send_replace(now)),
            Output::Reconciled(reconciled) => metrics.services.reconciled(&reconciled),
            Output::Alive => health.set_alive(Instant::now()),
        }
    }
}

/// Everything that speaks with the API server. Nothing else waits for it.
async fn cluster(
    settings: Settings,
    inputs: Sender<Input>,
    wanted: Wanted,
    health: Arc<Health>,
    proxy: Arc<ProxyHealth>,
    metrics: Arc<Metrics>,
) {
    let client = client(&settings, &metrics).await;
    let node = settings.node_name.clone();
    let writer = Writer {
        client: client.clone(),
        node: node.clone(),
        metrics: metrics.clone(),
    };
    let (synced, mut now_synced) = watch::channel(Synced::default());
    let (identity, known_identity) = watch::channel(Identity::default());
    let Wanted {
        network,
        reports,
        notices,
        changes,
        pods_needed,
        to_notices: _,
    } = wanted;
    let tell_health = async {
        while now_synced.changed().await.is_ok() {
            health.set_synced(*now_synced.borrow_and_update());
        }
    };
    let mut now_known = known_identity.clone();
    let tell_proxy = async {
        while now_known.changed().await.is_ok() {
            proxy.set_eligible(now_known.borrow_and_update().stays);
        }
    };
    let services = async {
        if settings.services {
            let (client, inputs) = (client.clone(), inputs.clone());
            crate::watch::services::run(client, inputs, proxy.clone(), metrics.clone()).await;
        } else {
            std::future::pending().await
        }
    };
    let policies = async {
        if settings.policies {
            let (client, inputs) = (client.clone(), inputs.clone());
            crate::watch::policies::run(client, inputs, pods_needed, metrics.clone()).await;
        } else {
            std::future::pending().await
        }
    };
    let peers = settings.policies.then(|| inputs.clone());
    tokio::select! {
        () = services => {}
        () = policies => {}
        () = crate::watch::cluster::run(client.clone(), node, inputs.clone(), peers.clone(), synced, identity, metrics.clone()) => {}
        () = tell_health => {}
        () = tell_proxy => {}
        () = status::node_network::run(writer.clone(), network, known_identity.clone()) => {}
        () = status::node_report::run(writer.clone(), reports, known_identity.clone()) => {}
        () = status::events::run(writer.clone(), notices, known_identity) => {}
        () = status::pod_address::run(writer, changes, peers) => {}
    }
}

/// Credentials may come late: the kubelet writes them when the API server gives them out.
async fn client(settings: &Settings, metrics: &Arc<Metrics>) -> kube::Client {
    let mut told = String::new();
    loop {
        match api::client(settings, metrics.clone()).await {
            Ok(client) => return client,
            Err(error) => {
                let text = errors::chain(&error);
                if text != told {
                    tracing::error!(error = text, "no client of the API server; trying again");
                    told = text;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

//! Starts threads and tasks, takes what watches say, and puts answers in force; stops when told to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use weft_core::zones::config::{Config, ConfigSpec, PodMode};
use weft_core::zones::directory::Needs;
use weft_daemon::{client, probes, termination};

use crate::agent;
use crate::error::Error;
use crate::forward::{self, Forwarder, Policy};
use crate::forwards::Forwards;
use crate::health::{Health, Readiness};
use crate::metrics::Metrics;
use crate::resolv_conf;
use crate::server::queue::Queue;
use crate::server::tls::{self, Speech};
use crate::server::{Served, socket, stream, udp};
use crate::settings::RunSettings;
use crate::snapshot::Saved;
use crate::state::{Input, State, Watched};
use crate::upstream::Upstream;
use crate::watch::Watches;

/// Changes that arrive within so long of each other are put in force together.
const SETTLE: Duration = Duration::from_millis(10);
/// How often what is served is written down, at most.
const SAVE: Duration = Duration::from_secs(30);
/// Updates that may wait.
const WAITING: usize = 4096;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Values that cannot be used, a port that is taken.
pub async fn run(settings: RunSettings) -> Result<(), Error> {
    let config = config(settings.config.as_deref())?;
    let metrics = Arc::<Metrics>::default();
    let health = Arc::new(Health::new(Arc::clone(&metrics)));
    let watched = Watched {
        imports: config
            .zones
            .iter()
            .any(|(_, kind)| *kind == weft_core::zones::config::ZoneKind::ClusterSet),
        pods: config.pods == PodMode::Verified,
    };
    let mut state = State::new(config.clone(), watched, settings.listen.iter().copied())
        .map_err(|error| values(settings.config.as_deref(), &error))?;
    if let Some(saved) = settings.state_dir.as_deref().and_then(Saved::read) {
        metrics.snapshot_time.store(saved.time, Ordering::Relaxed);
        metrics.from_disk.store(1, Ordering::Relaxed);
        state.restore(saved);
        health.set(Readiness::FromDisk);
    }
    let forwards = Arc::new(Forwards::new(Arc::clone(&metrics)));
    forwards.set(state.objects().forwards());
    let others = upstream(&settings, &metrics)?;
    let upstream = Upstream::Zones(Arc::clone(&forwards), Box::new(others));
    let served = Arc::new(Served::new(
        state.compile(now_serial()),
        upstream,
        Arc::clone(&metrics),
    ));
    let mut tasks = JoinSet::new();
    let sockets = serve(&settings, &served, &mut tasks)?;
    tasks.spawn(probes::serve(
        probes::listen(settings.health_port).await?,
        Arc::clone(&health),
    ));
    if let Some(socket) = settings.agent_socket.clone() {
        let word = agent::Word::new(Arc::clone(&health), Arc::clone(&served));
        tasks.spawn(agent::tell(socket, sockets, word));
    }
    let client = client::client(&settings.api).await?;
    let (sender, updates) = mpsc::channel(WAITING);
    let (needs, needed) = watch::channel(state.needs());
    let mut watches = Watches {
        client: &client,
        updates: &sender,
        metrics: &metrics,
        tasks: &mut tasks,
    };
    watches.start(&config, watched, &needed);
    drop(sender);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = ?settings.listen, "serving");
    let mut keeper = Keeper {
        state,
        forwards,
        needs,
        served: Arc::clone(&served),
        health: Arc::clone(&health),
        folder: settings.state_dir.clone(),
        save_at: Instant::now(),
        unsaved: false,
    };
    tokio::select! {
        () = keeper.keep(updates) => {}
        () = end(&settings, &health) => {}
    }
    served.stopped.store(true, Ordering::Relaxed);
    keeper.save();
    Ok(())
}

fn config(path: Option<&Path>) -> Result<Config, Error> {
    let Some(path) = path else {
        return Config::parse(&ConfigSpec::default()).map_err(|error| values(None, &error));
    };
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.into(),
        source,
    })?;
    let spec: ConfigSpec =
        serde_json::from_str(&text).map_err(|error| values(Some(path), &error))?;
    Config::parse(&spec).map_err(|error| values(Some(path), &error))
}

fn values(path: Option<&Path>, fault: &dyn std::fmt::Display) -> Error {
    Error::Values {
        path: path.unwrap_or(Path::new("dns.cluster")).into(),
        fault: fault.to_string(),
    }
}

fn upstream(settings: &RunSettings, metrics: &Arc<Metrics>) -> Result<Upstream, Error> {
    let path = Path::new(&settings.resolv_conf);
    if path.as_os_str().is_empty() {
        return Ok(Upstream::None);
    }
    let servers = match resolv_conf::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|source| Error::File {
            path: path.into(),
            source,
        })?,
    };
    let others = forward::others(&servers, &settings.listen);
    if others.is_empty() {
        tracing::warn!(path = %path.display(), "nobody to ask for names outside: no nameserver there");
        return Ok(Upstream::None);
    }
    let forwarder = Forwarder::new(others, Policy::Sequential, Arc::clone(metrics))
        .map_err(|error| Error::Forwarder(error.into()))?;
    Ok(Upstream::Forward(Arc::new(forwarder)))
}

/// Opens all sockets before anything is served, and starts a thread for each core at each address. Answers a copy of one
/// socket of each kind at each address.
fn serve(
    settings: &RunSettings,
    served: &Arc<Served>,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<OwnedFd>, Error> {
    let mut copies = Vec::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if settings.threads == 0 {
        cores
    } else {
        settings.threads
    };
    let queue = Arc::new(Queue::new(Arc::clone(&served.metrics)));
    let mut servers = Vec::new();
    for &address in &settings.listen {
        let failed = |source| Error::Listen { address, source };
        for index in 0..threads {
            let socket = match socket::udp(address) {
                Ok(socket) => socket,
                // A kernel without IPv6 serves IPv4 alone.
                Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
                    tracing::info!(%address, %error, "not served");
                    break;
                }
                Err(source) => return Err(failed(source)),
            };
            if index == 0 {
                copies.push(socket.as_fd().try_clone_to_owned().map_err(failed)?);
            }
            servers.push(
                udp::Server::new(Arc::clone(served), Arc::clone(&queue), socket).map_err(failed)?,
            );
        }
        match socket::tcp(address) {
            Ok(listener) => {
                copies.push(listener.as_fd().try_clone_to_owned().map_err(failed)?);
                let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
                tasks.spawn(stream::serve(Arc::clone(served), listener));
            }
            Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {}
            Err(source) => return Err(failed(source)),
        }
    }
    encrypted(settings, served, tasks)?;
    for (index, server) in servers.into_iter().enumerate() {
        let builder = std::thread::Builder::new().name(format!("udp-{index}"));
        builder.spawn(move || server.run()).map_err(Error::Thread)?;
    }
    tasks.spawn(queue.run(Arc::clone(served)));
    if let Upstream::Zones(_, others) = &served.upstream
        && let Upstream::Forward(forwarder) = others.as_ref()
    {
        tasks.spawn(Arc::clone(forwarder).watch_for_rings());
    }
    Ok(copies)
}

/// Opens the ports of DNS over TLS and over HTTPS.
fn encrypted(
    settings: &RunSettings,
    served: &Arc<Served>,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let (Some(certificate), Some(key)) = (&settings.tls_cert, &settings.tls_key) else {
        return Ok(());
    };
    let files = tls::Files {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let kinds = [
        (&settings.listen_tls, Speech::Dot),
        (&settings.listen_https, Speech::Doh),
    ];
    for (addresses, speech) in kinds {
        for &address in addresses {
            let failed = |source| Error::Listen { address, source };
            let config = files.read(speech)?;
            let listener = socket::tcp(address).map_err(failed)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            let served = Arc::clone(served);
            tasks.spawn(tls::serve(served, listener, files.clone(), speech, config));
        }
    }
    Ok(())
}

/// Takes updates and puts them in force.
struct Keeper {
    state: State,
    forwards: Arc<Forwards>,
    needs: watch::Sender<Needs>,
    served: Arc<Served>,
    health: Arc<Health>,
    folder: Option<std::path::PathBuf>,
    /// Not before.
    save_at: Instant,
    unsaved: bool,
}

impl Keeper {
    async fn keep(&mut self, mut updates: mpsc::Receiver<(Instant, Input)>) {
        loop {
            let unsaved = self.unsaved;
            let (first, input) = tokio::select! {
                received = updates.recv() => match received {
                    Some(received) => received,
                    None => return,
                },
                () = tokio::time::sleep_until(self.save_at.into()), if unsaved => {
                    self.save();
                    continue;
                }
            };
            self.state.apply(input);
            let until = first + SETTLE;
            while let Ok(Some((_, input))) =
                tokio::time::timeout_at(until.into(), updates.recv()).await
            {
                self.state.apply(input);
            }
            self.publish(first);
        }
    }

    fn publish(&mut self, first: Instant) {
        let zones = self.state.compile(now_serial());
        self.forwards.set(self.state.objects().forwards());
        self.needs.send_replace(self.state.needs());
        let metrics = &self.served.metrics;
        metrics
            .services
            .store(zones.data().services() as u64, Ordering::Relaxed);
        metrics
            .endpoints
            .store(zones.data().endpoints() as u64, Ordering::Relaxed);
        let objects = self.state.objects();
        let count = |number: usize| number as u64;
        metrics.zones.store(count(objects.len()), Ordering::Relaxed);
        metrics
            .zones_refused
            .store(count(objects.refused().count()), Ordering::Relaxed);
        metrics
            .client_classes
            .store(count(zones.directory().classes()), Ordering::Relaxed);
        self.served.zones.store(Arc::new(zones));
        metrics.published.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(first.elapsed().as_micros()).unwrap_or(u64::MAX);
        metrics
            .programming_micros
            .fetch_add(micros, Ordering::Relaxed);
        metrics
            .programming_worst_micros
            .fetch_max(micros, Ordering::Relaxed);
        if self.state.is_listed() {
            self.health.set(Readiness::Ready);
            metrics.from_disk.store(0, Ordering::Relaxed);
            metrics.snapshot_time.store(now(), Ordering::Relaxed);
            self.unsaved = true;
        }
    }

    fn save(&mut self) {
        let (Some(folder), Some(saved)) = (&self.folder, self.state.save(now())) else {
            self.unsaved = false;
            return;
        };
        match saved.write(folder) {
            Ok(()) => self.unsaved = false,
            Err(error) => tracing::warn!(%error, "what is served could not be written down"),
        }
        self.save_at = Instant::now() + SAVE;
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Serial numbers of built-in zones are the time, so that all servers count alike (RFC 1912, 2.2 leaves it open).
fn now_serial() -> u32 {
    u32::try_from(now()).unwrap_or(u32::MAX)
}

/// Waits for the signal to end, and then until nobody asks here any more.
async fn end(settings: &RunSettings, health: &Health) {
    termination().await;
    health.set(Readiness::Stopping);
    tracing::info!(
        seconds = settings.lame_duck,
        "stopping; serving on until nobody asks here any more"
    );
    tokio::time::sleep(settings.lame_duck()).await;
}

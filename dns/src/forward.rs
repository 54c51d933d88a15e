//! Asks others: in an order, one after the other, around those that do not answer, through a cache.
//!
//! An upstream that asks us what we ask it is a ring: a question that only we could have made comes back. That upstream
//! is then out of service until the ring is gone; the process goes on.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::StreamExt;
use hickory_proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType as HickoryType};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::sync::Semaphore;
use weft_core::zones::forward::CachePlan;
use weft_core::zones::record::RecordType;
pub use weft_crds::ForwardPolicy as Policy;

use crate::cache::{Cache, Known};
use crate::metrics::Metrics;
use crate::slow;
use crate::upstream::Reply;

/// How long one upstream may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client waits while there is something old to give it (RFC 8767, 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);
/// Failures in a row after which an upstream is passed over.
const FAILURES: u32 = 2;
/// How long it is passed over, before it is tried again.
const REST: Duration = Duration::from_secs(5);
/// Questions on their way at once, for names of no zone.
const AT_ONCE: usize = 1000;
/// How often rings are looked for.
const PROBE: Duration = Duration::from_secs(30);
/// What follows the first label of the questions that find rings, where names of no zone are asked for.
const PROBE_ZONE: &str = "loop.weftnet.";

/// One that is asked, and whom to trust where that is encrypted.
pub struct Peer {
    /// Where and how.
    pub config: NameServerConfig,
    /// Whom to trust.
    pub tls: TlsConfig,
}

/// How others are asked.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// In which order.
    pub policy: Policy,
    /// How long one may take.
    pub timeout: Duration,
    /// Questions on their way at once; more fail.
    pub max_concurrent: usize,
    /// What is remembered.
    pub cache: CachePlan,
    /// What follows the first label of the questions that find rings: a name that they are asked for.
    pub probe_zone: String,
}

/// One that is asked.
struct Server {
    name: String,
    pool: NameServerPool<TokioRuntimeProvider>,
    failures: AtomicU32,
    /// Milliseconds since the start when it last failed.
    failed_at: AtomicU64,
    micros: AtomicU64,
    in_ring: AtomicBool,
    /// The label of the question that finds out whether it asks us.
    probe: Box<str>,
}

/// Others that are asked for the same names.
pub struct Forwarder {
    servers: Vec<Server>,
    ahead: Ahead,
    room: Semaphore,
    turn: AtomicUsize,
    start: Instant,
    cache: Mutex<Cache>,
    probes: HashSet<Box<[u8]>>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.servers.iter().map(|server| &server.name).collect();
        formatter
            .debug_struct("Forwarder")
            .field("servers", &names)
            .field("policy", &self.ahead.policy)
            .finish_non_exhaustive()
    }
}

/// What is asked over plain UDP, and TCP where an answer does not fit.
#[must_use]
pub fn plain(address: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(address.ip());
    for ConnectionConfig { port, .. } in &mut config.connections {
        *port = address.port();
    }
    config
}

impl Forwarder {
    /// Asks these servers.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        servers: Vec<NameServerConfig>,
        policy: Policy,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NetError> {
        let ahead = Ahead {
            policy,
            timeout: PATIENCE,
            max_concurrent: AT_ONCE,
            cache: CachePlan::default(),
            probe_zone: PROBE_ZONE.to_owned(),
        };
        let peer = |config| {
            Ok(Peer {
                config,
                tls: TlsConfig::new()?,
            })
        };
        let peers = servers.into_iter().map(peer);
        let peers = peers.collect::<Result<_, NetError>>()?;
        Ok(Self::with(peers, ahead, metrics))
    }

    /// Asks these servers in this way.
    #[must_use]
    pub fn with(peers: Vec<Peer>, ahead: Ahead, metrics: Arc<Metrics>) -> Self {
        let mut options = ResolverOpts::default();
        options.timeout = ahead.timeout;
        options.attempts = 1;
        options.cache_size = 0;
        options.edns_payload_len = 1232;
        let servers: Vec<Server> = peers
            .into_iter()
            .map(|peer| Server::new(peer, &options))
            .collect();
        let probes = servers
            .iter()
            .map(|server| server.probe.as_bytes().into())
            .collect();
        Self {
            servers,
            room: Semaphore::new(ahead.max_concurrent),
            turn: AtomicUsize::new(0),
            start: Instant::now(),
            cache: Mutex::new(Cache::new(&ahead.cache)),
            probes,
            metrics,
            ahead,
        }
    }

    /// Asks; a name in wire form. An answer that others once gave stands in where nobody answers.
    pub async fn ask(self: &Arc<Self>, name: &[u8], kind: RecordType) -> Reply {
        if let Some(caught) = self.caught(name) {
            return caught;
        }
        let question = (name.to_ascii_lowercase().into_boxed_slice(), kind.0);
        let known = self.cache().get(&question, Instant::now());
        match known {
            Known::Fresh(reply, due) => {
                self.metrics.cache_hits.fetch_add(1, Ordering::Relaxed);
                if due {
                    let (forwarder, name) = (Arc::clone(self), name.to_vec());
                    tokio::spawn(async move { forwarder.fetch(&name, kind).await });
                }
                reply
            }
            Known::Stale(old) => self.refresh(name, kind, old).await,
            Known::Nothing => {
                self.metrics.cache_misses.fetch_add(1, Ordering::Relaxed);
                self.fetch(name, kind).await
            }
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks anew, and gives the old answer out where that fails or takes too long.
    async fn refresh(self: &Arc<Self>, name: &[u8], kind: RecordType, old: Reply) -> Reply {
        let (forwarder, asked) = (Arc::clone(self), name.to_vec());
        let fetch = tokio::spawn(async move { forwarder.fetch(&asked, kind).await });
        match tokio::time::timeout(STALE_PATIENCE, fetch).await {
            Ok(Ok(reply)) if reply.code != 2 => reply,
            _ => {
                self.metrics.cache_stale.fetch_add(1, Ordering::Relaxed);
                old
            }
        }
    }

    /// Asks the servers, and remembers what they say.
    async fn fetch(&self, name: &[u8], kind: RecordType) -> Reply {
        let failure = Reply {
            code: u16::from(ResponseCode::ServFail),
            ..Reply::default()
        };
        let (Some(hickory), Ok(_permit)) = (slow::name(name), self.room.try_acquire()) else {
            return failure;
        };
        let query = Query::query(hickory, HickoryType::from(kind.0));
        let mut last = None;
        for index in self.order() {
            let server = &self.servers[index];
            self.metrics.upstream_asked.fetch_add(1, Ordering::Relaxed);
            match server
                .ask(query.clone(), self.start, self.ahead.timeout)
                .await
            {
                Ok(reply) if matches!(reply.code, 0 | 3) => {
                    self.remember(name, kind, &reply);
                    return reply;
                }
                Ok(reply) => last = Some(reply),
                Err(error) => {
                    self.metrics.upstream_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(upstream = server.name, %error, "upstream failed");
                }
            }
        }
        let reply = last.unwrap_or(failure);
        self.remember(name, kind, &reply);
        reply
    }

    fn remember(&self, name: &[u8], kind: RecordType, reply: &Reply) {
        let question = (name.to_ascii_lowercase().into_boxed_slice(), kind.0);
        let mut cache = self.cache();
        cache.set(question, reply.clone(), Instant::now());
        self.metrics
            .cache_size
            .store(cache.len() as u64, Ordering::Relaxed);
    }

    /// Which servers to ask, in order: those that rest come last, those in a ring not at all.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.servers.len()).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.ahead.policy {
            Policy::Sequential => {}
            Policy::RoundRobin => {
                order.rotate_left(turn.checked_rem(self.servers.len()).unwrap_or_default())
            }
            Policy::Random => {
                let random = usize::try_from(random() % self.servers.len().max(1) as u64)
                    .unwrap_or_default();
                order.rotate_left(random);
            }
            Policy::Fastest => {
                order.sort_by_key(|&index| self.servers[index].micros.load(Ordering::Relaxed))
            }
        }
        order.retain(|&index| !self.servers[index].in_ring.load(Ordering::Relaxed));
        order.sort_by_key(|&index| self.servers[index].rests(self.start));
        order
    }

    /// Takes a question that only we make and that has come back: whoever was asked it asks us.
    #[must_use]
    pub fn caught(&self, name: &[u8]) -> Option<Reply> {
        let label = weft_core::zones::name::labels(name)
            .next()
            .unwrap_or_default();
        if label.len() != 24 || !self.probes.contains(&label.to_ascii_lowercase()[..]) {
            return None;
        }
        for server in self
            .servers
            .iter()
            .filter(|server| server.probe.as_bytes().eq_ignore_ascii_case(label))
        {
            if !server.in_ring.swap(true, Ordering::Relaxed) {
                self.metrics.upstream_loops.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    upstream = server.name,
                    "upstream asks us what we ask it; it is out of service until it stops"
                );
            }
        }
        Some(Reply {
            code: u16::from(ResponseCode::ServFail),
            ..Reply::default()
        })
    }

    /// Looks for rings, for as long as anybody else holds this.
    pub async fn watch_for_rings(self: Arc<Self>) {
        let this: Weak<Self> = Arc::downgrade(&self);
        drop(self);
        while let Some(forwarder) = this.upgrade() {
            for server in &forwarder.servers {
                forwarder.probe(server).await;
            }
            drop(forwarder);
            tokio::time::sleep(PROBE).await;
        }
    }

    async fn probe(&self, server: &Server) {
        let was = server.in_ring.swap(false, Ordering::Relaxed);
        let zone = self.ahead.probe_zone.trim_start_matches('.');
        let Ok(name) = Name::from_ascii(format!("{}.{zone}", server.probe)) else {
            return;
        };
        let query = Query::query(name, HickoryType::TXT);
        let _ = tokio::time::timeout(self.ahead.timeout, server.send(query)).await;
        if was && !server.in_ring.load(Ordering::Relaxed) {
            tracing::info!(
                upstream = server.name,
                "upstream asks us no more; it is in service again"
            );
        }
    }
}

impl Server {
    fn new(Peer { config, tls }: Peer, options: &ResolverOpts) -> Self {
        let name = config
            .connections
            .first()
            .map(|connection| SocketAddr::new(config.ip, connection.port).to_string());
        let context = Arc::new(PoolContext::new(options.clone(), tls));
        Self {
            name: name.unwrap_or_else(|| config.ip.to_string()),
            pool: NameServerPool::from_config([config], context, TokioRuntimeProvider::default()),
            failures: AtomicU32::new(0),
            failed_at: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            in_ring: AtomicBool::new(false),
            probe: format!("weftloop{:016x}", random()).into(),
        }
    }

    fn rests(&self, start: Instant) -> bool {
        let failed = Duration::from_millis(self.failed_at.load(Ordering::Relaxed));
        self.failures.load(Ordering::Relaxed) >= FAILURES
            && start.elapsed().saturating_sub(failed) < REST
    }

    async fn ask(
        &self,
        query: Query,
        start: Instant,
        patience: Duration,
    ) -> Result<Reply, NetError> {
        let begin = Instant::now();
        let answer = tokio::time::timeout(patience, async {
            match self.send(query.clone()).await {
                // A stream that the server has closed meanwhile is no failure of the server: the next one is a new one.
                Err(error) if !matches!(error, NetError::Timeout) => self.send(query).await,
                sent => sent,
            }
        });
        let result = answer.await.unwrap_or(Err(NetError::Timeout));
        if result.is_ok() {
            self.failures.store(0, Ordering::Relaxed);
            let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
            let before = self.micros.load(Ordering::Relaxed);
            let smooth = if before == 0 {
                micros
            } else {
                (before * 7 + micros) / 8
            };
            self.micros.store(smooth, Ordering::Relaxed);
        } else {
            self.failures.fetch_add(1, Ordering::Relaxed);
            let now = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.failed_at.store(now, Ordering::Relaxed);
        }
        result
    }

    async fn send(&self, query: Query) -> Result<Reply, NetError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.recursion_desired = true;
        let answer = self.pool.lookup(query, options).next().await;
        match answer.unwrap_or(Err(NetError::Timeout)) {
            Ok(response) => Ok(Reply {
                code: response.metadata.response_code.into(),
                answers: response.answers.clone(),
                authorities: starts(&response.authorities),
            }),
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => Ok(Reply {
                code: nothing.response_code.into(),
                answers: Vec::new(),
                authorities: starts(nothing.authorities.as_deref().unwrap_or_default()),
            }),
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Ok(Reply {
                code: code.into(),
                ..Reply::default()
            }),
            Err(error) => Err(error),
        }
    }
}

/// Of the authority section, what says since when nothing is there.
fn starts(records: &[Record]) -> Vec<Record> {
    records
        .iter()
        .filter(|record| record.record_type() == HickoryType::SOA)
        .cloned()
        .collect()
}

/// The standard library seeds its hasher from the kernel.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Servers of a resolv.conf, without those that are ourselves.
#[must_use]
pub fn others(servers: &[IpAddr], ourselves: &[SocketAddr]) -> Vec<NameServerConfig> {
    let ours = |server: &IpAddr| {
        ourselves
            .iter()
            .any(|own| own.port() == 53 && own.ip() == *server)
    };
    let kept = servers.iter().filter(|server| {
        if ours(server) {
            tracing::warn!(upstream = %server, "upstream is this server itself; it is not asked");
        }
        !ours(server)
    });
    kept.map(|&server| plain(SocketAddr::new(server, 53)))
        .collect()
}

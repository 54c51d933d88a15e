//! Connections of released addresses, and UDP connections to endpoints of Services that are gone,
//! deleted beside the engine: the kernel looks through its whole table for them, which is too long for
//! a request or an update to wait for. An address rests longer than that. Connections that policies may
//! have revoked are found here, judged by the engine, and labelled here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use weft_core::names;
use weft_core::services::StaleFlows;
use weft_core::view::{Family, Protocol};
use weft_kernel::conntrack::{Connection, ConntrackSocket, Labelled};
use weft_kernel::netlink;

use super::Output;
use super::inbox::Waker;

/// Up to so many entries, listing all of them is less work than looking for each address.
const FEW: u64 = 16_384;

/// The thread's end; dropped, it waits for what was asked.
#[derive(Debug)]
pub(super) struct Connections {
    asks: Option<Sender<Ask>>,
    thread: Option<JoinHandle<()>>,
    trouble: Arc<Mutex<Option<String>>>,
    found: Receiver<Vec<Connection>>,
}

/// A search for connections to endpoints of Services that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// Among those of this family.
    pub family: Family,
    /// How long it took.
    pub took: Duration,
    /// How many were deleted.
    pub deleted: u64,
}

/// What the thread is asked for.
#[derive(Debug)]
enum Ask {
    /// No entry of these addresses.
    Forget(Vec<IpAddr>),
    /// No entry to these frontends that leads elsewhere than to their endpoints.
    Reconcile(Vec<StaleFlows>),
    /// The connections of these addresses.
    Look(BTreeSet<IpAddr>),
    /// These have the label of revoked ones from now on, or no more.
    Revoke(Vec<(Connection, bool)>),
}

/// What was asked for and not done yet.
#[derive(Debug, Default)]
struct Left {
    addresses: BTreeSet<IpAddr>,
    /// Endpoints of each frontend.
    flows: BTreeMap<(Protocol, SocketAddr), Vec<SocketAddr>>,
    looked_for: BTreeSet<IpAddr>,
    revoked: Vec<(Connection, bool)>,
}

impl Left {
    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Forget(addresses) => self.addresses.extend(addresses),
            Ask::Look(addresses) => self.looked_for.extend(addresses),
            Ask::Revoke(connections) => self.revoked.extend(connections),
            Ask::Reconcile(flows) => self.flows.extend(flows.into_iter().map(|flow| {
                let StaleFlows {
                    protocol,
                    frontend,
                    endpoints,
                } = flow;
                ((protocol, frontend), endpoints)
            })),
        }
    }

    fn of_family(&self, family: Family) -> Vec<StaleFlows> {
        let flows = self.flows.iter();
        flows
            .filter(|((_, frontend), _)| Family::of(frontend.ip()) == family)
            .map(|((protocol, frontend), endpoints)| StaleFlows {
                protocol: *protocol,
                frontend: *frontend,
                endpoints: endpoints.clone(),
            })
            .collect()
    }
}

impl Connections {
    /// Starts the thread in the calling thread's network namespace.
    pub(super) fn new(
        sysctl_dir: PathBuf,
        out: UnboundedSender<Output>,
        waker: Waker,
    ) -> io::Result<Self> {
        let (asks, asked) = channel();
        let (finds, found) = channel();
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let told = Arc::clone(&trouble);
        let thread = std::thread::Builder::new()
            .name("engine-connections".to_owned())
            .spawn(move || {
                let engine = Engine { out, finds, waker };
                work(&asked, &sysctl_dir, &told, &engine);
            })?;
        Ok(Self {
            asks: Some(asks),
            thread: Some(thread),
            trouble,
            found,
        })
    }

    /// Has the entries of these addresses deleted.
    pub(super) fn forget(&self, addresses: Vec<IpAddr>) {
        if !addresses.is_empty() {
            self.ask(Ask::Forget(addresses));
        }
    }

    /// Has the entries deleted that lead to endpoints that are gone.
    pub(super) fn reconcile(&self, flows: Vec<StaleFlows>) {
        if !flows.is_empty() {
            self.ask(Ask::Reconcile(flows));
        }
    }

    /// Has the connections of these addresses looked for: [`Self::found`].
    pub(super) fn look_for(&self, addresses: BTreeSet<IpAddr>) {
        if !addresses.is_empty() {
            self.ask(Ask::Look(addresses));
        }
    }

    /// Connections that were looked for.
    pub(super) fn found(&self) -> Vec<Connection> {
        self.found.try_iter().flatten().collect()
    }

    /// Has connections labelled as revoked, or not any more.
    pub(super) fn revoke(&self, connections: Vec<(Connection, bool)>) {
        if !connections.is_empty() {
            self.ask(Ask::Revoke(connections));
        }
    }

    fn ask(&self, ask: Ask) {
        if let Some(asks) = &self.asks {
            let _ = asks.send(ask);
        }
    }

    /// Why the last attempt failed, if it did.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where answers go.
struct Engine {
    out: UnboundedSender<Output>,
    finds: Sender<Vec<Connection>>,
    waker: Waker,
}

fn work(asked: &Receiver<Ask>, sysctl_dir: &Path, told: &Mutex<Option<String>>, engine: &Engine) {
    let mut socket = None;
    let mut left = Left::default();
    while let Ok(ask) = asked.recv() {
        let start = Instant::now();
        left.take(ask);
        asked.try_iter().for_each(|ask| left.take(ask));
        let outcome = work_off(&mut socket, &mut left, sysctl_dir, engine);
        *told.lock().unwrap_or_else(PoisonError::into_inner) = outcome
            .err()
            .map(|error| format!("failed to delete or label connections: {error}"));
        // Of a series of updates, one listing serves all that come while it is made and as long again.
        std::thread::sleep(start.elapsed());
    }
}

/// What fails is tried again with the next.
fn work_off(
    socket: &mut Option<ConntrackSocket>,
    left: &mut Left,
    sysctl_dir: &Path,
    engine: &Engine,
) -> Result<(), netlink::Error> {
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(ConntrackSocket::open()?),
    };
    while let Some((connection, revoked)) = left.revoked.last() {
        revoke(socket, connection, *revoked)?;
        left.revoked.pop();
    }
    if !left.looked_for.is_empty() {
        let found = socket.connections(&left.looked_for)?;
        left.looked_for.clear();
        if engine.finds.send(found).is_ok() {
            engine.waker.wake();
        }
    }
    if !left.addresses.is_empty() {
        delete(socket, &left.addresses, entries(sysctl_dir))?;
        left.addresses.clear();
    }
    for family in Family::ALL {
        let flows = left.of_family(family);
        if flows.is_empty() {
            continue;
        }
        let start = Instant::now();
        let deleted = socket.delete_stale(&flows)?;
        let _ = engine.out.send(Output::Reconciled(Reconciled {
            family,
            took: start.elapsed(),
            deleted,
        }));
    }
    left.flows.clear();
    Ok(())
}

/// An entry from before there were policies has no room for a label: without it, the next packet is a
/// new connection.
fn revoke(
    socket: &mut ConntrackSocket,
    connection: &Connection,
    revoked: bool,
) -> Result<(), netlink::Error> {
    match socket.label(connection, names::REVOKED_LABEL, revoked)? {
        Labelled::NoRoom => socket.delete_connection(connection),
        Labelled::Done | Labelled::Gone => Ok(()),
    }
}

fn delete(
    socket: &mut ConntrackSocket,
    addresses: &BTreeSet<IpAddr>,
    entries: u64,
) -> Result<(), netlink::Error> {
    let addresses: Vec<IpAddr> = addresses.iter().copied().collect();
    if entries <= FEW {
        return socket.delete_all(&addresses);
    }
    addresses
        .into_iter()
        .try_for_each(|address| socket.delete(address))
}

/// How many connections there are; many where nobody says.
fn entries(sysctl_dir: &Path) -> u64 {
    std::fs::read_to_string(sysctl_dir.join("netfilter/nf_conntrack_count"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(u64::MAX)
}

//! Connections of released addresses, and UDP connections to endpoints of Services that are gone,
//! deleted beside the engine: the kernel looks through its whole table for them, which is too long for
//! a request or an update to wait for. An address rests longer than that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use weft_core::services::StaleFlows;
use weft_core::view::{Family, Protocol};
use weft_kernel::conntrack::ConntrackSocket;
use weft_kernel::netlink;

use super::Output;

/// Up to so many entries, listing all of them is less work than looking for each address.
const FEW: u64 = 16_384;

/// The thread's end; dropped, it waits for what was asked.
#[derive(Debug)]
pub(super) struct Connections {
    asks: Option<Sender<Ask>>,
    thread: Option<JoinHandle<()>>,
    trouble: Arc<Mutex<Option<String>>>,
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
}

/// What was asked for and not done yet.
#[derive(Debug, Default)]
struct Left {
    addresses: BTreeSet<IpAddr>,
    /// Endpoints of each frontend.
    flows: BTreeMap<(Protocol, SocketAddr), Vec<SocketAddr>>,
}

impl Left {
    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Forget(addresses) => self.addresses.extend(addresses),
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
    pub(super) fn new(sysctl_dir: PathBuf, out: UnboundedSender<Output>) -> io::Result<Self> {
        let (asks, asked) = channel();
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let told = Arc::clone(&trouble);
        let thread = std::thread::Builder::new()
            .name("engine-connections".to_owned())
            .spawn(move || work(&asked, &sysctl_dir, &told, &out))?;
        Ok(Self {
            asks: Some(asks),
            thread: Some(thread),
            trouble,
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

fn work(
    asked: &Receiver<Ask>,
    sysctl_dir: &Path,
    told: &Mutex<Option<String>>,
    out: &UnboundedSender<Output>,
) {
    let mut socket = None;
    let mut left = Left::default();
    while let Ok(ask) = asked.recv() {
        let start = Instant::now();
        left.take(ask);
        asked.try_iter().for_each(|ask| left.take(ask));
        let outcome = work_off(&mut socket, &mut left, sysctl_dir, out);
        *told.lock().unwrap_or_else(PoisonError::into_inner) = outcome
            .err()
            .map(|error| format!("failed to delete connections: {error}"));
        // Of a series of updates, one listing serves all that come while it is made and as long again.
        std::thread::sleep(start.elapsed());
    }
}

/// What fails is tried again with the next.
fn work_off(
    socket: &mut Option<ConntrackSocket>,
    left: &mut Left,
    sysctl_dir: &Path,
    out: &UnboundedSender<Output>,
) -> Result<(), netlink::Error> {
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(ConntrackSocket::open()?),
    };
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
        let _ = out.send(Output::Reconciled(Reconciled {
            family,
            took: start.elapsed(),
            deleted,
        }));
    }
    left.flows.clear();
    Ok(())
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

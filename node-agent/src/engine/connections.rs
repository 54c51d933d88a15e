//! Connections of released addresses, deleted beside the engine: the kernel looks through its whole
//! table for them, which is too long for a request to wait for. An address rests longer than that.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use weft_kernel::conntrack::ConntrackSocket;
use weft_kernel::netlink;

/// Up to so many entries, listing all of them is less work than looking for each address.
const FEW: u64 = 16_384;

/// The thread's end; dropped, it waits for what was asked.
#[derive(Debug)]
pub(super) struct Connections {
    addresses: Option<Sender<Vec<IpAddr>>>,
    thread: Option<JoinHandle<()>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Connections {
    /// Starts the thread in the calling thread's network namespace.
    pub(super) fn new(sysctl_dir: PathBuf) -> io::Result<Self> {
        let (addresses, asked) = channel();
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let told = Arc::clone(&trouble);
        let thread = std::thread::Builder::new()
            .name("engine-connections".to_owned())
            .spawn(move || work(&asked, &sysctl_dir, &told))?;
        Ok(Self {
            addresses: Some(addresses),
            thread: Some(thread),
            trouble,
        })
    }

    /// Has the entries of these addresses deleted.
    pub(super) fn forget(&self, addresses: Vec<IpAddr>) {
        if let Some(sender) = self.addresses.as_ref().filter(|_| !addresses.is_empty()) {
            let _ = sender.send(addresses);
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
        self.addresses = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(asked: &Receiver<Vec<IpAddr>>, sysctl_dir: &Path, told: &Mutex<Option<String>>) {
    let mut socket = None;
    let mut left: BTreeSet<IpAddr> = BTreeSet::new();
    while let Ok(addresses) = asked.recv() {
        left.extend(addresses);
        left.extend(asked.try_iter().flatten());
        let outcome = delete(&mut socket, &left, entries(sysctl_dir));
        // What failed is tried again with the next.
        if outcome.is_ok() {
            left.clear();
        }
        *told.lock().unwrap_or_else(PoisonError::into_inner) = outcome.err().map(|error| {
            format!("failed to delete the connections of released addresses: {error}")
        });
    }
}

fn delete(
    socket: &mut Option<ConntrackSocket>,
    addresses: &BTreeSet<IpAddr>,
    entries: u64,
) -> Result<(), netlink::Error> {
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(ConntrackSocket::open()?),
    };
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

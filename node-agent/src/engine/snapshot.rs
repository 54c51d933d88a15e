//! The last that was heard from the cluster, on disk: an agent that is started while no API server
//! answers begins with it.
//!
//! A thread of its own writes, at most once in a few seconds, so that no request waits for the disk.
//! A block is given up only after this file says that it is Draining: who asks for that hurries the
//! thread, which wakes the engine when it is done. A file that cannot be read is as good as none;
//! one of an earlier boot is known by the boot's id.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weft_crds::BlockState;

use super::ClusterInput;
use super::inbox::Waker;

/// The file below the state directory.
pub(super) const FILE: &str = "cluster.json";
const FORMAT: u32 = 1;
/// Between two writes that nobody waits for, and before a failed one is tried again.
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Snapshot<T> {
    format: u32,
    node: String,
    #[serde(default)]
    boot: String,
    cluster: T,
}

/// Whose snapshot it is, and where.
#[derive(Clone, Debug)]
pub(super) struct Place {
    state_dir: PathBuf,
    node: String,
    /// Id of this boot; empty: unknown, and then no snapshot is of this boot.
    boot: String,
}

/// Writes snapshots until it is dropped; the last one is then on disk.
#[derive(Debug)]
pub(super) struct Writer {
    place: Place,
    wanted: Option<Sender<Wanted>>,
    /// The last that was sent, until its writing is hurried.
    unhurried: Option<Arc<ClusterInput>>,
    written: Arc<Mutex<Written>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Wanted {
    cluster: Arc<ClusterInput>,
    at_once: bool,
}

/// What has become of it.
#[derive(Debug, Default)]
struct Written {
    /// UIDs of this node's blocks that are Draining on disk.
    draining: BTreeSet<String>,
    trouble: Option<String>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn new(place: Place, waker: Waker) -> io::Result<Self> {
        let (wanted, received) = channel();
        let written = Arc::<Mutex<Written>>::default();
        let (of_thread, outcome) = (place.clone(), Arc::clone(&written));
        let thread = std::thread::Builder::new()
            .name("engine-snapshot".to_owned())
            .spawn(move || write_all(&received, &of_thread, &outcome, &waker))?;
        Ok(Self {
            place,
            wanted: Some(wanted),
            unhurried: None,
            written,
            thread: Some(thread),
        })
    }

    /// Where it writes.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Has this written soon.
    pub(super) fn write(&mut self, cluster: &Arc<ClusterInput>) {
        self.unhurried = Some(Arc::clone(cluster));
        self.send(Arc::clone(cluster), false);
    }

    /// Has the last written at once.
    pub(super) fn hurry(&mut self) {
        if let Some(cluster) = self.unhurried.take() {
            self.send(cluster, true);
        }
    }

    /// Whether an own block is Draining on disk.
    pub(super) fn has_draining(&self, uid: &str) -> bool {
        locked(&self.written).draining.contains(uid)
    }

    /// Why the last attempt failed, if it did.
    pub(super) fn trouble(&self) -> Option<String> {
        locked(&self.written).trouble.clone()
    }

    fn send(&self, cluster: Arc<ClusterInput>, at_once: bool) {
        if let Some(wanted) = &self.wanted {
            let _ = wanted.send(Wanted { cluster, at_once });
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Place {
    /// Of this node, in the boot whose id is in a file.
    pub(super) fn new(state_dir: &Path, node: &str, boot_id: &Path) -> Self {
        let boot = fs::read_to_string(boot_id).unwrap_or_default();
        Self {
            state_dir: state_dir.to_owned(),
            node: node.to_owned(),
            boot: boot.trim().to_owned(),
        }
    }

    /// The last snapshot of this node, if there is one that can be read; true: it is of this boot.
    pub(super) fn read(&self) -> Option<(ClusterInput, bool)> {
        let bytes = fs::read(self.state_dir.join(FILE)).ok()?;
        let snapshot: Snapshot<ClusterInput> = serde_json::from_slice(&bytes).ok()?;
        let of_this_boot = !self.boot.is_empty() && snapshot.boot == self.boot;
        (snapshot.format == FORMAT && snapshot.node == self.node)
            .then_some((snapshot.cluster, of_this_boot))
    }

    fn write(&self, cluster: &ClusterInput) -> io::Result<()> {
        let snapshot = Snapshot {
            format: FORMAT,
            node: self.node.clone(),
            boot: self.boot.clone(),
            cluster,
        };
        let temporary = self.state_dir.join(format!("{FILE}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(&snapshot)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.state_dir.join(FILE))?;
        File::open(&self.state_dir)?.sync_all()
    }

    fn draining(&self, cluster: &ClusterInput) -> BTreeSet<String> {
        let blocks = cluster.blocks.iter().filter(|block| {
            block.spec.node == self.node && block.spec.state == BlockState::Draining
        });
        blocks.map(|block| block.uid.clone()).collect()
    }
}

fn write_all(received: &Receiver<Wanted>, place: &Place, written: &Mutex<Written>, waker: &Waker) {
    let mut unwritten: Option<Arc<ClusterInput>> = None;
    let mut not_before = Instant::now();
    loop {
        let left = not_before.saturating_duration_since(Instant::now());
        let next = match unwritten {
            None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => received.recv_timeout(left),
        };
        let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
        let mut at_once = ended;
        if let Ok(wanted) = next {
            unwritten = Some(wanted.cluster);
            at_once |= wanted.at_once;
        }
        if (at_once || not_before <= Instant::now())
            && let Some(cluster) = &unwritten
        {
            let outcome = place.write(cluster);
            not_before = Instant::now() + INTERVAL;
            // What was on disk stays there after a failure.
            if note(written, outcome, || place.draining(cluster)) {
                unwritten = None;
            }
            waker.wake();
        }
        if ended {
            return;
        }
    }
}

/// True: it is on disk.
fn note(
    written: &Mutex<Written>,
    outcome: io::Result<()>,
    draining: impl FnOnce() -> BTreeSet<String>,
) -> bool {
    let mut written = locked(written);
    written.trouble = outcome
        .err()
        .map(|error| format!("failed to write {FILE} in the agent's state directory: {error}"));
    if written.trouble.is_none() {
        written.draining = draining();
    }
    written.trouble.is_none()
}

fn locked(written: &Mutex<Written>) -> MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::inbox::Inbox;
    use super::*;

    fn cluster(uid: &str) -> Arc<ClusterInput> {
        Arc::new(ClusterInput {
            node_uid: uid.to_owned(),
            internal_ips: vec!["192.0.2.1".parse().unwrap()],
            network: Some((weft_crds::NodeNetworkSpec::default(), 7)),
            ..ClusterInput::default()
        })
    }

    fn place(folder: &Path, node: &str, boot: &str) -> Place {
        let boot_id = folder.join("boot-id");
        fs::write(&boot_id, format!("{boot}\n")).unwrap();
        Place::new(folder, node, &boot_id)
    }

    fn writer(place: Place) -> Writer {
        let (_, received) = channel();
        Writer::new(place, Inbox::new(received).unwrap().waker()).unwrap()
    }

    #[test]
    fn the_last_of_many_is_read_back_and_its_boot_known() {
        let folder = tempfile::tempdir().unwrap();
        let mine = place(folder.path(), "n1", "boot-1");
        let mut writer = writer(mine.clone());
        for uid in ["a", "b", "c"] {
            writer.write(&cluster(uid));
        }
        drop(writer);
        let last = (*cluster("c")).clone();
        assert_eq!(mine.read(), Some((last.clone(), true)));
        for boot in ["boot-2", ""] {
            let later = place(folder.path(), "n1", boot);
            assert_eq!(later.read(), Some((last.clone(), false)), "{boot:?}");
        }
        assert_eq!(place(folder.path(), "n2", "boot-1").read(), None);
    }

    #[test]
    fn rubbish_is_as_good_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path(), "n1", "boot-1");
        assert_eq!(place.read(), None);
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(place.read(), None);
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path(), "n1", "boot-1");
        let obstacle = folder.path().join(format!("{FILE}.new"));
        fs::create_dir(&obstacle).unwrap();
        let mut writer = writer(place.clone());
        writer.write(&cluster("a"));
        let begun = Instant::now();
        while writer.trouble().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no trouble");
            std::thread::sleep(Duration::from_millis(10));
        }
        fs::remove_dir(&obstacle).unwrap();
        while place.read().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "not written");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(writer);
    }
}

//! The last that was heard from the cluster, on disk: an agent that is started while no API server
//! answers begins with it.
//!
//! A thread of its own writes, at most once in a few seconds, so that no request waits for the disk.
//! The file is advice: one that cannot be read is as good as none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ClusterInput;

/// The file below the state directory.
pub(super) const FILE: &str = "cluster.json";
const FORMAT: u32 = 1;
/// Between two writes.
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Snapshot<T> {
    format: u32,
    node: String,
    cluster: T,
}

/// Writes snapshots until it is dropped; the last one is then on disk.
#[derive(Debug)]
pub(super) struct Writer {
    latest: Option<Sender<Arc<ClusterInput>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn new(state_dir: PathBuf, node: String) -> io::Result<Self> {
        let (latest, received) = channel();
        let thread = std::thread::Builder::new()
            .name("engine-snapshot".to_owned())
            .spawn(move || write_all(&received, &state_dir, &node))?;
        Ok(Self {
            latest: Some(latest),
            thread: Some(thread),
        })
    }

    /// Has this written soon.
    pub(super) fn write(&self, cluster: &Arc<ClusterInput>) {
        if let Some(latest) = &self.latest {
            let _ = latest.send(Arc::clone(cluster));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.latest = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The last snapshot of this node, if there is one that can be read.
pub(super) fn read(state_dir: &Path, node: &str) -> Option<ClusterInput> {
    let bytes = fs::read(state_dir.join(FILE)).ok()?;
    let snapshot: Snapshot<ClusterInput> = serde_json::from_slice(&bytes).ok()?;
    (snapshot.format == FORMAT && snapshot.node == node).then_some(snapshot.cluster)
}

fn write_all(received: &Receiver<Arc<ClusterInput>>, state_dir: &Path, node: &str) {
    while let Ok(mut latest) = received.recv() {
        let written = Instant::now();
        // A failed write is repeated with the next change; what is on disk stays readable.
        let _ = write(state_dir, node, &latest);
        let mut newer = false;
        loop {
            let left = INTERVAL.saturating_sub(written.elapsed());
            match received.recv_timeout(left) {
                Ok(next) => (latest, newer) = (next, true),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    if newer {
                        let _ = write(state_dir, node, &latest);
                    }
                    return;
                }
            }
        }
        if newer {
            let _ = write(state_dir, node, &latest);
        }
    }
}

fn write(state_dir: &Path, node: &str, cluster: &ClusterInput) -> io::Result<()> {
    let snapshot = Snapshot {
        format: FORMAT,
        node: node.to_owned(),
        cluster,
    };
    let temporary = state_dir.join(format!("{FILE}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec(&snapshot)?)?;
    file.sync_all()?;
    fs::rename(&temporary, state_dir.join(FILE))?;
    File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(uid: &str) -> Arc<ClusterInput> {
        Arc::new(ClusterInput {
            node_uid: uid.to_owned(),
            internal_ips: vec!["192.0.2.1".parse().unwrap()],
            network: Some((weft_crds::NodeNetworkSpec::default(), 7)),
            ..ClusterInput::default()
        })
    }

    #[test]
    fn the_last_of_many_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::new(folder.path().to_owned(), "n1".to_owned()).unwrap();
        for uid in ["a", "b", "c"] {
            writer.write(&cluster(uid));
        }
        drop(writer);
        assert_eq!(read(folder.path(), "n1").as_ref(), Some(&*cluster("c")));
        assert_eq!(read(folder.path(), "n2"), None, "another node's");
    }

    #[test]
    fn rubbish_is_as_good_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), "n1"), None);
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(read(folder.path(), "n1"), None);
    }
}

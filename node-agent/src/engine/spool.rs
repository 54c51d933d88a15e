//! DEL requests that arrived while no agent answered: looked for at start and every few seconds.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use weft_cni::spool;
use weft_cni::wire::Attachment;
use weft_core::view::AttachmentKey;

/// How often the folder is looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// The spool folder, read again only when something in it has changed.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    seen: Option<SystemTime>,
}

/// What was waiting.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Requests, each with its file.
    pub(super) requests: Vec<(PathBuf, Attachment)>,
    /// What could not be read, for an Event.
    pub(super) troubles: Vec<String>,
}

impl Spool {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, seen: None }
    }

    /// What waits, if the folder has changed since the last look.
    pub(super) fn take(&mut self) -> Waiting {
        let changed = std::fs::metadata(&self.folder)
            .and_then(|folder| folder.modified())
            .ok();
        if changed.is_none() || changed == self.seen {
            return Waiting::default();
        }
        // Two changes within one tick of the file system's clock look alike: look again while it is young.
        let old = changed.is_some_and(|at| at.elapsed().is_ok_and(|age| age > INTERVAL));
        self.seen = changed.filter(|_| old);
        let mut waiting = Waiting::default();
        match spool::list(&self.folder) {
            Err(error) => waiting.troubles.push(error.to_string()),
            Ok(found) => {
                for (path, read) in found {
                    match read {
                        Ok(attachment) => waiting.requests.push((path, attachment)),
                        Err(spool::SpoolError::Unreadable { .. }) => {
                            waiting.troubles.push(set_aside(&path))
                        }
                        Err(error) => waiting.troubles.push(error.to_string()),
                    }
                }
            }
        }
        waiting
    }

    /// A DEL that has been answered need not wait any more.
    pub(super) fn done(&mut self, path: &std::path::Path) {
        let _ = spool::remove(path);
    }

    /// A new sandbox of this key: an old DEL is not meant for it.
    pub(super) fn forget(&mut self, key: &AttachmentKey) {
        let path = spool::path_of(&self.folder, &key.container_id, &key.ifname);
        let _ = spool::remove(&path);
    }

    /// Keeps a DEL that cannot be carried out now.
    pub(super) fn keep(&mut self, attachment: &Attachment) -> Result<(), spool::SpoolError> {
        spool::queue(&self.folder, attachment)
    }
}

/// A file that holds no request is kept for a look, under a name that is not read.
fn set_aside(path: &std::path::Path) -> String {
    let aside = path.with_extension("unreadable");
    match std::fs::rename(path, &aside) {
        Ok(()) => format!(
            "a file of the spool holds no request; it is kept as {}",
            aside.display()
        ),
        Err(error) => format!(
            "{} holds no request and cannot be set aside: {error}",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> Attachment {
        Attachment {
            container_id: "a".to_owned(),
            ifname: "eth0".to_owned(),
            netns: String::new(),
            pod_namespace: String::new(),
            pod_name: String::new(),
            pod_uid: String::new(),
            port_mappings: Vec::new(),
        }
    }

    #[test]
    fn requests_are_found_and_rubbish_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path().to_owned());
        spool.keep(&attachment()).unwrap();
        std::fs::write(folder.path().join("b@eth0.json"), "{").unwrap();
        let waiting = spool.take();
        assert_eq!((waiting.requests.len(), waiting.troubles.len()), (1, 1));
        assert!(folder.path().join("b@eth0.unreadable").exists());
        spool.done(&waiting.requests[0].0);
        let waiting = spool.take();
        assert!(waiting.requests.is_empty() && waiting.troubles.is_empty());
    }

    #[test]
    fn a_missing_folder_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let waiting = Spool::new(folder.path().join("none")).take();
        assert!(waiting.requests.is_empty() && waiting.troubles.is_empty());
    }
}

//! Which sandboxes are gone: only on local proof, seen twice with the grace period between.
//!
//! Proof is the absence of the sandbox's namespace path and of the host end of its veth pair, which
//! goes with the namespace. What the API or the runtime lists is never proof.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weft_core::view::AttachmentKey;

use crate::record::Assignment;

/// Where runtimes keep the namespaces of pods, as the host names them.
const FOLDERS: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// When each sandbox was first seen to be gone.
#[derive(Debug)]
pub(super) struct Absences {
    netns_dir: PathBuf,
    grace: Duration,
    first: BTreeMap<AttachmentKey, Instant>,
}

impl Absences {
    pub(super) fn new(netns_dir: PathBuf, grace: Duration) -> Self {
        Self {
            netns_dir,
            grace,
            first: BTreeMap::new(),
        }
    }

    /// How often to look.
    pub(super) fn interval(&self) -> Duration {
        (self.grace / 3).clamp(Duration::from_millis(200), Duration::from_secs(10))
    }

    /// Whether the sandbox's namespace path is gone. A path that this process cannot see says
    /// nothing, and leaves the proof to the link.
    pub(super) fn path_is_gone(&self, netns: &str) -> bool {
        match self.seen_from_here(netns) {
            Some(path) => path
                .symlink_metadata()
                .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound),
            None => true,
        }
    }

    /// Takes note of a look: `gone` are those without namespace path and without link. Answers those
    /// that have been gone for the grace period.
    pub(super) fn note(&mut self, gone: Vec<AttachmentKey>, now: Instant) -> Vec<AttachmentKey> {
        self.first.retain(|key, _| gone.contains(key));
        let mut proven = Vec::new();
        for key in gone {
            let first = *self.first.entry(key.clone()).or_insert(now);
            if now.duration_since(first) >= self.grace && now != first {
                proven.push(key);
            }
        }
        proven
    }

    /// Those whose path is gone: only for them is the kernel asked for the link.
    pub(super) fn suspects<'a>(
        &self,
        assignments: impl Iterator<Item = &'a Assignment>,
    ) -> Vec<&'a Assignment> {
        assignments
            .filter(|assignment| self.path_is_gone(&assignment.netns))
            .collect()
    }

    fn seen_from_here(&self, netns: &str) -> Option<PathBuf> {
        let path = Path::new(netns);
        let (folder, name) = (path.parent()?, path.file_name()?);
        FOLDERS
            .iter()
            .any(|known| folder == Path::new(known))
            .then(|| self.netns_dir.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> AttachmentKey {
        AttachmentKey {
            container_id: id.to_owned(),
            ifname: "eth0".to_owned(),
        }
    }

    #[test]
    fn gone_means_twice_with_the_grace_period_between() {
        let mut absences = Absences::new(PathBuf::new(), Duration::from_secs(30));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(absences.note(vec![key("a")], at(0)).is_empty());
        assert!(absences.note(vec![key("a")], at(29)).is_empty());
        assert_eq!(absences.note(vec![key("a")], at(30)), vec![key("a")]);
    }

    #[test]
    fn one_sight_of_it_begins_anew() {
        let mut absences = Absences::new(PathBuf::new(), Duration::from_secs(30));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        absences.note(vec![key("a")], at(0));
        absences.note(vec![], at(10));
        assert!(absences.note(vec![key("a")], at(40)).is_empty());
        assert_eq!(absences.note(vec![key("a")], at(70)), vec![key("a")]);
    }

    #[test]
    fn without_a_grace_period_two_looks_are_still_needed() {
        let mut absences = Absences::new(PathBuf::new(), Duration::ZERO);
        let start = Instant::now();
        assert!(absences.note(vec![key("a")], start).is_empty());
        assert_eq!(
            absences.note(vec![key("a")], start + Duration::from_millis(1)),
            vec![key("a")]
        );
    }

    #[test]
    fn a_path_is_looked_for_where_this_process_sees_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cni-1"), "").unwrap();
        let absences = Absences::new(folder.path().to_owned(), Duration::ZERO);
        for (path, gone) in [
            ("/var/run/netns/cni-1", false),
            ("/run/netns/cni-1", false),
            ("/run/netns/cni-2", true),
            ("/proc/1/ns/net", true),
        ] {
            assert_eq!(absences.path_is_gone(path), gone, "{path}");
        }
    }
}

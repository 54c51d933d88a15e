//! DEL requests that wait for an agent: one small file each, written so that a crash leaves the
//! whole request or nothing.
//!
//! The plugin writes, the agent reads and removes. A file's name is made from container id and
//! interface name, so a repeated DEL replaces its own file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::wire::Attachment;

/// The most requests that wait. Beyond it DEL fails, so that the runtime keeps it and the disk is not filled.
pub const MOST: usize = 4096;
/// The largest file that is read back, in bytes; a request has well under a kilobyte.
const LARGEST: u64 = 64 * 1024;
const SUFFIX: &str = ".json";

/// Why a request could not be queued or read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The folder holds [`MOST`] requests.
    #[error(
        "{folder} holds {MOST} requests already; start the node's agent, which plays them back"
    )]
    Full {
        /// The spool folder.
        folder: PathBuf,
    },
    /// The file system refused.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file holds no request.
    #[error("{path} holds no DEL request")]
    Unreadable {
        /// Which.
        path: PathBuf,
    },
}

/// A file of the spool: where it is, and the request that it holds.
pub type Waiting = (PathBuf, Result<Attachment, SpoolError>);

/// Queues a DEL: the file and its folder are on disk when this returns.
///
/// # Errors
/// Where the spool is full or the file system refuses.
pub fn queue(folder: &Path, attachment: &Attachment) -> Result<(), SpoolError> {
    let io = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| SpoolError::Io {
            action,
            path,
            source,
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io("create", folder))?;
    let path = path_of(folder, &attachment.container_id, &attachment.ifname);
    if !path.exists() && count(folder).map_err(io("list", folder))? >= MOST {
        return Err(SpoolError::Full {
            folder: folder.to_owned(),
        });
    }
    let temporary = folder.join(format!(".{}.tmp", std::process::id()));
    let bytes =
        serde_json::to_vec(attachment).map_err(|error| io("encode", &path)(error.into()))?;
    let written = write_synced(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        // A full disk is the likely cause: leave no half-written file behind.
        let _ = fs::remove_file(&temporary);
        return Err(io("write", &path)(error));
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io("sync", folder))
}

/// The waiting requests, each with its file, in the order of their names. A folder that is not
/// there holds none.
///
/// # Errors
/// Where the folder cannot be listed. A file that holds no request is an error of its own.
pub fn list(folder: &Path) -> Result<Vec<Waiting>, SpoolError> {
    let fail = |source| SpoolError::Io {
        action: "list",
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if is_request(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths
        .into_iter()
        .map(|path| (path.clone(), read(&path)))
        .collect())
}

/// Removes a request that has been played back, or is no longer wanted.
///
/// # Errors
/// Where the file is there and cannot be removed.
pub fn remove(path: &Path) -> Result<(), SpoolError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SpoolError::Io {
            action: "remove",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// The file in which a DEL of this attachment waits.
pub fn path_of(folder: &Path, container_id: &str, ifname: &str) -> PathBuf {
    // A container id has no '@', so no two attachments share a name.
    folder.join(format!("{container_id}@{ifname}{SUFFIX}"))
}

fn read(path: &Path) -> Result<Attachment, SpoolError> {
    let fail = |source| SpoolError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    if fs::symlink_metadata(path).map_err(fail)?.len() > LARGEST {
        return Err(SpoolError::Unreadable {
            path: path.to_owned(),
        });
    }
    let bytes = fs::read(path).map_err(fail)?;
    serde_json::from_slice(&bytes).map_err(|_| SpoolError::Unreadable {
        path: path.to_owned(),
    })
}

fn count(folder: &Path) -> io::Result<usize> {
    Ok(fs::read_dir(folder)?
        .filter(|entry| entry.as_ref().is_ok_and(|entry| is_request(&entry.path())))
        .count())
}

fn is_request(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.ends_with(SUFFIX) && !name.starts_with('.'))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container_id: &str) -> Attachment {
        Attachment {
            container_id: container_id.to_owned(),
            ifname: "eth0".to_owned(),
            netns: String::new(),
            pod_namespace: "default".to_owned(),
            pod_name: "web-0".to_owned(),
            pod_uid: String::new(),
            port_mappings: Vec::new(),
        }
    }

    #[test]
    fn a_queued_request_is_read_back_once() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        assert!(list(&spool).unwrap().is_empty());
        queue(&spool, &attachment("b")).unwrap();
        queue(&spool, &attachment("a")).unwrap();
        queue(&spool, &attachment("a")).unwrap();
        let found = list(&spool).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1.as_ref().unwrap(), &attachment("a"));
        remove(&found[0].0).unwrap();
        remove(&found[0].0).unwrap();
        assert_eq!(list(&spool).unwrap().len(), 1);
    }

    #[test]
    fn rubbish_is_named_and_half_written_files_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x@eth0.json"), "{").unwrap();
        std::fs::write(folder.path().join("y@eth0.json"), vec![b' '; 100_000]).unwrap();
        std::fs::write(folder.path().join(".1.tmp"), "{").unwrap();
        let found = list(folder.path()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(
            found
                .iter()
                .all(|(_, read)| matches!(read, Err(SpoolError::Unreadable { .. })))
        );
    }

    #[test]
    fn a_full_spool_refuses_new_requests_and_takes_repeated_ones() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MOST {
            std::fs::write(folder.path().join(format!("c{number}@eth0.json")), "{}").unwrap();
        }
        assert!(matches!(
            queue(folder.path(), &attachment("new")),
            Err(SpoolError::Full { .. })
        ));
        queue(folder.path(), &attachment("c7")).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            queue(file.path(), &attachment("a")),
            Err(SpoolError::Io { .. })
        ));
    }
}

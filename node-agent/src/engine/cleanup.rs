//! Removes from the node what Weftnet made: table, links, routes, changed sysctls, state.
//!
//! Everything is found by the rules of ownership alone; nothing of others is touched. What is gone
//! already is success, so it can be repeated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weft_core::diff::diff;
use weft_core::names;
use weft_core::plan::NetState;
use weft_kernel::netlink::{self, Socket};
use weft_kernel::nft::{self, NftSocket};
use weft_kernel::{net, pod, sysctl};
use weft_nft::{Batch, Change};

use super::kernel::SYSCTLS_BEFORE;

/// What could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// rtnetlink.
    #[error("failed to read links and routes")]
    Netlink(#[from] netlink::Error),
    /// Some links or routes.
    #[error("failed to remove links or routes")]
    Net(#[from] net::Error),
    /// A pod's link.
    #[error("failed to remove link {link}")]
    Link {
        /// Its name.
        link: String,
        /// Why.
        source: pod::Error,
    },
    /// The nft table.
    #[error("failed to delete table inet {}", names::TABLE)]
    Table(#[from] nft::Error),
    /// A sysctl.
    #[error("failed to put back a sysctl")]
    Sysctl(#[from] sysctl::Error),
    /// A file of the state directory.
    #[error("failed to remove {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Removes everything of ours from the calling thread's network namespace, and the state directory's files.
///
/// # Errors
/// At the first thing that cannot be removed; a second call goes on from there.
pub fn cleanup(state_dir: &Path, sysctl_dir: &Path) -> Result<(), CleanupError> {
    let mut rtnl = Socket::open()?;
    let found = net::observe(&mut rtnl)?;
    for link in found.pod_links.keys() {
        pod::unwire(&mut rtnl, link).map_err(|source| CleanupError::Link {
            link: link.clone(),
            source,
        })?;
    }
    let found = net::observe(&mut rtnl)?;
    net::apply(&mut rtnl, &diff(&found, &NetState::default()))?;
    delete_table()?;
    put_back_sysctls(state_dir, sysctl_dir)?;
    remove_files(state_dir)
}

fn delete_table() -> Result<(), CleanupError> {
    let mut socket = NftSocket::open()?;
    if socket.read_table(names::TABLE)?.table.name.is_empty() {
        return Ok(());
    }
    let changes = vec![Change::DeleteTable];
    Ok(socket.commit(&Batch {
        table: names::TABLE.to_owned(),
        changes,
    })?)
}

fn put_back_sysctls(state_dir: &Path, sysctl_dir: &Path) -> Result<(), CleanupError> {
    let Ok(bytes) = std::fs::read(state_dir.join(SYSCTLS_BEFORE)) else {
        return Ok(());
    };
    let before: BTreeMap<String, String> = serde_json::from_slice(&bytes).unwrap_or_default();
    for (path, value) in before {
        match sysctl::set(sysctl_dir, &path, &value) {
            Err(error) if !error.is_absence() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn remove_files(state_dir: &Path) -> Result<(), CleanupError> {
    match std::fs::remove_dir_all(state_dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(CleanupError::File {
            path: state_dir.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

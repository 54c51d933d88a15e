//! How a supervisor comes by its descriptors: from the one in charge, or fresh where none is.
//!
//! The lock decides who is in charge, and it travels with the descriptors, so that at no moment two
//! supervisors hold sockets, and stale socket files of a dead one are known to be stale.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use nix::sys::stat::{Mode, umask};

use crate::cli::Settings;
use crate::errors;
use crate::handover::{self, Sockets};

/// What could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run directory.
    #[error("failed to make the directory {0} for root alone")]
    Directory(PathBuf, #[source] io::Error),
    /// The lock file.
    #[error("failed to lock {0}")]
    Lock(PathBuf, #[source] io::Error),
    /// A listening socket.
    #[error("failed to listen on {0}")]
    Listen(PathBuf, #[source] io::Error),
    /// The nf_tables socket.
    #[error(
        "failed to open a NETLINK_NETFILTER socket; the container needs the capability NET_ADMIN"
    )]
    Netfilter(#[source] io::Error),
}

/// Makes the run directory, which nobody but root may enter.
///
/// # Errors
/// Where it cannot be made.
pub fn prepare(settings: &Settings) -> Result<(), Error> {
    let directory = &settings.run_dir;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .and_then(|()| std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)))
        .map_err(|error| Error::Directory(directory.clone(), error))
}

/// One attempt to come into charge of this node. `None`: somebody else is, and has not let go yet.
///
/// # Errors
/// Where nobody is in charge and the sockets cannot be made.
pub fn acquire(settings: &Settings) -> Result<Option<Sockets>, Error> {
    if let Some(lock) = lock(&settings.lock_file())? {
        tracing::info!("no other supervisor on this node; opening fresh sockets");
        return fresh(settings, lock).map(Some);
    }
    let Ok(mut stream) = UnixStream::connect(settings.handover_socket()) else {
        return Ok(None);
    };
    match handover::take_over(&mut stream) {
        Ok(sockets) => {
            tracing::info!("took over the sockets of the supervisor before this one");
            Ok(Some(sockets))
        }
        Err(error) => {
            tracing::warn!(
                error = errors::chain(&error),
                "handover failed; trying again"
            );
            Ok(None)
        }
    }
}

fn lock(path: &Path) -> Result<Option<OwnedFd>, Error> {
    let open = || {
        let mut options = OpenOptions::new();
        options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
    };
    let file: File = open().map_err(|error| Error::Lock(path.to_owned(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file.into())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::Lock(path.to_owned(), error)),
    }
}

fn fresh(settings: &Settings, lock: OwnedFd) -> Result<Sockets, Error> {
    let nft = netfilter().map_err(Error::Netfilter)?;
    let cni = listen(&settings.cni_socket())?;
    let handover = listen(&settings.handover_socket())?;
    Ok(Sockets {
        lock,
        handover,
        cni,
        nft,
    })
}

/// A listening socket for root alone, in place of a file that a dead supervisor left.
fn listen(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |error| Error::Listen(path.to_owned(), error);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // No other thread runs in this process, so the mask is this socket's alone.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.map_err(failed)?;
    // Requests queue here while no worker accepts: as many as the kernel allows (net.core.somaxconn).
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXALLOWABLE)
        .map_err(|error| failed(error.into()))?;
    Ok(listener.into())
}

fn netfilter() -> io::Result<OwnedFd> {
    let descriptor = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_travels_with_its_copies() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = lock(&path).unwrap().unwrap();
        assert!(lock(&path).unwrap().is_none());
        let copy = first.try_clone().unwrap();
        drop(first);
        assert!(lock(&path).unwrap().is_none());
        drop(copy);
        assert!(lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_is_for_root_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cni.sock");
        drop(listen(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let _listener = listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

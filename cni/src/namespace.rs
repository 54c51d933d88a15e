//! What must happen inside the pod's network namespace: sysctls of the interface to come, and an
//! rtnetlink socket for the agent.
//!
//! Entering a namespace concerns the calling thread alone; it is back in its own on return. The
//! sysctls are those of `default`, which an interface takes over when it appears: nothing has to be
//! written after the agent has answered.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::statfs::{FsType, fstatfs};

use crate::environment::excerpt;
use crate::error::{CniError, code};

/// `NSFS_MAGIC` of linux/magic.h: the file system of namespace files.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// Below `/proc/sys/net`: no router but ours, addresses usable at once.
const SYSCTLS: [(&str, &str); 4] = [
    ("ipv6/conf/default/disable_ipv6", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/autoconf", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];

/// Opens a pod's network namespace.
///
/// # Errors
/// Code 3 where the path is not there, code 4 where it is no network namespace or the host's own.
pub fn open(path: &str) -> Result<File, CniError> {
    let file = File::open(path).map_err(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        CniError::new(
            if missing {
                code::NO_CONTAINER
            } else {
                code::IO
            },
            "failed to open the pod's network namespace",
            format!("CNI_NETNS {:?}: {error}", excerpt(path)),
        )
    })?;
    let refuse = |why: &str| {
        let details = format!("CNI_NETNS {:?} {why}", excerpt(path));
        Err(CniError::new(
            code::ENVIRONMENT,
            "CNI_NETNS is not a pod's network namespace",
            details,
        ))
    };
    if !fstatfs(&file).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC) {
        return refuse("is not a namespace file");
    }
    let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
    let own = own()
        .and_then(|own| identity(&own))
        .map_err(|error| failed("read its own namespace", &error))?;
    match identity(&file) {
        Ok(given) if given == own => refuse("is the host's own network namespace"),
        Ok(_) => Ok(file),
        Err(error) => Err(failed("read the pod's namespace", &error)),
    }
}

/// Enters the namespace, prepares it for a pod's interface where asked, opens an rtnetlink socket
/// there, and goes back.
///
/// # Errors
/// Code 4 where the file is a namespace of another kind, code 5 where the kernel refuses.
pub fn netlink_socket(namespace: &File, prepare: bool) -> Result<OwnedFd, CniError> {
    let own = own().map_err(|error| failed("open its own namespace", &error))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| {
        let code = if error == nix::Error::EINVAL {
            code::ENVIRONMENT
        } else {
            code::IO
        };
        CniError::new(
            code,
            "failed to enter the pod's network namespace",
            error.to_string(),
        )
    })?;
    let done = inside(prepare);
    setns(&own, CloneFlags::CLONE_NEWNET)
        .map_err(|error| failed("leave the pod's namespace", &error.into()))?;
    done
}

fn inside(prepare: bool) -> Result<OwnedFd, CniError> {
    if prepare {
        // A path through /proc/sys is resolved in the namespace of the thread that walks it.
        let root = Path::new("/proc/sys/net");
        for (name, value) in SYSCTLS {
            write_where_it_exists(&root.join(name), value).map_err(|error| {
                failed(
                    &format!("write {value} to sysctl {name} in the pod"),
                    &error,
                )
            })?;
        }
    }
    socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .map_err(|error| failed("open an rtnetlink socket in the pod", &error.into()))
}

/// A kernel without IPv6 has none of these files, and nothing to prepare.
fn write_where_it_exists(path: &Path, value: &str) -> io::Result<()> {
    match std::fs::read_to_string(path) {
        Ok(present) if present.trim() == value => Ok(()),
        Ok(_) => std::fs::write(path, value),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn own() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

fn failed(what: &str, error: &io::Error) -> CniError {
    CniError::new(
        code::IO,
        format!("weft-cni failed to {what}"),
        error.to_string(),
    )
}

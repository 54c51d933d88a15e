//! Work on a thread that has entered a node's namespaces: what it starts is inside too, without the
//! cost of entering counted in.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use crate::place::Place;

/// Runs `work` on a thread in the place's mount and network namespaces.
///
/// # Errors
/// When they cannot be entered, or what `work` says.
pub fn inside<T: Send>(place: &Place, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pid = place.pid();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(pid).with_context(|| format!("failed to enter {}", place.name()))?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread in {} panicked", place.name())))
    })
}

/// Takes the calling thread into the mount and network namespaces of a process, and what it starts
/// into the PID namespace too.
///
/// # Errors
/// When the kernel refuses.
pub fn enter(pid: i32) -> Result<()> {
    // A mount namespace can only be joined by a thread that shares its root with no other.
    unshare(CloneFlags::CLONE_FS)?;
    let open = |name: &str| {
        let path = format!("/proc/{pid}/ns/{name}");
        File::open(&path).with_context(|| format!("failed to open {path}"))
    };
    // All are opened before one is entered: the place's own /proc has other numbers.
    let (mount, network, processes) = (open("mnt")?, open("net")?, open("pid")?);
    setns(processes.as_fd(), CloneFlags::CLONE_NEWPID)?;
    setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
    setns(mount.as_fd(), CloneFlags::CLONE_NEWNS)?;
    Ok(())
}

/// Runs `work` on a thread in the place's network namespace alone: it may start further threads, and sees the machine's
/// own processes.
///
/// # Errors
/// When it cannot be entered, or what `work` says.
pub fn in_network<T: Send>(place: &Place, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/proc/{}/ns/net", place.pid());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let network = File::open(&path).with_context(|| format!("failed to open {path}"))?;
            setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread in {} panicked", place.name())))
    })
}

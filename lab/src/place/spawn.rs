//! Starts a process inside a place: its namespaces and its cgroups.
//!
//! A thread of its own enters the namespaces and forks there, so the rest of the program stays where
//! it is. The child writes itself into the cgroups before it becomes the program, so that nothing of
//! a lab ever runs outside the lab's cgroups.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::sched::{CloneFlags, setns, unshare};

use crate::cgroup::Cgroups;

/// Which of a place's namespaces a process sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All of them: it is one of the place's processes.
    All,
    /// The network alone: it sees the machine's files and processes.
    Network,
}

/// Open handles of what a process joins.
#[derive(Debug)]
pub struct Entry {
    namespaces: Vec<(OwnedFd, CloneFlags)>,
    cgroups: Vec<OwnedFd>,
}

impl Entry {
    /// The namespaces of the process `pid`, and the cgroups of its place.
    pub fn open(pid: i32, view: View, cgroups: &Cgroups) -> io::Result<Self> {
        let all = [
            ("mnt", CloneFlags::CLONE_NEWNS),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("cgroup", CloneFlags::CLONE_NEWCGROUP),
            ("net", CloneFlags::CLONE_NEWNET),
            ("pid", CloneFlags::CLONE_NEWPID),
        ];
        let wanted = all
            .iter()
            .filter(|(name, _)| view == View::All || *name == "net");
        let mut entry = Self::cgroups_only(cgroups)?;
        for (name, flag) in wanted {
            let file = File::open(format!("/proc/{pid}/ns/{name}"))?;
            entry.namespaces.push((file.into(), *flag));
        }
        Ok(entry)
    }

    /// No namespace, only the cgroups.
    pub fn cgroups_only(cgroups: &Cgroups) -> io::Result<Self> {
        let open = |path| OpenOptions::new().write(true).open(path).map(OwnedFd::from);
        let opened: io::Result<Vec<_>> = cgroups.entrances().into_iter().map(open).collect();
        Ok(Self {
            namespaces: Vec::new(),
            cgroups: opened?,
        })
    }
}

/// Starts `command` in `entry`; `new_session` takes it off the caller's terminal.
pub fn spawn(entry: &Entry, mut command: Command, new_session: bool) -> io::Result<Child> {
    let cgroups: Vec<RawFd> = entry.cgroups.iter().map(AsRawFd::as_raw_fd).collect();
    join_before_exec(&mut command, cgroups, new_session);
    if entry.namespaces.is_empty() {
        return command.spawn();
    }
    std::thread::scope(|scope| {
        let enter_and_spawn = || {
            // A mount namespace can only be joined by a thread that shares its root with no other.
            unshare(CloneFlags::CLONE_FS)?;
            for (namespace, flag) in &entry.namespaces {
                setns(namespace.as_fd(), *flag)?;
            }
            command.spawn()
        };
        let thread = scope.spawn(enter_and_spawn);
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
    })
}

#[expect(
    unsafe_code,
    reason = "only the forked child itself can enter cgroups before it runs"
)]
fn join_before_exec(command: &mut Command, cgroups: Vec<RawFd>, new_session: bool) {
    let join = move || {
        for fd in &cgroups {
            // SAFETY: write(2) is async-signal-safe; the descriptor stays open in the parent until
            // the child has executed, and the buffer is a static of the given length.
            let written = unsafe { libc::write(*fd, c"0".as_ptr().cast(), 1) };
            if written < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if new_session {
            // SAFETY: setsid(2) is async-signal-safe and takes no arguments.
            let _ = unsafe { libc::setsid() };
        }
        Ok(())
    };
    // SAFETY: `join` runs in the forked child and calls async-signal-safe functions alone; it
    // neither allocates nor locks (building an error from errno does neither).
    unsafe {
        command.pre_exec(join);
    }
}

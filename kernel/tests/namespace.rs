//! A network namespace that lives as long as a value.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use weft_kernel::netlink::Socket;

/// A network namespace without a name: it is gone with its last descriptor, also when a test fails.
pub struct Namespace(OwnedFd);

impl Namespace {
    /// A new namespace, its loopback up.
    pub fn new() -> Self {
        let namespace = Self::untouched();
        namespace.run("ip link set lo up");
        namespace
    }

    /// A new namespace as runtimes give it to a plugin: it has no routing table yet.
    pub fn untouched() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let fd = thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)
                    .expect("CAP_SYS_ADMIN is needed to make a network namespace");
                File::open("/proc/thread-self/ns/net").expect("/proc must be mounted")
            });
            OwnedFd::from(made.join().unwrap())
        });
        Self(fd)
    }

    /// Runs a closure on a thread inside.
    pub fn enter<R: Send>(&self, inside: impl FnOnce() -> R + Send) -> R {
        let run = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("failed to enter the namespace");
                inside()
            });
            thread.join()
        });
        run.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a command inside, which must succeed, and returns its output.
    pub fn run(&self, command: &str) -> String {
        let output = self.enter(|| Command::new("sh").args(["-ec", command]).output().unwrap());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// An rtnetlink socket inside.
    pub fn socket(&self) -> Socket {
        self.enter(|| Socket::open().unwrap())
    }

    /// A descriptor of the namespace.
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

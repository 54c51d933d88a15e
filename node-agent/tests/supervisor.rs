//! The supervisor as a process, in a network namespace of its own: deaths, upgrades, debris.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use nix::unistd::Pid;
use weft_agent::handover::{self, Ask, Sockets};

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace and directories; both go when this does.
struct Place {
    namespace: String,
    directory: tempfile::TempDir,
}

impl Place {
    fn new(name: &str) -> Self {
        let namespace = format!("weft-sv-{name}-{}", std::process::id());
        let directory = tempfile::tempdir().unwrap();
        for folder in ["run", "state", "conf", "bin", "netns", "account"] {
            std::fs::create_dir(directory.path().join(folder)).unwrap();
        }
        std::fs::write(directory.path().join("plugin"), "plugin").unwrap();
        let added = Command::new("ip")
            .args(["netns", "add", &namespace])
            .status()
            .unwrap();
        assert!(added.success(), "these tests need root and iproute2");
        let place = Self {
            namespace,
            directory,
        };
        assert!(
            place
                .inside(&["ip", "link", "set", "lo", "up"])
                .status
                .success()
        );
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn inside(&self, command: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(command)
            .output()
            .unwrap()
    }

    fn supervisor(&self) -> Supervisor {
        let flag = |name: &str, path: &str| format!("--{name}={}", self.path(path).display());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.namespace,
                env!("CARGO_BIN_EXE_weft-agent"),
                "run",
            ])
            .args([
                "--node-name=node",
                "--api-server=127.0.0.1:1",
                "--health-address=127.0.0.1",
            ])
            .args([
                flag("run-dir", "run"),
                flag("state-dir", "state"),
                flag("cni-conf-dir", "conf"),
            ])
            .args([
                flag("cni-bin-dir", "bin"),
                flag("netns-dir", "netns"),
                flag("cni-plugin", "plugin"),
            ])
            .args([
                flag("service-account-dir", "account"),
                "--sysctl-dir=/proc/sys/net".to_owned(),
            ])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Supervisor(child)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < end,
                "{what} did not come true; log:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .status();
    }
}

/// `weft-agent run`; killed when dropped.
struct Supervisor(Child);

impl Supervisor {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// The worker that it has at present.
    fn worker(&self) -> Option<i32> {
        children(self.pid()).into_iter().find(|child| {
            let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0)
                .any(|argument| argument == b"work")
        })
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Living children, from field 4 of `/proc/PID/stat`.
fn children(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let state = fields.next();
        fields.next() == Some(&parent.to_string()) && state != Some("Z")
    };
    pids.filter(is_child).collect()
}

fn murder(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// A NETLINK_NETFILTER socket inside the namespace.
fn netfilter(namespace: &str) -> std::os::fd::OwnedFd {
    let path = format!("/run/netns/{namespace}");
    let open = move || {
        setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkNetFilter,
        )
        .unwrap();
        bind(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            &NetlinkAddr::new(0, 0),
        )
        .unwrap();
        socket
    };
    thread::spawn(open).join().unwrap()
}

/// Makes `table inet probe { flags owner, persist; }` (include/uapi/linux/netfilter/nf_tables.h).
fn make_owned_table(socket: &impl std::os::fd::AsRawFd) {
    const NEW_TABLE: u16 = 10 << 8;
    const REQUEST: u16 = 0x1;
    const ACKNOWLEDGE: u16 = 0x4;
    const CREATE: u16 = 0x400;
    let message = |kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]| {
        let mut bytes = u32::try_from(20 + attributes.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        bytes.extend(attributes);
        bytes
    };
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = u16::try_from(4 + value.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let owner_and_persist = (0x2_u32 | 0x4).to_be_bytes();
    let attributes = [attribute(1, b"probe\0"), attribute(2, &owner_and_persist)].concat();
    let batch = [
        message(0x10, 0, 0, 10, &[]),
        message(NEW_TABLE, ACKNOWLEDGE | CREATE, 1, 0, &attributes),
        message(0x11, 0, 0, 10, &[]),
    ];
    let descriptor = socket.as_raw_fd();
    send(
        descriptor,
        &batch.concat(),
        nix::sys::socket::MsgFlags::empty(),
    )
    .unwrap();
    let mut answer = [0; 4096];
    let count = recv(descriptor, &mut answer, nix::sys::socket::MsgFlags::empty()).unwrap();
    assert!(count >= 20, "short answer");
    assert_eq!(
        i32::from_ne_bytes(answer[16..20].try_into().unwrap()),
        0,
        "the kernel refused the table"
    );
}

/// Whether somebody holds the probe's table. A table without owner would be deleted by the question.
fn is_owned(place: &Place) -> bool {
    let flushed = place.inside(&["nft", "flush", "ruleset"]);
    let deleted = place.inside(&["nft", "delete", "table", "inet", "probe"]);
    let _ = flushed;
    !deleted.status.success()
        && String::from_utf8_lossy(&deleted.stderr).contains("Operation not permitted")
}

/// Plays a supervisor that holds an owned table, and hands it to the first who asks.
fn hand_an_owned_table_to(place: &Place, successor: impl FnOnce() -> Supervisor) -> Supervisor {
    let nft = netfilter(&place.namespace);
    make_owned_table(&nft);
    let lock = File::create(place.path("run/supervisor.lock")).unwrap();
    lock.try_lock().unwrap();
    let listener = UnixListener::bind(place.path("run/handover.sock")).unwrap();
    let cni = UnixListener::bind(place.path("run/cni.sock")).unwrap();
    let sockets = Sockets {
        lock: lock.into(),
        handover: listener.try_clone().unwrap().into(),
        cni: cni.into(),
        nft,
    };
    let successor = successor();
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(
        handover::hear(&mut stream).unwrap(),
        Ask::TakeOver {
            protocol: handover::PROTOCOL
        }
    );
    handover::give(&mut stream, &sockets).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(handover::confirmed(&mut stream), Some(true));
    successor
}

#[test]
fn the_table_stays_owned_while_workers_die_and_supervisors_follow_each_other() {
    let place = Place::new("own");
    let first = hand_an_owned_table_to(&place, || place.supervisor());
    for _ in 0..5 {
        let mut before = None;
        place.wait("a worker runs", || {
            before = first.worker();
            before.is_some()
        });
        murder(before.unwrap());
        assert!(is_owned(&place));
        place.wait("another worker runs", || {
            first.worker().is_some_and(|pid| Some(pid) != before)
        });
        assert!(is_owned(&place));
    }
    let second = place.supervisor();
    place.wait("the second has the worker", || {
        second.worker().is_some() && first.worker().is_none()
    });
    assert!(is_owned(&place));
    first.stop();
    assert!(is_owned(&place));
    // The control: without its holder the table stays, and the same question can delete it.
    drop(second);
    place.wait("nobody owns the table", || !is_owned(&place));
    let tables = place.inside(&["nft", "list", "tables"]);
    assert!(!String::from_utf8_lossy(&tables.stdout).contains("probe"));
}

#[test]
fn upgrades_refuse_no_connection() {
    let place = Place::new("up");
    let mut present = place.supervisor();
    place.wait("a worker runs", || present.worker().is_some());
    let (stop, refused, made) = (
        Arc::<AtomicBool>::default(),
        Arc::<AtomicU64>::default(),
        Arc::<AtomicU64>::default(),
    );
    let client = {
        let (stop, refused, made) = (stop.clone(), refused.clone(), made.clone());
        let path = place.path("run/cni.sock");
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match UnixStream::connect(&path) {
                    Ok(_) => made.fetch_add(1, Ordering::Relaxed),
                    Err(_) => refused.fetch_add(1, Ordering::Relaxed),
                };
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    for _ in 0..3 {
        let before = made.load(Ordering::Relaxed);
        place.wait("connections are made", || {
            made.load(Ordering::Relaxed) > before + 20
        });
        let next = place.supervisor();
        place.wait("the next has the worker", || {
            next.worker().is_some() && present.worker().is_none()
        });
        present.stop();
        present = next;
    }
    let before = made.load(Ordering::Relaxed);
    place.wait("connections are made", || {
        made.load(Ordering::Relaxed) > before + 20
    });
    stop.store(true, Ordering::Relaxed);
    client.join().unwrap();
    assert_eq!(
        refused.load(Ordering::Relaxed),
        0,
        "of {made:?}; log:\n{}",
        place.log()
    );
    // The control: with no supervisor at all the same client is refused.
    present.stop();
    assert!(UnixStream::connect(place.path("run/cni.sock")).is_err());
}

#[test]
fn a_supervisor_starts_over_what_a_killed_one_left() {
    let place = Place::new("left");
    let first = place.supervisor();
    place.wait("a worker runs", || first.worker().is_some());
    let orphan = first.worker().unwrap();
    drop(first);
    place.wait("the worker dies with its supervisor", || {
        !Path::new(&format!("/proc/{orphan}")).exists()
    });
    assert!(place.path("run/cni.sock").exists() && place.path("run/handover.sock").exists());
    let second = place.supervisor();
    place.wait("a worker runs", || second.worker().is_some());
    place.wait("the socket answers", || {
        UnixStream::connect(place.path("run/cni.sock")).is_ok()
    });
    second.stop();
}

#[test]
fn of_two_that_start_together_one_is_in_charge() {
    let place = Place::new("race");
    let (one, other) = (place.supervisor(), place.supervisor());
    let workers = || [&one, &other].map(|supervisor| supervisor.worker().is_some());
    place.wait("the handover is over", || {
        place.log().contains("handed over; waiting")
    });
    place.wait("one worker runs", || {
        workers().iter().filter(|has| **has).count() == 1
    });
    // The one that handed over holds nothing: when it ends, the other goes on.
    let [charge, idle] = if workers()[0] {
        [one, other]
    } else {
        [other, one]
    };
    idle.stop();
    assert!(charge.worker().is_some());
    assert!(UnixStream::connect(place.path("run/cni.sock")).is_ok());
}

#[test]
fn a_successor_that_dies_before_it_confirms_leaves_the_old_one_in_charge() {
    let place = Place::new("died");
    let supervisor = place.supervisor();
    place.wait("a worker runs", || supervisor.worker().is_some());
    let before = supervisor.worker();
    let mut stream = UnixStream::connect(place.path("run/handover.sock")).unwrap();
    let ask = br#"{"ask":"takeOver","protocol":1}"#;
    stream
        .write_all(&u32::try_from(ask.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(ask).unwrap();
    place.wait("the worker has stopped", || supervisor.worker() != before);
    let mut bytes = [0; 64];
    let (count, descriptors) =
        weft_agent::descriptors::receive(stream.as_fd(), &mut bytes).unwrap();
    assert!(count > 4);
    assert_eq!(descriptors.len(), 4);
    drop((stream, descriptors));
    place.wait("a worker runs again", || {
        supervisor.worker().is_some_and(|pid| Some(pid) != before)
    });
    supervisor.stop();
}

#[test]
fn unlock_gives_the_table_to_root_and_garbage_does_nothing() {
    let place = Place::new("free");
    let supervisor = hand_an_owned_table_to(&place, || place.supervisor());
    place.wait("a worker runs", || supervisor.worker().is_some());
    let mut garbage = UnixStream::connect(place.path("run/handover.sock")).unwrap();
    garbage.write_all(b"\0\0\0\x02{}").unwrap();
    place.wait("it was refused", || {
        place.log().contains("refused a request for handover")
    });
    assert!(is_owned(&place));
    let flag = format!("--run-dir={}", place.path("run").display());
    let unlocked = place.inside(&[env!("CARGO_BIN_EXE_weft-agent"), "unlock", &flag]);
    assert!(unlocked.status.success(), "{unlocked:?}");
    assert!(
        place
            .inside(&["nft", "delete", "table", "inet", "probe"])
            .status
            .success()
    );
    assert_eq!(supervisor.worker(), None);
    supervisor.stop();
}

#[test]
fn cleanup_is_refused_while_an_agent_runs_and_leaves_nothing_afterwards() {
    let place = Place::new("clean");
    let supervisor = place.supervisor();
    place.wait("the plugin is installed", || {
        place.path("bin/weft-cni").exists()
    });
    let cleanup = || {
        let flag = |name: &str, path: &str| format!("--{name}={}", place.path(path).display());
        place.inside(&[
            env!("CARGO_BIN_EXE_weft-agent"),
            "cleanup",
            &flag("run-dir", "run"),
            &flag("state-dir", "state"),
            &flag("cni-conf-dir", "conf"),
            &flag("cni-bin-dir", "bin"),
            "--sysctl-dir=/proc/sys/net",
        ])
    };
    let refused = cleanup();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("an agent is running"));
    assert!(place.path("bin/weft-cni").exists());
    supervisor.stop();
    for _ in 0..2 {
        let cleaned = cleanup();
        assert!(cleaned.status.success(), "{cleaned:?}");
    }
    assert!(!place.path("bin/weft-cni").exists());
    assert!(!place.path("run").exists());
}

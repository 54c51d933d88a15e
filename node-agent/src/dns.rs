//! What the DNS server of this node says of itself: the second unix socket of the agent.
//!
//! The server says a word several times a second: `serving`, or why not. It counts as answering while some server's
//! last word is `serving` and no older than [`SILENCE`]; so a server that is dead (its connection ends at once), hangs
//! or has not heard of the cluster is noticed, and none is asked anything. The agent's own pauses are no silence:
//! what has arrived is read before anybody is judged.
//!
//! With its first word the server hands over a copy of each of its sockets. When it dies they stay open here for a
//! moment, so that nobody is refused before the engine has led questions elsewhere: a client waits, and asks again.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::descriptors;
use crate::engine::Input;

/// How old the last word may be.
pub const SILENCE: Duration = Duration::from_secs(1);
/// How long a server may take to come back to an agent that has just started.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How long sockets of a dead server stay open. Its successor's questions must not end in them.
const LINGER: Duration = Duration::from_millis(500);
/// Connections: the server's, and that of its successor at an upgrade.
const PEERS: usize = 8;
/// Sockets of one server: for datagrams and streams at two addresses, and room for as many.
const SOCKETS: usize = 8;
/// The word that a server says which answers.
const SERVING: &[u8] = b"serving";

/// Listens, in a thread that ends with the engine.
///
/// # Errors
/// The socket cannot be made.
pub fn start(path: &Path, inputs: Sender<Input>) -> io::Result<()> {
    let listener = listen(path)?;
    let listening = Listening {
        listener,
        peers: Vec::new(),
        left: Vec::new(),
        told: None,
        since: Instant::now(),
        inputs,
    };
    let thread = std::thread::Builder::new().name("dns-health".to_owned());
    thread.spawn(move || listening.run())?;
    Ok(())
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Listening {
    listener: UnixListener,
    peers: Vec<Peer>,
    /// Sockets of servers that are gone, and until when.
    left: Vec<(Instant, Vec<OwnedFd>)>,
    told: Option<bool>,
    since: Instant,
    inputs: Sender<Input>,
}

/// A server.
struct Peer {
    stream: UnixStream,
    /// What has come of its next word.
    word: Vec<u8>,
    /// When it last said that it answers, and has not taken back.
    serving: Option<Instant>,
    /// Copies of its sockets.
    sockets: Vec<OwnedFd>,
}

impl Listening {
    fn run(mut self) {
        loop {
            self.wait();
            self.accept();
            self.hear();
            if !self.judge(Instant::now()) {
                return;
            }
        }
    }

    fn wait(&self) {
        let streams = self.peers.iter().map(|peer| peer.stream.as_fd());
        let mut descriptors: Vec<PollFd<'_>> = [self.listener.as_fd()]
            .into_iter()
            .chain(streams)
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        let ends = self.peers.iter().filter_map(|peer| peer.serving);
        let first = self.told.is_none().then_some(self.since + FIRST_WORD);
        let left = self.left.iter().map(|(until, _)| *until);
        let ends = ends.map(|last| last + SILENCE);
        let next = ends.chain(first).chain(left).min();
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now());
            // Rounded up: waking a moment early would mean to spin.
            PollTimeout::from(u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX))
        });
        // An interrupted wait is a look at what is there.
        let _ = poll(&mut descriptors, timeout);
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() && self.peers.len() < PEERS {
                self.peers.push(Peer {
                    stream,
                    word: Vec::new(),
                    serving: None,
                    sockets: Vec::new(),
                });
            }
        }
    }

    /// Reads what servers say, and keeps the sockets of those that are gone.
    fn hear(&mut self) {
        let until = Instant::now() + LINGER;
        for mut peer in std::mem::take(&mut self.peers) {
            if peer.hear() {
                self.peers.push(peer);
            } else {
                self.left.push((until, peer.sockets));
            }
        }
    }

    /// Tells what has changed. False: nobody is there to be told.
    fn judge(&mut self, now: Instant) -> bool {
        let mut serving = false;
        for peer in &mut self.peers {
            peer.serving = peer.serving.filter(|last| *last + SILENCE > now);
            serving |= peer.serving.is_some();
        }
        // A server that answers shares its port with them.
        self.left.retain(|(until, _)| !serving && *until > now);
        let known = serving || self.told.is_some() || now >= self.since + FIRST_WORD;
        if !known || self.told == Some(serving) {
            return true;
        }
        self.told = Some(serving);
        self.inputs.send(Input::Dns(serving)).is_ok()
    }
}

impl Peer {
    /// Reads what has come. False: the connection has ended.
    fn hear(&mut self) -> bool {
        let mut bytes = [0; 256];
        loop {
            match descriptors::receive(self.stream.as_fd(), &mut bytes) {
                Ok((0, _)) => return false,
                Ok((count, sockets)) => {
                    self.sockets.extend(sockets);
                    self.sockets.truncate(SOCKETS);
                    bytes[..count].iter().for_each(|byte| self.take(*byte));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, byte: u8) {
        if byte != b'\n' {
            // A word that never ends is none.
            if self.word.len() <= SERVING.len() {
                self.word.push(byte);
            }
            return;
        }
        self.serving = (self.word == SERVING).then(Instant::now);
        self.word.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn listening() -> (tempfile::TempDir, std::path::PathBuf, Receiver<Input>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dns/agent.sock");
        let (inputs, told) = channel();
        start(&path, inputs).unwrap();
        (folder, path, told)
    }

    fn next(told: &Receiver<Input>) -> (bool, Duration) {
        let begun = Instant::now();
        match told.recv_timeout(Duration::from_secs(10)) {
            Ok(Input::Dns(serving)) => (serving, begun.elapsed()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_that_dies_hangs_or_takes_back_its_word_is_noticed_in_time() {
        let (_folder, path, told) = listening();
        let mut server = UnixStream::connect(&path).unwrap();
        server.write_all(b"waiting\nserv").unwrap();
        server.write_all(b"ing\n").unwrap();
        assert!(next(&told).0, "it answers");
        let (serving, after) = next(&told);
        assert!(!serving && after >= SILENCE / 2, "it hangs: {after:?}");
        assert!(after < SILENCE * 2, "{after:?}");
        server.write_all(b"serving\n").unwrap();
        assert!(next(&told).0, "it is back");
        server.write_all(b"stopping\n").unwrap();
        let (serving, after) = next(&told);
        assert!(!serving && after < SILENCE / 2, "it said so: {after:?}");
        server.write_all(b"serving\n").unwrap();
        assert!(next(&told).0, "it is back");
        drop(server);
        let (serving, after) = next(&told);
        assert!(!serving && after < SILENCE / 2, "it is dead: {after:?}");
    }

    #[test]
    fn a_successor_takes_over_without_a_gap_and_others_change_nothing() {
        let (_folder, path, told) = listening();
        let mut server = UnixStream::connect(&path).unwrap();
        server.write_all(b"serving\n").unwrap();
        assert!(next(&told).0);
        let mut successor = UnixStream::connect(&path).unwrap();
        successor.write_all(b"serving\n").unwrap();
        let mut garbage = UnixStream::connect(&path).unwrap();
        garbage.write_all(&[b'x'; 4096]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        server.write_all(b"stopping\n").unwrap();
        drop(server);
        for _ in 0..10 {
            successor.write_all(b"serving\n").unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(told.try_recv().is_err(), "nothing has changed");
    }

    #[test]
    fn sockets_of_a_dead_server_stay_open_for_a_moment_alone() {
        let (_folder, path, told) = listening();
        let server = UnixStream::connect(&path).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let sent = descriptors::send(server.as_fd(), b"serving\n", &[socket.as_fd()]);
        assert_eq!(sent.unwrap(), 8);
        assert!(next(&told).0);
        let ask = || {
            let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(at).unwrap();
            client.set_read_timeout(Some(LINGER / 10)).unwrap();
            client.send(b"who?").unwrap();
            client.recv(&mut [0; 16]).unwrap_err().kind()
        };
        drop((server, socket));
        assert!(!next(&told).0);
        assert_eq!(ask(), io::ErrorKind::WouldBlock);
        std::thread::sleep(LINGER * 2);
        assert_eq!(ask(), io::ErrorKind::ConnectionRefused, "the control");
    }

    #[test]
    fn where_nobody_speaks_that_is_told_after_a_while() {
        let (_folder, _path, told) = listening();
        let (serving, after) = next(&told);
        assert!(!serving && after >= FIRST_WORD, "{after:?}");
    }
}

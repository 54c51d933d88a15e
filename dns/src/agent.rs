//! Tells the agent of the node several times a second whether this server answers, so that it leads questions here or
//! elsewhere. What it takes from silence is in `node-agent/src/dns.rs`.
//!
//! With the first word go copies of the sockets, so that questions which arrive between this process's end and the agent's
//! change are not refused.
//!
//! The word is `serving` only while every serving thread makes turns, and it comes from the loop that serves streams and
//! the slow path: whatever hangs, the word does not come or says so.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::health::Health;
use crate::server::Served;

/// Between two words; the agent waits for a second.
const INTERVAL: Duration = Duration::from_millis(200);
/// A thread makes a turn at least this often, five times over: a busy machine is no hanging thread.
const TURN: Duration = Duration::from_secs(1);

/// What is to be told.
pub struct Word {
    health: Arc<Health>,
    served: Arc<Served>,
    /// Turns of each thread, and since when it is so many.
    turns: Vec<(u64, Instant)>,
}

impl Word {
    /// Speaks for a server.
    #[must_use]
    pub fn new(health: Arc<Health>, served: Arc<Served>) -> Self {
        Self {
            health,
            served,
            turns: Vec::new(),
        }
    }

    /// The word of this moment.
    pub fn next(&mut self, now: Instant) -> &'static str {
        let turns = self.served.turns();
        self.turns.truncate(turns.len());
        for (index, turns) in turns.into_iter().enumerate() {
            match self.turns.get_mut(index) {
                None => self.turns.push((turns, now)),
                Some(known) if known.0 != turns => *known = (turns, now),
                Some(_) => {}
            }
        }
        let hangs = |(_, since): &(u64, Instant)| now.duration_since(*since) > TURN;
        if self.turns.iter().any(hangs) {
            return "hanging";
        }
        self.health.word()
    }
}

/// Tells, for ever; an agent that is not there is looked for again.
pub async fn tell(socket: PathBuf, sockets: Vec<OwnedFd>, mut word: Word) {
    let mut told = None;
    loop {
        let mut interval = tokio::time::interval(INTERVAL);
        // After a pause one word is as good as all that were missed.
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let line = format!("{}\n", word.next(Instant::now()));
        let mut stream = match connect(&socket, line.as_bytes(), &sockets) {
            Ok(stream) => stream,
            Err(error) => {
                if told != Some(false) {
                    tracing::warn!(socket = %socket.display(), %error, "the agent of this node is not there; questions do not come here without it");
                    told = Some(false);
                }
                tokio::time::sleep(INTERVAL).await;
                continue;
            }
        };
        if told != Some(true) {
            tracing::info!(socket = %socket.display(), "telling the agent of this node");
            told = Some(true);
        }
        loop {
            interval.tick().await;
            let line = format!("{}\n", word.next(Instant::now()));
            if stream.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
    }
}

/// Connects, and says the first word with the sockets. The other end is on this machine: nothing of it waits.
fn connect(socket: &Path, line: &[u8], sockets: &[OwnedFd]) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    let numbers: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() {
        &[][..]
    } else {
        &rights[..]
    };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &[IoSlice::new(line)],
        control,
        flags,
        None,
    )?;
    UnixStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use weft_core::zones::Zones;
    use weft_core::zones::config::{Config, ConfigSpec};

    use super::*;
    use crate::health::Readiness;
    use crate::upstream::Upstream;

    #[test]
    fn who_hangs_waits_or_stops_does_not_serve() {
        let config = Config::parse(&ConfigSpec::default()).expect("values");
        let zones = Zones::new(config).expect("zones");
        let served = Arc::new(Served::new(zones, Upstream::None, Arc::default()));
        let health = Arc::<Health>::default();
        let mut word = Word::new(Arc::clone(&health), Arc::clone(&served));
        let (first, second) = (served.turn_counter(), served.turn_counter());
        let begun = Instant::now();
        assert_eq!(word.next(begun), "waiting");
        health.set(Readiness::FromDisk);
        assert_eq!(word.next(begun), "serving");
        first.fetch_add(1, Ordering::Relaxed);
        let later = begun + TURN;
        assert_eq!(word.next(later), "serving");
        first.fetch_add(1, Ordering::Relaxed);
        let later = later + INTERVAL;
        assert_eq!(word.next(later), "hanging", "the second has made no turn");
        second.fetch_add(1, Ordering::Relaxed);
        assert_eq!(word.next(later), "serving");
        health.set(Readiness::Stopping);
        assert_eq!(word.next(later), "stopping");
    }
}

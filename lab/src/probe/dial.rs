//! Many connections to one server or Service: new ones at a steady rate, others held open, and what
//! became of each. Who answered is counted by host name, so that a spread over endpoints is seen.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::connect::{self, Ending, Protocol};
use super::{Error, stop};

/// Whom to dial, and how often.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Address and port.
    pub to: SocketAddr,
    /// How to ask.
    #[arg(long, value_enum, default_value_t = Protocol::Tcp)]
    pub protocol: Protocol,
    /// New connections per second; 0: as fast as one comes after the other.
    #[arg(long, default_value_t = 20)]
    pub rate: u32,
    /// How many in all; none: until SIGTERM.
    #[arg(long)]
    pub count: Option<u64>,
    /// How many TCP connections are held open besides, with an echo each tenth of a second.
    #[arg(long, default_value_t = 0)]
    pub hold: u32,
    /// How long to wait for an answer.
    #[arg(long, default_value = "2s", value_parser = super::duration)]
    pub timeout: Duration,
}

/// What became of all of them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Dialled {
    /// New connections that were tried.
    pub tried: u64,
    /// Those that were answered, by the host name of who answered.
    pub answered: BTreeMap<String, u64>,
    /// Source addresses that the servers saw.
    pub seen_as: BTreeMap<String, u64>,
    /// Those that were not answered, by how they ended.
    pub failed: BTreeMap<String, u64>,
    /// The first failures in words.
    pub failures: Vec<String>,
    /// Connections that were held open to the end.
    pub held: u32,
    /// Held connections that broke, in words.
    pub broken: Vec<String>,
    /// The slowest answer in microseconds.
    pub slowest: u64,
}

impl Dialled {
    /// New connections that were not answered.
    pub fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    fn enter(&mut self, number: u64, outcome: &connect::Outcome) {
        self.tried += 1;
        self.slowest = self.slowest.max(outcome.microseconds);
        if let (Ending::Answered, Some(answer)) = (outcome.ending, &outcome.answer) {
            *self.answered.entry(answer.hostname.clone()).or_default() += 1;
            let seen = answer.peer.ip().to_string();
            *self.seen_as.entry(seen).or_default() += 1;
            return;
        }
        let ending = format!("{:?}", outcome.ending).to_lowercase();
        if self.failures.len() < 5 {
            let why = outcome.error.clone().unwrap_or_default();
            let at = jiff::Timestamp::now();
            self.failures
                .push(format!("number {number} at {at}: {ending} {why}"));
        }
        *self.failed.entry(ending).or_default() += 1;
    }
}

/// Dials until the count is reached or SIGTERM comes, and prints what became of it; false if
/// anything failed.
///
/// # Errors
/// When a connection that is to be held does not open.
pub fn run(args: &Args) -> Result<bool, Error> {
    let stop = stop::Stop::install()?;
    let (told, tells) = channel();
    let held: Vec<Sender<()>> = (0..args.hold)
        .map(|number| hold(args, number, told.clone()))
        .collect::<Result<_, _>>()?;
    drop(told);
    super::print(&serde_json::json!({"held": held.len()}));
    let mut dialled = Dialled {
        held: args.hold,
        ..Dialled::default()
    };
    let begin = Instant::now();
    let each = 1.0 / f64::from(args.rate.max(1));
    while !stop.asked() && args.count.is_none_or(|count| dialled.tried < count) {
        let number = dialled.tried;
        dialled.enter(number, &connect::ask(&question(args)));
        if args.rate > 0 {
            let due = Duration::from_secs_f64(each * (number + 1) as f64);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    // Their channels closing ends the threads that hold connections.
    drop(held);
    dialled.broken = tells.iter().collect();
    dialled.held -= u32::try_from(dialled.broken.len())
        .unwrap_or(u32::MAX)
        .min(args.hold);
    super::print(&dialled);
    Ok(dialled.failed() == 0 && dialled.broken.is_empty())
}

fn question(args: &Args) -> connect::Args {
    connect::Args {
        to: args.to,
        protocol: args.protocol,
        timeout: args.timeout,
        source: None,
        path: "/".to_owned(),
    }
}

/// Opens a connection to the echo and keeps it busy on a thread until the sender is dropped.
fn hold(args: &Args, number: u32, told: Sender<String>) -> Result<Sender<()>, Error> {
    let what = || format!("open connection {number} to {}", args.to);
    let stream = TcpStream::connect_timeout(&args.to, args.timeout).map_err(Error::io(what()))?;
    let timeout = args.timeout;
    let (end, ended) = channel();
    std::thread::spawn(move || {
        let began = Instant::now();
        if let Err(error) = echo(&stream, timeout, &ended) {
            let after = began.elapsed().as_secs_f64();
            // Nobody listens any more: the program is at its end.
            let _ = told.send(format!(
                "held connection {number} after {after:.1} s: {error}"
            ));
        }
    });
    Ok(end)
}

fn echo(stream: &TcpStream, timeout: Duration, ended: &Receiver<()>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    serde_json::from_str::<Answer>(&first)?;
    let mut writer = stream.try_clone()?;
    loop {
        writer.write_all(b"still there\n")?;
        let mut echoed = [0; 12];
        reader.read_exact(&mut echoed)?;
        let wait = ended.recv_timeout(Duration::from_millis(100));
        if wait == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ending: Ending, hostname: Option<&str>) -> connect::Outcome {
        let at: SocketAddr = "10.0.0.1:80".parse().unwrap();
        connect::Outcome {
            ending,
            to: at,
            local: None,
            answer: hostname.map(|hostname| Answer {
                peer: at,
                local: at,
                addresses: Vec::new(),
                hostname: hostname.to_owned(),
                path: String::new(),
            }),
            microseconds: 10,
            error: None,
        }
    }

    #[test]
    fn answers_are_counted_by_who_gave_them_and_failures_by_how_they_ended() {
        let mut dialled = Dialled::default();
        for (number, (ending, hostname)) in [
            (Ending::Answered, Some("a")),
            (Ending::Answered, Some("b")),
            (Ending::Answered, Some("a")),
            (Ending::Refused, None),
        ]
        .into_iter()
        .enumerate()
        {
            dialled.enter(number as u64, &outcome(ending, hostname));
        }
        assert_eq!(dialled.answered["a"], 2);
        assert_eq!(dialled.failed(), 1);
        assert!(dialled.failures[0].contains("number 3"), "{dialled:?}");
    }

    #[test]
    fn a_held_connection_that_the_server_closes_is_told() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let args = Args {
            to,
            protocol: Protocol::Tcp,
            rate: 1,
            count: Some(0),
            hold: 1,
            timeout: Duration::from_secs(5),
        };
        let (told, tells) = channel();
        let held = hold(&args, 0, told).unwrap();
        drop(server.accept().unwrap());
        assert!(tells.recv().unwrap().contains("held connection 0"));
        drop(held);
    }
}

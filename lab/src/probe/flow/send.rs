//! The sending end: one packet at each tick of an absolute schedule, so that a late wake-up is made
//! up for and the rate holds.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::packet::Packet;
use super::{GREETING, SendArgs};
use crate::probe::stop::Stop;
use crate::probe::{Error, now_ns, print};

/// What was sent.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Sent {
    /// Which flow.
    pub flow: u64,
    /// How many numbers were used up, those left out on purpose included.
    pub numbers: u64,
    /// How many of them were left out on purpose.
    pub skipped: u64,
    /// How many the kernel refused to send.
    pub refused: u64,
    /// What the kernel said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the first was sent, nanoseconds since 1970.
    pub began_ns: u64,
    /// When the last was sent.
    pub ended_ns: u64,
}

pub(super) fn run(args: &SendArgs) -> Result<bool, Error> {
    let stop = Stop::install()?;
    let any = if args.to.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).map_err(Error::io("open a UDP socket"))?;
    let mut sent = Sent {
        flow: args.flow,
        began_ns: now_ns(),
        ..Sent::default()
    };
    // A route may not be there yet: that is a loss, not an end.
    let mut connected = socket.connect(args.to).is_ok();
    connected = greet(&socket, args, &stop) || connected;
    sent.began_ns = now_ns();
    let tick = Duration::from_secs(1) / args.rate;
    let start = Instant::now();
    while !stop.asked() && args.count.is_none_or(|count| sent.numbers < count) {
        let number = sent.numbers;
        sleep_until(start + tick.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX)));
        sent.numbers += 1;
        if args.skip.contains(number) {
            sent.skipped += 1;
            continue;
        }
        connected = connected || socket.connect(args.to).is_ok();
        let packet = Packet {
            flow: args.flow,
            number,
            sent: now_ns(),
        };
        if let Err(error) = send(&socket, &packet) {
            sent.refused += 1;
            sent.error = Some(error.to_string());
        }
    }
    sent.ended_ns = now_ns();
    print(&sent);
    Ok(true)
}

/// Sends greetings until one comes back; then both ways are open. A path that never opens is not
/// waited for beyond the limit: its losses are then counted.
fn greet(socket: &UdpSocket, args: &SendArgs, stop: &Stop) -> bool {
    let begin = Instant::now();
    let mut buffer = [0; 64];
    while begin.elapsed() < args.greet && !stop.asked() {
        let packet = Packet {
            flow: GREETING,
            number: 0,
            sent: now_ns(),
        };
        let _ = socket.set_read_timeout(Some(Duration::from_millis(50)));
        let sent = socket
            .connect(args.to)
            .and_then(|()| socket.send(&packet.encode()));
        if sent.and_then(|_| socket.recv(&mut buffer)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// An error may belong to an earlier packet (ICMP); then this one was not sent and is tried again.
fn send(socket: &UdpSocket, packet: &Packet) -> std::io::Result<()> {
    let bytes = packet.encode();
    let mut last = None;
    for _ in 0..3 {
        match socket.send(&bytes) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("not tried")))
}

fn sleep_until(when: Instant) {
    let left = when.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

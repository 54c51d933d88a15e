//! Numbered packets: the sender numbers them at a given rate, the receiver says which numbers never
//! came, which came twice or late, and how long the longest silence was.
//!
//! The sender never skips a number by itself: what it cannot send counts as lost. `--skip` makes it
//! leave numbers out on purpose, so that a run can prove that the receiver notices.

use std::net::SocketAddr;
use std::time::Duration;

use super::Error;

pub mod ledger;
pub mod packet;
mod receive;
mod send;

pub use ledger::{Gap, Received};
pub use send::Sent;

/// Which end.
#[derive(clap::Subcommand, Debug)]
pub enum Role {
    /// Send numbered packets until SIGTERM or `--count`, then print how many.
    Send(SendArgs),
    /// Receive them until SIGTERM, then print what was lost, one line per sender.
    Receive(ReceiveArgs),
}

/// What to send.
#[derive(clap::Args, Debug)]
pub struct SendArgs {
    /// Address and port of the receiver.
    pub to: SocketAddr,
    /// Packets per second, 1 to 10,000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// How many; without it until SIGTERM.
    #[arg(long)]
    pub count: Option<u64>,
    /// A number that tells this flow from others at the same receiver.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub flow: u64,
    /// Begin when the receiver has answered a greeting, or after so long. 0s: at once.
    #[arg(long, default_value = "0s", value_parser = super::duration)]
    pub greet: Duration,
    /// Numbers to leave out on purpose, such as 100-109,500.
    #[arg(long = "control", visible_alias = "skip", default_value = "", value_parser = ranges)]
    pub skip: Ranges,
}

/// Where to receive.
#[derive(clap::Args, Debug)]
pub struct ReceiveArgs {
    /// UDP port.
    #[arg(long, default_value_t = 9000)]
    pub port: u16,
    /// After SIGTERM, wait until nothing has come for so long.
    #[arg(long, default_value = "200ms", value_parser = super::duration)]
    pub drain: Duration,
}

/// The flow number of greetings: the receiver sends them back and does not count them.
const GREETING: u64 = 0;

/// Numbers, as inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Is the number in it?
    pub fn contains(&self, number: u64) -> bool {
        self.0
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&number))
    }
}

/// Reads `100-109,500`.
///
/// # Errors
/// A sentence that says how to write it.
pub fn ranges(text: &str) -> Result<Ranges, String> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let parsed = parts.map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if from <= to => Ok((from, to)),
            _ => Err(format!(
                "{part:?} is not a range: write for example 100-109,500"
            )),
        }
    });
    parsed.collect::<Result<_, _>>().map(Ranges)
}

/// Does what the command line asks.
///
/// # Errors
/// When no socket can be had.
pub fn run(role: &Role) -> Result<bool, Error> {
    match role {
        Role::Send(args) => send::run(args),
        Role::Receive(args) => receive::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_nonsense_is_refused() {
        let read = ranges("100-109,500").unwrap();
        assert!(read.contains(100) && read.contains(109) && read.contains(500));
        assert!(!read.contains(110) && !ranges("").unwrap().contains(0));
        for wrong in ["a", "5-4", "1-", "-"] {
            assert!(ranges(wrong).is_err(), "{wrong:?}");
        }
    }
}

//! `weft-probe`: what runs inside pods and namespaces of a lab.
//!
//! One static program with a role per subcommand: it answers, asks, counts numbered packets, forges
//! frames and measures. Results are JSON objects, one per line on standard output, so that the
//! engine reads them and a person can too.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

pub mod answer;
pub mod connect;
pub mod dial;
pub mod dns;
pub mod echo;
pub mod flow;
pub mod frames;
pub mod lookup;
pub mod packet_socket;
pub mod pause;
pub mod pingpong;
pub mod questions;
pub mod serve;
pub mod sniff;
pub mod spoof;
pub mod spray;
pub mod stop;
pub mod talk;

/// The helper of a lab's pods: answers, asks, counts, forges and measures.
#[derive(Parser, Debug)]
#[command(name = "weft-probe", version, max_term_width = 100)]
pub struct Cli {
    /// What to be.
    #[command(subcommand)]
    pub role: Role,
}

/// What the program can be.
#[derive(Subcommand, Debug)]
pub enum Role {
    /// Hold a pod's namespaces: reap children, end on SIGTERM.
    Pause,
    /// Answer HTTP, TCP and UDP with the source address that was seen.
    Serve(serve::Args),
    /// Ask one server once and print the outcome.
    Connect(connect::Args),
    /// Open many connections and say what became of them.
    Dial(dial::Args),
    /// Numbered packets: send them, or receive them and say which were lost.
    #[command(subcommand)]
    Probe(flow::Role),
    /// Send datagrams back as they come.
    Echo(echo::Args),
    /// Look a name up as a program does, with resolv.conf.
    Lookup(lookup::Args),
    /// Ask a DNS server all the time, each question once more where no answer comes, and count.
    Questions(questions::Args),
    /// Ask a DNS server one question; the C library's resolver is not used.
    Resolve(dns::Args),
    /// Send forged packets from here and count them.
    Spoof(spoof::Args),
    /// Count the frames that arrive here and match.
    Sniff(sniff::Args),
    /// Send datagrams to every address of networks.
    Spray(spray::Args),
    /// One connection that goes on.
    #[command(subcommand)]
    Talk(talk::Role),
    /// Requests, responses and bulk data, with their latency and CPU time.
    #[command(subcommand)]
    Pingpong(pingpong::Role),
}

/// Does what the command line asks. 0: as wished; 1: the outcome printed is a failure; 2: it could
/// not be tried.
pub fn run(cli: &Cli) -> ExitCode {
    let outcome = match &cli.role {
        Role::Pause => pause::run().map(|()| true),
        Role::Serve(args) => serve::run(args).map(|()| true),
        Role::Connect(args) => connect::run(args),
        Role::Dial(args) => dial::run(args),
        Role::Probe(role) => flow::run(role),
        Role::Echo(args) => echo::run(args).map(|()| true),
        Role::Lookup(args) => lookup::run(args),
        Role::Questions(args) => questions::run(args),
        Role::Resolve(args) => dns::run(args),
        Role::Spoof(args) => spoof::run(args),
        Role::Sniff(args) => sniff::run(args),
        Role::Spray(args) => spray::run(args),
        Role::Talk(role) => talk::run(role),
        Role::Pingpong(role) => pingpong::run(role),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weft-probe: {error}");
            ExitCode::from(2)
        }
    }
}

/// What went wrong before anything could be tried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the kernel.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// An argument.
    #[error("{0}")]
    Argument(String),
}

impl Error {
    /// Names what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The same for errors of system calls.
    pub fn call(what: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let what = what.into();
        move |source| Self::Io {
            what,
            source: source.into(),
        }
    }
}

/// Prints one line of JSON. A reader that went away is no error: there is nobody left to tell.
pub fn print(value: &impl Serialize) {
    use std::io::Write;
    if let Ok(line) = serde_json::to_string(value) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Reads `250ms`, `2s`, `1m`.
///
/// # Errors
/// A sentence that says how to write it.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "{text:?} is not a duration: write for example 250ms, 2s or 1m"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a duration: write for example 250ms, 2s or 1m"))?;
    Ok(std::time::Duration::from_millis(
        number.saturating_mul(milliseconds),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_and_nonsense_is_refused() {
        assert_eq!(duration("250ms"), Ok(std::time::Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(std::time::Duration::from_secs(120)));
        for wrong in ["", "s", "5", "1.5s", "-1s", "3 s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}

//! A steady stream of DNS questions from a client that asks once more when it gets no answer, and what became of each.
//!
//! An answer is good if it has one of the expected codes and, where wanted, a record of the type. A refusal by ICMP or
//! TCP counts as no answer, and the second attempt follows at once: nothing is gained by waiting.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::dns::{Kind, exchange, outcome, question};
use super::{Error, stop};

/// What to ask, whom, and how often.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The name, absolute.
    pub name: String,
    /// The server.
    #[arg(long)]
    pub server: SocketAddr,
    /// A, AAAA, PTR or SRV.
    #[arg(long = "type", value_enum, default_value_t = Kind::A)]
    pub kind: Kind,
    /// Over TCP.
    #[arg(long)]
    pub tcp: bool,
    /// Questions per second.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// How many in all; none: until SIGTERM.
    #[arg(long)]
    pub count: Option<u64>,
    /// How long to wait for each answer.
    #[arg(long, default_value = "2s", value_parser = super::duration)]
    pub timeout: Duration,
}

/// What became of all of them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Questioned {
    /// Questions.
    pub asked: u64,
    /// Those that needed the second attempt.
    pub again: u64,
    /// Those that neither attempt had a good answer to.
    pub failed: u64,
    /// The first of them in words.
    pub failures: Vec<String>,
    /// Good answers by their records.
    pub answers: BTreeMap<String, u64>,
    /// The slowest good answer in microseconds, second attempts included.
    pub slowest: u64,
}

impl Questioned {
    fn enter(&mut self, first: &Outcome, second: Option<&Outcome>, took: Duration) {
        self.asked += 1;
        self.again += u64::from(second.is_some());
        match second.unwrap_or(first) {
            Ok(records) => {
                *self.answers.entry(records.join(" ")).or_default() += 1;
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.slowest = self.slowest.max(micros);
            }
            Err(last) => {
                self.failed += 1;
                if self.failures.len() < 5 {
                    let first = first.as_ref().err().map_or("answered", String::as_str);
                    let at = jiff::Timestamp::now();
                    self.failures.push(format!(
                        "number {} at {at}: first {first}, then {last}",
                        self.asked
                    ));
                }
            }
        }
    }
}

type Outcome = Result<Vec<String>, String>;

/// Asks until the count is reached or SIGTERM comes, and prints what became of it; false if any question failed.
///
/// # Errors
/// The name is none.
pub fn run(args: &Args) -> Result<bool, Error> {
    let stop = stop::Stop::install()?;
    if question(0, &args.name, args.kind).is_none() {
        return Err(Error::Argument(format!("{:?} is no DNS name", args.name)));
    }
    super::print(&serde_json::json!({"asks": args.name}));
    let mut questioned = Questioned::default();
    let begin = Instant::now();
    let each = 1.0 / f64::from(args.rate.max(1));
    let mut number = 0;
    while !stop.asked() && args.count.is_none_or(|count| number < count) {
        let due = Duration::from_secs_f64(each * number as f64);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        number += 1;
        let start = Instant::now();
        let first = once(args);
        let second = first.is_err().then(|| once(args));
        questioned.enter(&first, second.as_ref(), start.elapsed());
    }
    super::print(&questioned);
    Ok(questioned.failed == 0)
}

fn once(args: &Args) -> Outcome {
    let id = u16::try_from(super::now_ns() & 0xffff).unwrap_or(0);
    let Some(question) = question(id, &args.name, args.kind) else {
        return Err("no name".to_owned());
    };
    let answer = exchange(args.server, args.tcp, args.timeout, &question);
    let resolved = outcome(answer, id, args.kind);
    match (resolved.error, resolved.records) {
        (Some(error), _) => Err(error),
        (None, records) if records.is_empty() => Err(resolved.rcode),
        (None, mut records) => {
            records.sort();
            Ok(records)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_fails_only_when_both_attempts_do() {
        let (good, bad): (Outcome, Outcome) =
            (Ok(vec!["192.0.2.1".to_owned()]), Err("SERVFAIL".to_owned()));
        let mut questioned = Questioned::default();
        questioned.enter(&good, None, Duration::from_micros(5));
        questioned.enter(&bad, Some(&good), Duration::from_micros(9));
        assert_eq!(
            (
                questioned.asked,
                questioned.again,
                questioned.failed,
                questioned.slowest
            ),
            (2, 1, 0, 9)
        );
        questioned.enter(&bad, Some(&bad), Duration::from_secs(9));
        assert_eq!((questioned.failed, questioned.slowest), (1, 9));
        assert!(
            questioned.failures[0].contains("number 3"),
            "{questioned:?}"
        );
    }
}

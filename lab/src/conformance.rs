//! Conformance suites: inputs and expected outcomes as data (`tests/conformance`), judged one by one.
//!
//! A file names its suite; a module per suite knows its format and how to get the program's own
//! outcome. What disagrees is printed, one line a case, and the counts come last.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

pub mod dns;
pub mod packets;
pub mod policy;
pub mod read;
pub mod services;
pub mod verdict;

use read::{Content, Suite};
use verdict::{Case, Verdict};

/// Exit code when a file could not be read.
const UNREADABLE: u8 = 2;

/// What `weft-lab conformance` is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct ConformanceArgs {
    /// Files of suites: .yaml, .json, also .gz.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Send flows through real network namespaces as well (as root).
    #[arg(long)]
    pub packets: bool,
}

/// Judges every case of every file. 0: all agree; 1: some disagree; 2: a file could not be read.
///
/// # Errors
/// When standard output is gone.
pub fn run(args: &ConformanceArgs) -> Result<ExitCode> {
    let mut counts = Counts::default();
    for file in &args.files {
        let name = file.display().to_string();
        match read::file(file).and_then(|content| judge(&content, args.packets)) {
            Ok(cases) => cases.iter().for_each(|case| counts.enter(&name, case)),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                counts.unreadable += 1;
            }
        }
    }
    if counts.inexpressible > 0 {
        println!(
            "{} rows cannot be told by packets (judged by the rules alone)",
            counts.inexpressible
        );
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(counts.exit_code())
}

fn judge(content: &Content, packets: bool) -> Result<Vec<Case>> {
    match content.suite {
        Suite::Services => services::judge(&content.value, packets),
        Suite::Policy => policy::judge(&content.value, packets),
        Suite::Dns => dns::judge(&content.value),
    }
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    inexpressible: usize,
    unreadable: usize,
}

impl Counts {
    fn enter(&mut self, file: &str, case: &Case) {
        match &case.verdict {
            Verdict::Agrees => self.passed += 1,
            Verdict::Differs { expected, got } => {
                println!("{file}: {}: expected {expected}, got {got}", case.name);
                self.failed += 1;
            }
            Verdict::Inexpressible(why) => {
                println!("{file}: {}: not told by packets: {why}", case.name);
                self.inexpressible += 1;
            }
        }
    }

    fn exit_code(self) -> ExitCode {
        if self.unreadable > 0 {
            ExitCode::from(UNREADABLE)
        } else if self.failed > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disagreement_among_many_is_counted_and_ends_with_1() {
        let mut counts = Counts::default();
        counts.enter("f", &Case::compared("a", &"x", &"x"));
        counts.enter("f", &Case::compared("b", &"x", &"y"));
        assert_eq!((counts.passed, counts.failed), (1, 1));
        assert_eq!(counts.exit_code(), ExitCode::FAILURE);
        counts.unreadable = 1;
        assert_eq!(counts.exit_code(), ExitCode::from(UNREADABLE));
    }
}

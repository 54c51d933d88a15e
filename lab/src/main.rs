//! `weft-lab`: reads its arguments and does what they say.

use std::process::ExitCode;

use clap::Parser;
use weft_lab::cli::{self, Cli};

fn main() -> ExitCode {
    // Roles of this same program inside a lab; they run before any thread is started.
    if let Some(code) = cli::hidden_role() {
        return code;
    }
    cli::run(Cli::parse())
}

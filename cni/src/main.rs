//! `weft-cni`: started by the container runtime for each pod, with a request in the environment and
//! on standard input; prints one JSON document.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = weft_cni::plugin::run(std::env::vars_os(), std::io::stdin().lock());
    let written = std::io::stdout()
        .lock()
        .write_all(outcome.stdout.as_bytes());
    match (written, outcome.success) {
        (Ok(()), true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

//! The helper program of a lab's pods; see the module `probe`.

use clap::Parser;

fn main() -> std::process::ExitCode {
    weft_lab::probe::run(&weft_lab::probe::Cli::parse())
}

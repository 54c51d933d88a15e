//! Scenario files: read, checked, run on a lab, reported.

use std::path::PathBuf;

/// What `weft-lab run` is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// Scenario files, or folders of them.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Full counts, and the scenarios that need a lab of their own.
    #[arg(long)]
    pub full: bool,
    /// Write results.jsonl, summary.md and junit.xml into this folder.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Repeat a run with its seed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only scenarios whose file name or sentence contains this.
    #[arg(long)]
    pub only: Option<String>,
}

/// Runs scenario files.
pub fn run(
    _args: &RunArgs,
    _env: &crate::up::Environment,
    _name: &crate::name::LabName,
) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("this build of weft-lab has no scenario engine")
}

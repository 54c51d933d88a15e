//! Benchmarks against peers in the same run.

/// What `weft-lab bench` is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    /// Which.
    #[arg(value_enum)]
    pub name: Name,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The benchmarks.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// CNI ADD against the reference plugins.
    Cni,
    /// Packets against a bare veth.
    Datapath,
}

/// Runs a benchmark.
pub fn run(
    _args: &BenchArgs,
    _env: &crate::up::Environment,
    _name: &crate::name::LabName,
) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("this build of weft-lab has no benchmarks")
}

//! Benchmarks against peers in the same run: measured in turn, on a lab made for the purpose, with
//! ratios and their intervals. Results go to `lab/bench/results/`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::name::LabName;
use crate::progress::Progress;
use crate::up::Environment;

pub mod cni;
pub mod datapath;
pub mod dns;
pub mod inside;
pub mod measure;
pub mod ours;
pub mod policy;
pub mod rig;
pub mod sample;
pub mod services;

use measure::{Measure, Report, table};
use rig::Rig;

/// What `weft-lab bench` is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    /// Which.
    #[arg(value_enum, value_name = "NAME")]
    pub bench: Name,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Rounds; more give narrower intervals.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Measure on the lab that runs already, and leave it.
    #[arg(long)]
    pub here: bool,
    /// Where the result is kept. Default: lab/bench/results/NAME.json of the checkout.
    #[arg(long)]
    pub output: Option<PathBuf>,
}

/// The benchmarks.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// CNI ADD against the reference plugins bridge and ptp.
    Cni,
    /// Packets against a bare veth, and what the agent costs.
    Datapath,
    /// Services against kube-proxy in nftables mode.
    Services,
    /// Policies against a chain for each policy and a set for each selector.
    Policy,
    /// DNS against CoreDNS with its kubernetes plugin.
    Dns,
}

/// Runs a benchmark and prints its table or JSON.
///
/// # Errors
/// When it cannot be run. Goals that are not met are shown and are no error.
pub fn run(args: &BenchArgs, env: &Environment, name: &LabName) -> Result<ExitCode> {
    let progress = Progress::new();
    if cfg!(debug_assertions) {
        progress
            .note("this is a debug build: the figures say nothing (make bench builds for release)");
    }
    if args.bench == Name::Services {
        let measured = services::run(env, name, args.rounds.unwrap_or(11), &progress)?;
        return told(args, env, measured, &progress);
    }
    if args.bench == Name::Policy {
        let measured = policy::run(args.rounds.unwrap_or(11), &progress)?;
        return told(args, env, measured, &progress);
    }
    if args.bench == Name::Dns {
        let measured = dns::run(env, name, args.rounds.unwrap_or(7), &progress)?;
        return told(args, env, measured, &progress);
    }
    let rig = if args.here {
        Rig::here(env, name)?
    } else {
        Rig::make(env, name, &progress)?
    };
    let measured = match args.bench {
        Name::Cni => cni::run(&rig, args.rounds.unwrap_or(200), &progress),
        Name::Datapath => datapath::run(&rig, args.rounds.unwrap_or(15), &progress),
        Name::Services | Name::Policy | Name::Dns => Ok(Vec::new()),
    };
    let taken_down = rig.close();
    let measured = measured?;
    taken_down?;
    told(args, env, measured, &progress)
}

/// Prints and keeps the report.
fn told(
    args: &BenchArgs,
    env: &Environment,
    measured: Vec<Measure>,
    progress: &Progress,
) -> Result<ExitCode> {
    let report = Report::new(args.bench, measured);
    let text = serde_json::to_string_pretty(&report)?;
    if args.json {
        println!("{text}");
    } else {
        println!("{}", table(&report));
    }
    let file = args
        .output
        .clone()
        .unwrap_or_else(|| results(env).join(format!("{}.json", report.name)));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
    }
    std::fs::write(&file, text + "\n")
        .with_context(|| format!("failed to write {}", file.display()))?;
    progress.note(&format!("kept in {}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// The folder of results in the checkout that the charts come from.
fn results(env: &Environment) -> PathBuf {
    env.charts.with_file_name("lab").join("bench/results")
}

/// Anonymous memory of this process in MiB.
fn anonymous() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap_or_default();
    let kib = line.trim().trim_end_matches(" kB").parse::<f64>();
    kib.unwrap_or_default() / 1024.0
}

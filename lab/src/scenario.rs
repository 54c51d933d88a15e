//! Scenario files: read, checked, run on a lab that fits, reported.
//!
//! A scenario runs on the given lab where that one satisfies the file's `topology`; else on one that
//! is made beside it for the run and taken down afterwards. Scenarios that need the same topology
//! share such a lab unless they ask for one of their own.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::name::LabName;
use crate::progress::Progress;
use crate::up::Environment;

pub mod beside;
pub mod collect;
pub mod endpoints;
pub mod lab;
pub mod model;
pub mod number;
pub mod objects;
pub mod outcome;
pub mod pods;
pub mod process;
pub mod read;
pub mod run;
pub mod services;
pub mod spot;
pub mod stage;
pub mod step;
pub mod template;
pub mod wait;

use lab::Lab;
use outcome::{Outcome, Verdict};
use read::Loaded;

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

/// The exit code when scenarios ran and some failed.
pub const SOME_FAILED: u8 = 3;

/// Runs scenarios and prints their table. Skipped ones are not failures: the table says why.
///
/// # Errors
/// When a file has a mistake or there is no lab.
pub fn run(env: &Environment, name: &LabName, args: &RunArgs) -> Result<u8> {
    let mut loaded = read::load(&args.paths)?;
    if let Some(only) = &args.only {
        loaded.retain(|one| {
            one.stem().contains(only.as_str()) || one.scenario.name.contains(only.as_str())
        });
    }
    let seed = args
        .seed
        .unwrap_or_else(|| crate::probe::now_ns() % 1_000_000_007);
    let progress = Progress::new();
    progress.note(&format!("{} scenarios, seed {seed}", loaded.len()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let cluster = Cluster::open(&env.state_dir, name)?;
    let lab = runtime.block_on(Lab::open(cluster))?;
    let mut outcomes = Vec::new();
    let (here, elsewhere): (Vec<Loaded>, Vec<Loaded>) = loaded.into_iter().partition(|one| {
        !one.scenario.topology.own
            && lab
                .lacks(&one.scenario.topology, &one.scenario.requires)
                .is_none()
    });
    for one in &here {
        outcomes.push(runtime.block_on(on(&lab, one, args.full, seed, &progress)));
    }
    outcomes.extend(beside::run(
        env,
        &lab,
        elsewhere,
        args.full,
        &progress,
        |lab, one| {
            runtime.block_on(async {
                let lab = Lab::open(lab.clone()).await?;
                Ok(on(&lab, one, args.full, seed, &progress).await)
            })
        },
    ));
    println!("\n{}", outcome::table(&outcomes));
    if let Some(folder) = &args.report {
        let about = about(&lab, seed, args.full);
        outcome::write(folder, &outcomes, &about).context("failed to write the report")?;
    }
    let failed = outcomes
        .iter()
        .any(|outcome| matches!(outcome.verdict, Verdict::Failed(_)));
    Ok(if failed { SOME_FAILED } else { 0 })
}

async fn on(lab: &Lab, one: &Loaded, is_full: bool, seed: u64, progress: &Progress) -> Outcome {
    let scenario = &one.scenario;
    if let Some(why) = run::not_in_set(scenario, is_full) {
        return Outcome::skipped(&scenario.name, &one.file, why);
    }
    let step = progress.step(&scenario.name);
    let outcome = run::run(lab, one, is_full, seed).await;
    match &outcome.verdict {
        Verdict::Failed(why) => {
            drop(step);
            progress.note(&format!(
                "FAILED {} ({}): {why}",
                scenario.name,
                one.file.display()
            ));
        }
        Verdict::Passed | Verdict::Skipped(_) => step.done(),
    }
    outcome
}

fn about(lab: &Lab, seed: u64, is_full: bool) -> serde_json::Value {
    let options = lab.options();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    serde_json::json!({
        "kernel": kernel.trim(),
        "kubernetes": options.kubernetes,
        "provider": "local",
        "nodes": lab.nodes.len(),
        "ipFamily": options.families,
        "set": if is_full { "full" } else { "short" },
        "seed": seed,
        "time": jiff::Timestamp::now().to_string(),
    })
}

/// The JSON schema of scenario files.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(model::Scenario).to_value()
}

//! From a command line to an answer on standard output.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use weft_core::zones::import::Imported;

use crate::cluster::Cluster;
use crate::import::{self, Kind};
use crate::policy;
use crate::settings::{Access, Cli, Import, Output, PodReference, Question};

/// Exit code: something of the answer is wrong.
const PROBLEM: u8 = 1;
/// Exit code: there is no answer, or not all of it.
pub const COULD_NOT_TELL: u8 = 2;

/// Answers.
///
/// # Errors
/// When there is no answer.
pub fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.question {
        Question::Policy { pod, output } => {
            runtime()?.block_on(policies(&cli.access, pod, *output))
        }
        Question::Import(what) => {
            let imported = runtime()?.block_on(imported(&cli.access, what))?;
            print!("{}", import::text(&imported)?);
            Ok(ExitCode::from(if imported.lost.is_empty() {
                0
            } else {
                PROBLEM
            }))
        }
        Question::Completion { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(*shell, &mut command, "kubectl-weft", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Question::Version => {
            println!("kubectl-weft {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn imported(access: &Access, what: &Import) -> Result<Imported> {
    let (kind, file) = match what {
        Import::Corefile { file } => (Kind::Corefile, file),
        Import::KubeDns { file } => (Kind::KubeDns, file),
    };
    if let Some(path) = file {
        return import::file(kind, path);
    }
    let config = config(access).await?;
    let client = Client::try_from(config).context("failed to make a client of the API server")?;
    import::cluster(kind, client).await
}

async fn policies(access: &Access, pod: &PodReference, output: Output) -> Result<ExitCode> {
    let config = config(access).await?;
    let namespace = access.namespace.as_ref();
    let namespace = namespace.unwrap_or(&config.default_namespace).clone();
    let client = Client::try_from(config).context("failed to make a client of the API server")?;
    let cluster = Cluster::read(client, &namespace, &pod.0).await?;
    let report = policy::report(&cluster);
    match output {
        Output::Table => print!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(if report.is_partial() {
        ExitCode::from(COULD_NOT_TELL)
    } else if !report.errors.is_empty() {
        ExitCode::from(PROBLEM)
    } else {
        ExitCode::SUCCESS
    })
}

async fn config(access: &Access) -> Result<Config> {
    let Access {
        kubeconfig,
        context,
        namespace: _,
    } = access;
    let file = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let file = file.context(
        "there is no kubeconfig to find the cluster by: set KUBECONFIG, or name one with --kubeconfig",
    )?;
    let options = KubeConfigOptions {
        context: context.clone(),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(file, &options)
        .await
        .context("the kubeconfig does not lead to a cluster: see `kubectl config get-contexts`")
}

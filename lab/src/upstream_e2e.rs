//! Kubernetes' own end-to-end tests, run on a lab: programs and images are made, the specs of a focus
//! are run from the control plane's place, and the outcome is a list.
//!
//! What cannot run in any lab is left out by name, with its reason (`lab/upstream-e2e/exclusions.yaml`).

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::control_plane;
use crate::progress::Progress;
use crate::scenario::SOME_FAILED;
use crate::up::Environment;

pub mod exclusion;
pub mod image;
pub mod list;

use exclusion::Exclusion;
use list::List;

/// What `weft-lab upstream-e2e` is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct UpstreamE2eArgs {
    /// Specs whose full name matches this regular expression (Go's).
    #[arg(long, value_name = "REGEX")]
    pub focus: String,
    /// But not those that match this one.
    #[arg(long, value_name = "REGEX")]
    pub skip: Option<String>,
    /// Write the list of specs and outcomes into this file.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// How long all of them may take.
    #[arg(long, default_value = "60m")]
    pub timeout: String,
    /// Only print which specs would run, and which are left out and why.
    #[arg(long)]
    pub list: bool,
}

/// Runs specs on the named lab. Exit code 3 when some failed.
///
/// # Errors
/// When there is no lab, or the tests do not start.
pub fn run(env: &Environment, cluster: &Cluster, args: &UpstreamE2eArgs) -> Result<ExitCode> {
    let progress = Progress::new();
    let programs = env.source.programs(
        &cluster.state().options.kubernetes,
        &["e2e".to_owned()],
        &progress,
    )?;
    let program = programs.path("e2e.test");
    let runner = Runner {
        cluster,
        args,
        program: &program,
    };
    let exclusions = exclusion::read(&env.cluster_folder.with_file_name("upstream-e2e"))?;
    let focused = runner.dry()?;
    let excluded = list::excluded(&focused, &exclusions);
    if args.list {
        print!("{}", List::planned(&focused, &excluded));
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = focused.len() - excluded.len();
    if wanted == 0 {
        bail!("no spec is left to run: {} match --focus", focused.len());
    }
    image::import(env, cluster, &programs.path("agnhost"), &progress)?;
    let step = progress.step(&format!("{wanted} specs of Kubernetes' own tests"));
    let report = runner.real(&exclusions)?;
    step.done();
    let list = List::of(&report, &focused, &excluded);
    if let Some(file) = &args.report {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, list.to_string())
            .with_context(|| format!("failed to write {}", file.display()))?;
    }
    print!("{list}");
    Ok(if list.failed() > 0 {
        ExitCode::from(SOME_FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

struct Runner<'a> {
    cluster: &'a Cluster,
    args: &'a UpstreamE2eArgs,
    program: &'a Path,
}

impl Runner<'_> {
    /// Names of all specs of the focus.
    fn dry(&self) -> Result<Vec<String>> {
        let mut arguments = vec!["--ginkgo.dry-run".to_owned()];
        arguments.extend(self.args.skip.iter().map(|s| format!("--ginkgo.skip={s}")));
        let report = self.start("dry", &arguments)?;
        let chosen = report
            .into_iter()
            .filter(|spec| spec.state != list::State::Skipped);
        Ok(chosen.map(|spec| spec.name).collect())
    }

    fn real(&self, exclusions: &[Exclusion]) -> Result<Vec<list::Spec>> {
        let skips: Vec<String> = self
            .args
            .skip
            .iter()
            .cloned()
            .chain(exclusions.iter().map(Exclusion::pattern))
            .collect();
        let skips = skips.iter().map(|skip| format!("--ginkgo.skip={skip}"));
        self.start("run", &skips.collect::<Vec<_>>())
    }

    /// Starts the tests in the control plane's place and reads their report.
    fn start(&self, what: &str, further: &[String]) -> Result<Vec<list::Spec>> {
        let place = self.cluster.place(control_plane::PLACE)?;
        let folder = self.cluster.paths().place("upstream-e2e");
        std::fs::create_dir_all(&folder)?;
        let report = folder.join(format!("{what}.json"));
        let kubeconfig = self.cluster.paths().pki().join("admin.kubeconfig");
        let mut argv = vec![
            self.program.display().to_string(),
            "--provider=skeleton".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--num-nodes={}", self.cluster.nodes().len()),
            "--allowed-not-ready-nodes=0".to_owned(),
            "--disable-log-dump".to_owned(),
            "--ginkgo.no-color".to_owned(),
            format!("--ginkgo.focus={}", self.args.focus),
            format!("--ginkgo.timeout={}", self.args.timeout),
            format!("--ginkgo.json-report={}", report.display()),
        ];
        argv.extend(further.iter().cloned());
        let log_file = self
            .cluster
            .paths()
            .log(control_plane::PLACE, &format!("upstream-e2e-{what}"));
        let log = crate::place::open_log(&log_file)?;
        let mut command = place.command(&argv)?;
        command
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let status = place
            .spawn_viewing(command, crate::place::spawn::View::Network)?
            .wait()?;
        // Specs that fail make it fail; the report tells that from tests that never began.
        let text = std::fs::read(&report).with_context(|| {
            format!(
                "the tests ended ({status}) without a report; see {}",
                log_file.display()
            )
        })?;
        list::read(&text)
    }
}

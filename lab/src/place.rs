//! A place: a set of Linux namespaces with a first process that holds them.
//!
//! Nodes, the control plane, the switch and the outside world are places. Nothing is pinned to a
//! file: when the first process ends, the kernel ends every other process of the place and frees its
//! network, mounts and containers. That makes taking a lab down one signal per place.

pub mod init;
pub mod spawn;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Cgroups};
use crate::name::LabName;
use crate::paths::Paths;
use init::InitConfig;
use spawn::{Entry, View};

/// What is recorded of a running place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// The first process, as the machine numbers it.
    pub pid: i32,
    /// Its start time in clock ticks since boot, so that a reused number is noticed.
    pub start_ticks: u64,
}

/// A running place.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
    record: PlaceRecord,
    cgroups: Cgroups,
    path: String,
    logs: PathBuf,
}

/// A running process that was found in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundProcess {
    /// Its number, as the machine numbers it.
    pub pid: i32,
    /// The base name of its program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A process that runs on after its starter ended, with its output in a log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// What it is called in `logs`, `status` and faults.
    pub name: String,
    /// The place it runs in.
    pub place: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment besides PATH.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Place {
    /// Starts the first process of a place. `path` is what PATH holds for programs in it.
    pub fn start(lab: &LabName, paths: &Paths, config: &InitConfig, path: &str) -> Result<Self> {
        let name = config.name.clone();
        let cgroups = Cgroups::of(&config.hierarchies, lab, &name);
        cgroups.create(&config.hierarchies)?;
        let dir = paths.place(&name);
        fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        let file = dir.join("init.json");
        fs::write(&file, serde_json::to_vec(config)?)
            .with_context(|| format!("failed to write {}", file.display()))?;
        let log = open_log(&paths.log(&name, "init"))?;

        let mut command = Command::new(own_program()?);
        command
            .arg(init::COMMAND)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let entry = Entry::cgroups_only(&cgroups)?;
        let mut child = spawn::spawn(&entry, command, true)
            .with_context(|| format!("failed to start the first process of {name}"))?;
        let pid = read_first_process(&mut child)
            .with_context(|| first_process_failed(&name, &paths.log(&name, "init")))?;
        child.wait()?;
        let start_ticks = start_ticks(pid)
            .with_context(|| format!("the first process of {name} ended at once"))?;
        let record = PlaceRecord { pid, start_ticks };
        Ok(Self {
            name,
            record,
            cgroups,
            path: path.to_owned(),
            logs: paths.logs(),
        })
    }

    /// Finds a place again from its record.
    ///
    /// # Errors
    /// When its first process has ended.
    pub fn attach(
        lab: &LabName,
        paths: &Paths,
        name: &str,
        record: &PlaceRecord,
        path: &str,
    ) -> Result<Self> {
        if start_ticks(record.pid) != Some(record.start_ticks) {
            bail!("{name} of lab {lab} is not running; `weft-lab up` makes the lab anew");
        }
        Ok(Self {
            name: name.to_owned(),
            record: record.clone(),
            cgroups: Cgroups::of(&cgroup::hierarchies()?, lab, name),
            path: path.to_owned(),
            logs: paths.logs(),
        })
    }

    /// The place's name, such as `node-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first process, as the machine numbers it; its `/proc/<pid>/ns` are the place's.
    pub fn pid(&self) -> i32 {
        self.record.pid
    }

    /// What to record of it.
    pub fn record(&self) -> &PlaceRecord {
        &self.record
    }

    /// The place's cgroups.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// A command with the place's PATH and nothing else of the caller's environment but TERM.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, argv: &[S]) -> Result<Command> {
        let (program, arguments) = argv
            .split_first()
            .ok_or_else(|| anyhow!("no program was given to run in {}", self.name))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", &self.path);
        command.env("HOME", "/root");
        if let Some(term) = std::env::var_os("TERM") {
            command.env("TERM", term);
        }
        Ok(command)
    }

    /// Starts `command` inside the place; the caller owns the child and its pipes.
    pub fn spawn(&self, command: Command) -> Result<Child> {
        self.spawn_viewing(command, View::All)
    }

    /// As [`Place::spawn`], with a choice of namespaces.
    pub fn spawn_viewing(&self, command: Command, view: View) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        let entry = Entry::open(self.record.pid, view, &self.cgroups)
            .with_context(|| format!("failed to enter {}", self.name))?;
        spawn::spawn(&entry, command, true)
            .with_context(|| format!("failed to start {program} in {}", self.name))
    }

    /// Runs a command with the caller's terminal.
    pub fn run_attached<S: AsRef<std::ffi::OsStr>>(&self, argv: &[S]) -> Result<ExitStatus> {
        let command = self.command(argv)?;
        let entry = Entry::open(self.record.pid, View::All, &self.cgroups)?;
        let mut child = spawn::spawn(&entry, command, false)
            .with_context(|| format!("failed to start the program in {}", self.name))?;
        Ok(child.wait()?)
    }

    /// Runs a command to its end and returns what it printed.
    pub fn output<S: AsRef<std::ffi::OsStr>>(&self, argv: &[S]) -> Result<Output> {
        let mut command = self.command(argv)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(self.spawn(command)?.wait_with_output()?)
    }

    /// Runs a command that must succeed and returns its standard output.
    pub fn text<S: AsRef<std::ffi::OsStr>>(&self, argv: &[S]) -> Result<String> {
        let output = self.output(argv)?;
        let words: Vec<_> = argv.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        succeeded(&output, &format!("{} in {}", words.join(" "), self.name))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Feeds a command that must succeed from `input`, seeing the place's network but the machine's
    /// processes and files.
    pub fn feed_network(&self, argv: &[&str], input: &str) -> Result<()> {
        let mut command = self.command(argv)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.spawn_viewing(command, View::Network)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let what = format!("{} in {} with:\n{input}", argv.join(" "), self.name);
        succeeded(&output, &what)
    }

    /// Starts a daemon and returns its process number. A thread of the caller collects it when it ends.
    pub fn start_daemon(&self, daemon: &Daemon) -> Result<i32> {
        let log_file = self
            .logs
            .join(&self.name)
            .join(format!("{}.log", daemon.name));
        let log = open_log(&log_file)?;
        let mut command = self.command(&daemon.argv)?;
        command
            .envs(&daemon.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = self.spawn(command)?;
        let pid = i32::try_from(child.id())?;
        std::thread::spawn(move || child.wait());
        Ok(pid)
    }

    /// All processes of the place whose program's base name is `program`, containers included.
    pub fn processes(&self, program: &str) -> Vec<FoundProcess> {
        let mut found = self.all_processes();
        found.retain(|p| p.program == program);
        found
    }

    /// All processes of the place, containers included.
    pub fn all_processes(&self) -> Vec<FoundProcess> {
        let pids = self.cgroups.processes();
        pids.into_iter().filter_map(found_process).collect()
    }

    /// Sends a signal to all processes of a program; returns how many there were.
    pub fn signal(&self, program: &str, signal: nix::sys::signal::Signal) -> usize {
        let found = self.processes(program);
        for process in &found {
            // It may have ended in between, which is no failure of the signal.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), signal);
        }
        found.len()
    }

    /// Ends the place: the kernel ends every process in it.
    pub fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(self.record.pid);
        if start_ticks(self.record.pid) == Some(self.record.start_ticks) {
            // Gone in between is what was wanted.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// `weft-lab` itself, to be started again in another role: this program, or, when a test holds the
/// library, the one that was built with it.
pub fn own_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    if folder.ends_with("deps") {
        let built = folder.with_file_name("weft-lab");
        anyhow::ensure!(
            built.exists(),
            "{} is missing: build all programs with `make build`",
            built.display()
        );
        return Ok(built);
    }
    Ok(own)
}

/// Opens a log file for appending and makes its folder.
pub fn open_log(path: &Path) -> Result<fs::File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    }
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("failed to open {}", path.display()))
}

/// When a process started, in clock ticks since boot (proc(5), stat, field 22); `None` when it has
/// ended.
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may hold spaces and parentheses: count from the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// An error with the program's own words unless it succeeded.
pub fn succeeded(output: &Output, what: &str) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = if words.trim().is_empty() {
        String::from_utf8_lossy(&output.stdout)
    } else {
        words
    };
    bail!("{what} failed ({}): {}", output.status, words.trim())
}

fn read_first_process(child: &mut Child) -> Result<i32> {
    let stdout = child
        .stdout
        .take()
        .context("no pipe to the first process")?;
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let pid = line
        .trim()
        .parse::<i32>()
        .with_context(|| format!("no process number but {line:?}"))?;
    let mut rest = String::new();
    reader.read_to_string(&mut rest)?;
    if rest.trim() == "ready" {
        Ok(pid)
    } else {
        bail!("it ended before it was ready")
    }
}

fn first_process_failed(name: &str, log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().last().unwrap_or("no output").to_owned();
    format!("failed to set up the namespaces of {name}: {last}")
}

fn found_process(pid: i32) -> Option<FoundProcess> {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let program = exe.file_name()?.to_string_lossy();
    let program = program.trim_end_matches(" (deleted)").to_owned();
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.split(|byte| *byte == 0).filter(|w| !w.is_empty());
    let arguments = words.map(|w| String::from_utf8_lossy(w).into_owned());
    Some(FoundProcess {
        pid,
        program,
        arguments: arguments.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_has_no_start_time() {
        assert!(start_ticks(i32::try_from(std::process::id()).unwrap()).is_some());
        assert_eq!(start_ticks(i32::MAX), None);
    }

    #[test]
    fn a_failure_carries_the_words_of_the_program() {
        let output = Command::new("sh")
            .args(["-c", "echo no such bridge >&2; exit 3"])
            .output();
        let error = succeeded(&output.unwrap(), "ip link")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ip link") && error.contains("no such bridge"),
            "{error}"
        );
    }
}

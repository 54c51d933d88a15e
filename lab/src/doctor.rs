//! What a machine needs to run labs, checked, each with the line that mends it.

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Result, ensure};

use crate::asset::find::search;
use crate::cgroup;
use crate::up::Environment;

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As needed.
    Good(String),
    /// Labs work, with a limit.
    Limited(String),
    /// Labs do not work until this is mended.
    Missing(String),
}

use Verdict::{Good, Limited, Missing};

/// Checks everything and prints a line each. Code 1 when something is missing.
pub fn print(env: &Environment) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for (what, verdict) in checks(env) {
        let (mark, text) = match &verdict {
            Good(text) => ("ok", text),
            Limited(text) => ("limited", text),
            Missing(text) => ("MISSING", text),
        };
        println!("{mark:8} {what:14} {text}");
        if matches!(verdict, Missing(_)) {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// All checks with their names.
pub fn checks(env: &Environment) -> Vec<(&'static str, Verdict)> {
    vec![
        ("root", root()),
        ("processors", processors()),
        ("memory", memory()),
        ("disk", disk(env)),
        ("inotify", inotify()),
        ("cgroups", cgroups()),
        ("namespaces", namespaces()),
        ("overlayfs", file_system("overlay")),
        ("vxlan", module("vxlan")),
        ("bridge", module("bridge")),
        ("ip", program("ip", "iproute2", true)),
        ("nft", program("nft", "nftables", true)),
        ("go", program("go", "golang", false)),
        ("gcc", program("gcc", "gcc", false)),
        ("curl", program("curl", "curl", false)),
    ]
}

fn root() -> Verdict {
    if nix::unistd::geteuid().is_root() {
        Good("running as root".to_owned())
    } else {
        Missing("labs make namespaces and mounts: run weft-lab as root".to_owned())
    }
}

fn processors() -> Verdict {
    match std::thread::available_parallelism() {
        Ok(count) if count.get() >= 2 => Good(format!("{count}")),
        Ok(count) => Limited(format!(
            "{count}: starting a lab will take long, 2 or more are better"
        )),
        Err(error) => Limited(format!("not known: {error}")),
    }
}

fn memory() -> Verdict {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    memory_verdict(kib.unwrap_or(0) / 1024)
}

fn memory_verdict(mib: u64) -> Verdict {
    match mib {
        0..=1999 => Missing(format!(
            "{mib} MiB available: three nodes need about 2000 MiB"
        )),
        2000..=3999 => Limited(format!(
            "{mib} MiB available: enough for three nodes, ten need 4000 MiB"
        )),
        _ => Good(format!("{mib} MiB available")),
    }
}

fn disk(env: &Environment) -> Verdict {
    let existing = |path: &std::path::Path| {
        let found = path.ancestors().find(|p| p.exists());
        found.unwrap_or(std::path::Path::new("/")).to_owned()
    };
    let (cache, state) = (existing(&env.source.cache), existing(&env.state_dir));
    let free = |path: &std::path::Path| {
        let found = nix::sys::statvfs::statvfs(path);
        found.map_or(0, |s| {
            s.blocks_available().saturating_mul(s.fragment_size()) >> 30
        })
    };
    let kind = nix::sys::statfs::statfs(&state).map(|s| s.filesystem_type());
    if kind == Ok(nix::sys::statfs::OVERLAYFS_SUPER_MAGIC) {
        return Missing(format!(
            "{} lies on overlayfs, on which containers cannot be unpacked: name a folder of a real disk with --state-dir",
            state.display()
        ));
    }
    match free(&cache).min(free(&state)) {
        gib @ 0..=4 => Missing(format!(
            "{gib} GiB free for {} and {}: 5 GiB are needed, 25 GiB to build all programs",
            cache.display(),
            state.display()
        )),
        gib @ 5..=24 => Limited(format!(
            "{gib} GiB free: enough where programs need not be built (25 GiB)"
        )),
        gib => Good(format!("{gib} GiB free")),
    }
}

/// inotify instances of one node: kubelet six, the container runtime two, kube-proxy one.
const INOTIFY_PER_NODE: u64 = 9;
/// inotify instances of the API server and the controller manager.
const INOTIFY_CONTROL_PLANE: u64 = 11;
const INOTIFY_REMEDY: &str = "sysctl fs.inotify.max_user_instances=1024";

/// Refuses a lab whose kubelets could not start: they end when inotify instances run out, and their
/// nodes would never become Ready.
pub fn check_inotify(nodes: u64) -> Result<()> {
    let (limit, used) = (inotify_limit(), inotify_in_use());
    let needed = INOTIFY_CONTROL_PLANE + nodes * INOTIFY_PER_NODE;
    ensure!(
        used + needed <= limit,
        "{nodes} nodes need {needed} inotify instances, of {limit} that this machine allows {used} are in use: take another lab down, or raise the limit with {INOTIFY_REMEDY}"
    );
    Ok(())
}

fn inotify() -> Verdict {
    inotify_verdict(inotify_limit(), inotify_in_use())
}

fn inotify_limit() -> u64 {
    let file = "/proc/sys/fs/inotify/max_user_instances";
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// How many instances all processes hold; nearly all belong to root, as a lab's own do.
fn inotify_in_use() -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let descriptors = processes
        .filter_map(|process| fs::read_dir(process.path().join("fd")).ok())
        .flat_map(|folder| folder.flatten());
    let is_inotify = |entry: &fs::DirEntry| {
        let target = fs::read_link(entry.path());
        target.is_ok_and(|target| target.to_string_lossy().contains("inotify"))
    };
    descriptors.filter(is_inotify).count() as u64
}

fn inotify_verdict(limit: u64, used: u64) -> Verdict {
    let free = limit.saturating_sub(used + INOTIFY_CONTROL_PLANE);
    let nodes = free / INOTIFY_PER_NODE;
    let text = format!("{used} of {limit} instances in use");
    match nodes {
        0..=2 => Missing(format!(
            "{text}, not enough for three nodes: {INOTIFY_REMEDY}"
        )),
        3..=49 => Limited(format!(
            "{text}, enough for {nodes} nodes; for more: {INOTIFY_REMEDY}"
        )),
        _ => Good(text),
    }
}

fn cgroups() -> Verdict {
    match cgroup::hierarchies() {
        Ok(found) if found.iter().all(|h| h.v1.is_none()) => Good("version 2".to_owned()),
        Ok(found) => Good(format!("version 1, {} hierarchies", found.len())),
        Err(error) => Missing(error.to_string()),
    }
}

fn namespaces() -> Verdict {
    let wanted = ["net", "mnt", "pid", "uts", "ipc", "cgroup"];
    let lacks: Vec<&str> = wanted
        .into_iter()
        .filter(|name| !std::path::Path::new("/proc/self/ns").join(name).exists())
        .collect();
    if lacks.is_empty() {
        Good(wanted.join(", "))
    } else {
        Missing(format!(
            "this kernel has no namespaces of kind {}",
            lacks.join(", ")
        ))
    }
}

fn file_system(name: &str) -> Verdict {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.split_whitespace().any(|word| word == name) {
        return Good("in the kernel".to_owned());
    }
    module(name)
}

fn module(name: &str) -> Verdict {
    let loaded = fs::read_to_string("/proc/modules").unwrap_or_default();
    let is = |line: &str| line.split_whitespace().next() == Some(name);
    if loaded.lines().any(is) || std::path::Path::new("/sys/module").join(name).exists() {
        return Good("in the kernel".to_owned());
    }
    let dry_run = search("modprobe").map(|modprobe| {
        let mut command = Command::new(modprobe);
        command
            .args(["--dry-run", "--quiet", name])
            .stderr(Stdio::null())
            .status()
    });
    match dry_run {
        Some(Ok(status)) if status.success() => Good("a module that can be loaded".to_owned()),
        _ => Limited(format!(
            "{name} was not found; if it is not built into the kernel: modprobe {name}"
        )),
    }
}

fn program(name: &str, package: &str, needed: bool) -> Verdict {
    match search(name) {
        Some(path) => Good(path.display().to_string()),
        None if needed => Missing(format!("apt-get install {package}")),
        None => Limited(format!(
            "needed only to make programs that are not in the cache: apt-get install {package}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_the_line_that_installs_it() {
        assert_eq!(
            program("no-such-program", "some-package", true),
            Missing("apt-get install some-package".to_owned())
        );
        assert!(matches!(program("sh", "dash", true), Good(_)));
    }

    #[test]
    fn limits_are_told_from_failures() {
        assert!(matches!(memory_verdict(500), Missing(_)));
        assert!(matches!(memory_verdict(8000), Good(_)));
        assert!(matches!(inotify_verdict(128, 0), Limited(text) if text.contains("13 nodes")));
        assert!(matches!(inotify_verdict(128, 100), Missing(_)));
        assert!(matches!(inotify_verdict(1024, 20), Good(_)));
    }
}

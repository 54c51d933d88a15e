//! What of the machine itself a lab could have changed, as text that compares.
//!
//! Taken before `up` and after `down`, two of these must be equal. Only values that the kernel changes
//! by itself are left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cgroup;
use crate::place::succeeded;

/// Sysctls that change without anybody's doing, by the start of their path below /proc/sys.
const RESTLESS: [&str; 14] = [
    "fs/aio-nr",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/quota/",
    "kernel/ns_last_pid",
    "kernel/perf_event_max_sample_rate",
    "kernel/pty/nr",
    "kernel/random/",
    "kernel/sched_domain/",
    "net/ipv4/tcp_fastopen_key",
    "net/netfilter/nf_conntrack_count",
    "sunrpc/",
];

/// The state of the machine: facts by kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    facts: BTreeMap<String, String>,
}

impl HostState {
    /// Reads the state of this machine's own namespaces.
    pub fn read() -> Result<Self> {
        let mut state = Self::default();
        state.list("netns", &names_in("/run/netns"));
        state.list("folder", &names_in("/opt"));
        state.list("folder", &names_in("/etc/cni/net.d"));
        state.mounts()?;
        state.cgroups()?;
        for (kind, argv) in [
            ("nft", &["nft", "list", "ruleset"][..]),
            ("route", &["ip", "-4", "route", "show", "table", "all"]),
            ("route", &["ip", "-6", "route", "show", "table", "all"]),
            ("rule", &["ip", "rule"]),
            ("rule", &["ip", "-6", "rule"]),
            ("address", &["ip", "-o", "address"]),
        ] {
            state.list(kind, &printed(argv)?);
        }
        state.sysctls(Path::new("/proc/sys"));
        Ok(state)
    }

    /// What was changed, a line each: `-` was there before, `+` is there now.
    pub fn changes_to(&self, after: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, value) in &self.facts {
            if after.facts.get(name) != Some(value) {
                changes.push(format!("- {name} {value}").trim_end().to_owned());
            }
        }
        for (name, value) in &after.facts {
            if self.facts.get(name) != Some(value) {
                changes.push(format!("+ {name} {value}").trim_end().to_owned());
            }
        }
        changes
    }

    /// Leaves out facts for which `leave_out` holds, for machines on which others are at work.
    pub fn without(mut self, leave_out: impl Fn(&str) -> bool) -> Self {
        self.facts.retain(|name, _| !leave_out(name));
        self
    }

    fn list(&mut self, kind: &str, lines: &[String]) {
        for line in lines {
            self.facts
                .insert(format!("{kind} {}", line.trim()), String::new());
        }
    }

    fn mounts(&mut self) -> Result<()> {
        let text = fs::read_to_string("/proc/self/mountinfo")
            .context("failed to read /proc/self/mountinfo")?;
        // The first two fields are numbers that say nothing.
        let lines = text.lines().map(|line| {
            let fields: Vec<&str> = line.split(' ').skip(2).collect();
            fields.join(" ")
        });
        self.list("mount", &lines.collect::<Vec<_>>());
        Ok(())
    }

    fn cgroups(&mut self) -> Result<()> {
        for hierarchy in cgroup::hierarchies()? {
            self.folders(&hierarchy.mount, 4);
        }
        Ok(())
    }

    fn folders(&mut self, dir: &Path, depth: u8) {
        let Ok(entries) = fs::read_dir(dir) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                self.list("cgroup", &[path.display().to_string()]);
                if depth > 0 {
                    self.folders(&path, depth - 1);
                }
            }
        }
    }

    fn sysctls(&mut self, dir: &Path) {
        let Ok(entries) = fs::read_dir(dir) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let below = path.strip_prefix("/proc/sys").unwrap_or(&path);
            let name = below.display().to_string();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.sysctls(&path);
            } else if !RESTLESS.iter().any(|start| name.starts_with(start))
                && let Ok(value) = fs::read_to_string(&path)
            {
                self.facts
                    .insert(format!("sysctl {name}"), value.trim().to_owned());
            }
        }
    }
}

fn names_in(dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let path = |entry: fs::DirEntry| entry.path().display().to_string();
    entries.flatten().map(path).collect()
}

fn printed(argv: &[&str]) -> Result<Vec<String>> {
    let Some((program, arguments)) = argv.split_first() else {
        return Ok(Vec::new());
    };
    let file = crate::asset::find::search(program).with_context(|| {
        format!("{program} is missing; `weft-lab doctor` says how to install it")
    })?;
    let output = Command::new(file).args(arguments).output()?;
    succeeded(&output, &argv.join(" "))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Lifetimes count down by themselves.
    let lines = text.lines().map(without_lifetimes);
    Ok(lines.filter(|line| !line.is_empty()).collect())
}

fn without_lifetimes(line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if matches!(word, "expires" | "valid_lft" | "preferred_lft") {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_nobody_touches_stays_equal_in_its_sysctls() {
        let only_sysctls = |state: HostState| state.without(|name| !name.starts_with("sysctl"));
        let before = only_sysctls(HostState::read().unwrap());
        let after = only_sysctls(HostState::read().unwrap());
        assert!(
            before.facts.len() > 200,
            "only {} sysctls were read",
            before.facts.len()
        );
        assert_eq!(before.changes_to(&after), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_change_is_noticed() {
        let mut before = HostState::default();
        before.list("netns", &["/run/netns/a".to_owned()]);
        before
            .facts
            .insert("sysctl vm/panic".to_owned(), "0".to_owned());
        let mut after = before.clone();
        assert!(before.changes_to(&after).is_empty());
        after.list("mount", &["/x".to_owned()]);
        after
            .facts
            .insert("sysctl vm/panic".to_owned(), "1".to_owned());
        after.facts.remove("netns /run/netns/a");
        let changes = before.changes_to(&after);
        let expected = [
            "- netns /run/netns/a",
            "- sysctl vm/panic 0",
            "+ mount /x",
            "+ sysctl vm/panic 1",
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn lifetimes_do_not_count_as_changes() {
        assert_eq!(
            without_lifetimes("fe80::1 expires 12sec pref medium"),
            "fe80::1 pref medium"
        );
    }
}

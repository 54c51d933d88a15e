//! One cgroup per place in every hierarchy the machine has, version 1 or 2.
//!
//! Every process of a lab starts inside `weft-lab/<lab>/<place>`. So whatever is found there belongs
//! to the lab by construction, also after a crash, and `down` needs no names of processes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::name::LabName;

const ROOT: &str = "weft-lab";
/// Controllers that kubelet wants in a version 2 hierarchy.
const CONTROLLERS_V2: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// One mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// `None` for version 2; else the mount options of version 1, such as `cpu,cpuacct` or `name=systemd`.
    pub v1: Option<String>,
}

impl Hierarchy {
    fn has_cpuset(&self) -> bool {
        let options = self.v1.as_deref().unwrap_or_default();
        options.split(',').any(|option| option == "cpuset")
    }
}

/// All hierarchies mounted on this machine.
pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/mounts").context("failed to read /proc/mounts")?;
    let found = parse_mounts(&mounts);
    if found.is_empty() {
        bail!("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup and try again");
    }
    Ok(found)
}

/// The cgroups of one place, one in each hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroups {
    dirs: Vec<PathBuf>,
}

impl Cgroups {
    /// Names the cgroups of a place; creates nothing.
    pub fn of(hierarchies: &[Hierarchy], lab: &LabName, place: &str) -> Self {
        let below = Path::new(ROOT).join(lab.as_str()).join(place);
        Self {
            dirs: hierarchies.iter().map(|h| h.mount.join(&below)).collect(),
        }
    }

    /// Makes the cgroups, with the cpuset and the controllers of their parents.
    pub fn create(&self, hierarchies: &[Hierarchy]) -> Result<()> {
        let pure_v2 = hierarchies.iter().all(|h| h.v1.is_none());
        for (hierarchy, dir) in hierarchies.iter().zip(&self.dirs) {
            let below = dir.strip_prefix(&hierarchy.mount).unwrap_or(dir);
            let mut at = hierarchy.mount.clone();
            for part in below.components() {
                if pure_v2 {
                    enable_controllers(&at);
                }
                let parent = at.clone();
                at.push(part);
                make_dir(&at)?;
                if hierarchy.has_cpuset() {
                    copy_cpuset(&parent, &at)?;
                }
            }
        }
        Ok(())
    }

    /// The `cgroup.procs` files that a process writes itself into to become part of the place.
    ///
    /// With version 2 no process may sit in a cgroup that hands controllers on, as kubelet wants of a
    /// node's own: the first process moves to a leaf `init` below, and all later ones start there.
    pub fn entrances(&self) -> Vec<PathBuf> {
        let leaf = |dir: &PathBuf| {
            let init = dir.join("init");
            let dir = if init.is_dir() { &init } else { dir };
            dir.join("cgroup.procs")
        };
        self.dirs.iter().map(leaf).collect()
    }

    /// All processes in the place, containers included.
    pub fn processes(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for dir in &self.dirs {
            collect_processes(dir, &mut found);
        }
        found
    }

    /// The folder of the controller `name` (version 1), or of version 2.
    pub fn dir(&self, hierarchies: &[Hierarchy], controller: &str) -> Option<PathBuf> {
        let named = |h: &Hierarchy| {
            let options = h.v1.as_deref().unwrap_or(controller);
            options.split(',').any(|o| o == controller)
        };
        let found = hierarchies.iter().position(named)?;
        self.dirs.get(found).cloned()
    }
}

/// Ends everything in the lab's cgroups, then removes them. Returns how many processes were ended.
///
/// # Errors
/// When something is still there after 30 s.
pub fn remove_lab(hierarchies: &[Hierarchy], lab: &LabName) -> Result<usize> {
    let dirs: Vec<PathBuf> = hierarchies
        .iter()
        .map(|h| h.mount.join(ROOT).join(lab.as_str()))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut ended = BTreeSet::new();
    loop {
        let mut alive = BTreeSet::new();
        for dir in &dirs {
            collect_processes(dir, &mut alive);
        }
        alive.remove(&0);
        for pid in &alive {
            ended.insert(*pid);
            kill(*pid);
        }
        let mut left = false;
        if alive.is_empty() {
            for dir in &dirs {
                remove_tree(dir);
                left |= dir.exists();
            }
        }
        if alive.is_empty() && !left {
            break;
        }
        if Instant::now() > deadline {
            bail!(
                "processes {alive:?} of lab {lab} did not end within 30 s; look at them with ps and try `weft-lab down` again"
            );
        }
        sleep(Duration::from_millis(30));
    }
    for hierarchy in hierarchies {
        // Fails while another lab uses it, which is right.
        let _ = fs::remove_dir(hierarchy.mount.join(ROOT));
    }
    Ok(ended.len())
}

/// The names of labs that have cgroups, whatever their state files say.
pub fn labs(hierarchies: &[Hierarchy]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for hierarchy in hierarchies {
        for dir in children(&hierarchy.mount.join(ROOT)) {
            if let Some(name) = dir.file_name().and_then(|n| n.to_str()) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    // Already gone is as good as ended.
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
}

fn parse_mounts(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, mount, kind, options, ..] = fields[..] else {
            continue;
        };
        let v1 = match kind {
            "cgroup2" => None,
            "cgroup" => Some(v1_options(options)),
            _ => continue,
        };
        let mount = PathBuf::from(mount);
        if mount.starts_with("/sys/fs/cgroup") && !found.iter().any(|h| h.mount == mount) {
            found.push(Hierarchy { mount, v1 });
        }
    }
    found
}

/// Of all mount options those that say which hierarchy it is.
fn v1_options(options: &str) -> String {
    let general = [
        "rw",
        "ro",
        "relatime",
        "noatime",
        "nosuid",
        "nodev",
        "noexec",
        "xattr",
        "clone_children",
        "cpuset_v2_mode",
        "noprefix",
    ];
    let own = |o: &&str| !general.contains(o) && !o.starts_with("release_agent");
    options.split(',').filter(own).collect::<Vec<_>>().join(",")
}

fn make_dir(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("failed to make the cgroup {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn enable_controllers(dir: &Path) {
    let read = |name| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let (available, enabled) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    for controller in CONTROLLERS_V2 {
        let has = |list: &str| list.split_whitespace().any(|c| c == controller);
        if has(&available) && !has(&enabled) {
            // A machine that refuses one controller still runs; kubelet says what it lacks.
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

fn copy_cpuset(parent: &Path, dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(dir.join(file)).unwrap_or_default();
        if own.trim().is_empty() {
            let value = fs::read_to_string(parent.join(file))
                .with_context(|| format!("failed to read {file} of {}", parent.display()))?;
            fs::write(dir.join(file), value.trim())
                .with_context(|| format!("failed to write {file} of {}", dir.display()))?;
        }
    }
    Ok(())
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let folder = |e: &fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
    entries.flatten().filter(folder).map(|e| e.path()).collect()
}

fn collect_processes(dir: &Path, found: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(dir) {
        collect_processes(&child, found);
    }
}

fn remove_tree(dir: &Path) {
    for child in children(dir) {
        remove_tree(&child);
    }
    // Busy for a moment after the last process ended; the caller looks again.
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_read_from_the_mounts() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n\
                      cgroup /elsewhere cgroup rw,cpu 0 0\n";
        let found = parse_mounts(mounts);
        let kinds: Vec<_> = found.iter().map(|h| h.v1.as_deref()).collect();
        assert_eq!(kinds, [Some("cpu,cpuacct"), Some("name=systemd"), None]);
    }

    #[test]
    fn every_place_has_its_own_cgroup_in_every_hierarchy() {
        let hierarchies = parse_mounts("c /sys/fs/cgroup cgroup2 rw 0 0\n");
        let lab: LabName = "one".parse().unwrap();
        let cgroups = Cgroups::of(&hierarchies, &lab, "node-1");
        assert_eq!(
            cgroups.dirs,
            [PathBuf::from("/sys/fs/cgroup/weft-lab/one/node-1")]
        );
        assert_eq!(
            cgroups.dir(&hierarchies, "memory"),
            Some(cgroups.dirs[0].clone())
        );
    }
}

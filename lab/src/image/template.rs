//! Imports all images once, and gives each node a copy of the result at the cost of hard links.
//!
//! A container runtime's folder holds blobs and unpacked layers, which are only ever read, and a few
//! databases. A node's folder links the former and copies the latter. Ten nodes then start in the time
//! that importing into one would take.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use super::archive::ImageSpec;
use super::{hex, stamp};
use crate::cgroup;
use crate::name::LabName;
use crate::node::{RUNTIME_SOCKET, containerd_config, in_place};
use crate::paths::Paths;
use crate::place::init::InitConfig;
use crate::place::{Daemon, Place, succeeded};
use crate::progress::Progress;
use crate::state::LabState;

const PLACE: &str = "images";

/// The folder of a runtime that has all these images; makes it if it is not in the cache.
pub fn ensure(
    specs: &[ImageSpec],
    state: &LabState,
    paths: &Paths,
    cache: &Path,
    keep: &[PathBuf],
    progress: &Progress,
) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for spec in specs {
        hash.update(stamp(spec)?);
    }
    hash.update(state.programs.path("containerd").display().to_string());
    let dir = cache.join("image-roots").join(hex(&hash.finalize(), 8));
    if dir.is_dir() {
        // The folders used last are kept.
        let _ = fs::File::open(&dir).and_then(|open| open.set_modified(SystemTime::now()));
        return Ok(dir);
    }
    let archives = super::make(specs, cache, progress)?;
    let step = progress.step("importing images");
    let place = start_place(&state.name, paths, state, keep)?;
    let imported = import(&place, state, &archives);
    place.kill();
    imported?;
    let made = paths.place(PLACE).join("node").join("containerd");
    let parent = dir.parent().unwrap_or(cache);
    fs::create_dir_all(parent)?;
    remove_older(parent, 6);
    let new = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(parent)?;
    copy_tree(&made, new.path())?;
    // Another lab may have made the same in the meantime.
    let new = new.keep();
    fs::File::open(&new)?.set_modified(SystemTime::now())?;
    if fs::rename(&new, &dir).is_err() {
        fs::remove_dir_all(&new)?;
    }
    fs::remove_dir_all(&made).context("failed to remove the folder of the import")?;
    step.done();
    Ok(dir)
}

/// Gives a node its copy.
pub fn copy(template: &Path, node_dir: &Path) -> Result<()> {
    let target = node_dir.join("containerd");
    fs::create_dir_all(&target)?;
    copy_tree(template, &target)?;
    let databases = Command::new("find")
        .arg(template)
        .args(["-name", "*.db", "-printf", "%P\\n"])
        .output()
        .context("failed to start find")?;
    succeeded(&databases, "find")?;
    for name in String::from_utf8_lossy(&databases.stdout).lines() {
        let to = target.join(name);
        // Never write through the link.
        fs::remove_file(&to).with_context(|| format!("failed to replace {}", to.display()))?;
        fs::copy(template.join(name), &to)
            .with_context(|| format!("failed to copy {}", to.display()))?;
    }
    Ok(())
}

/// Hard links where the file system allows it, copies elsewhere.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let run = |flags: &str| {
        let mut command = Command::new("cp");
        command.arg(flags).arg(from.join(".")).arg(to);
        command.output().context("failed to start cp")
    };
    if run("-al")?.status.success() {
        return Ok(());
    }
    fs::remove_dir_all(to).and_then(|()| fs::create_dir_all(to))?;
    succeeded(&run("-a")?, &format!("copying {}", from.display()))
}

fn start_place(lab: &LabName, paths: &Paths, state: &LabState, keep: &[PathBuf]) -> Result<Place> {
    let node_dir = paths.place(PLACE).join("node");
    fs::create_dir_all(&node_dir)?;
    let config = InitConfig {
        name: PLACE.to_owned(),
        node_dir: Some(node_dir),
        keep: keep.to_vec(),
        resolvers: Vec::new(),
        hierarchies: cgroup::hierarchies()?,
        forwards: false,
    };
    Place::start(lab, paths, &config, &state.programs.search_path())
}

fn import(place: &Place, state: &LabState, archives: &[super::Archive]) -> Result<()> {
    let config = in_place(place, "/etc/containerd-import.toml");
    fs::write(&config, containerd_config(&state.programs.path("runc")))
        .with_context(|| format!("failed to write {}", config.display()))?;
    place.start_daemon(&Daemon {
        name: "containerd".to_owned(),
        place: PLACE.to_owned(),
        argv: vec![
            state.programs.path("containerd").display().to_string(),
            "--config".to_owned(),
            "/etc/containerd-import.toml".to_owned(),
        ],
        env: std::collections::BTreeMap::new(),
    })?;
    wait_for_socket(place, Duration::from_secs(30))?;
    for archive in archives {
        let file = archive.file.display().to_string();
        place.text(&["ctr", "-n", "k8s.io", "images", "import", "--local", &file])?;
    }
    place.signal("containerd", Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !place.processes("containerd").is_empty() {
        if Instant::now() > deadline {
            bail!("the container runtime did not stop after the import");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until a node's container runtime listens.
pub fn wait_for_socket(place: &Place, limit: Duration) -> Result<()> {
    let socket = in_place(place, RUNTIME_SOCKET);
    let deadline = Instant::now() + limit;
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        if Instant::now() > deadline {
            bail!(
                "the container runtime of {} does not listen; see `weft-lab logs`",
                place.name()
            );
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn remove_older(dir: &Path, keep: usize) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    for (_, path) in found.iter().rev().skip(keep) {
        // Nodes hold links of their own: removing an old root takes nothing from them.
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn blobs_are_linked_and_databases_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let template = dir.path().join("template");
        fs::create_dir_all(template.join("content/blobs")).unwrap();
        fs::write(template.join("content/blobs/a"), "blob").unwrap();
        fs::write(template.join("content/meta.db"), "database").unwrap();
        let node = dir.path().join("node");
        copy(&template, &node).unwrap();
        let same = |name: &str| {
            let number = |root: PathBuf| fs::metadata(root.join(name)).unwrap().ino();
            number(template.clone()) == number(node.join("containerd"))
        };
        assert!(same("content/blobs/a"));
        assert!(!same("content/meta.db"));
        assert_eq!(
            fs::read(node.join("containerd/content/meta.db")).unwrap(),
            b"database"
        );
    }
}

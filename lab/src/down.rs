//! Takes a lab down: processes, cgroups, files. Nothing of it is elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cgroup;
use crate::name::LabName;
use crate::paths::Paths;
use crate::state::Lock;

/// Takes one lab down, whole or in pieces. Returns how many processes were ended.
pub fn down(state_dir: &Path, name: &LabName) -> Result<usize> {
    let paths = Paths::new(state_dir, name);
    let lock = Lock::take(&paths, name)?;
    let ended = remove(&paths, name)?;
    fs::remove_file(paths.lock()).context("failed to remove the lock")?;
    drop(lock);
    // Fails while other labs are there, which is right.
    let _ = fs::remove_dir(state_dir);
    Ok(ended)
}

/// Removes a lab whose lock is held.
pub(crate) fn remove(paths: &Paths, name: &LabName) -> Result<usize> {
    let ended = cgroup::remove_lab(&cgroup::hierarchies()?, name)?;
    let dir = paths.lab();
    match fs::remove_dir_all(&dir) {
        Ok(()) => Ok(ended),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ended),
        Err(error) => Err(error).with_context(|| format!("failed to remove {}", dir.display())),
    }
}

/// The names of all labs that left anything on this machine.
pub fn labs(state_dir: &Path) -> Result<BTreeSet<LabName>> {
    let mut names = cgroup::labs(&cgroup::hierarchies()?);
    if let Ok(entries) = fs::read_dir(state_dir) {
        for entry in entries.flatten() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

//! Looks for programs that are already there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::versions::Asset;

/// All programs of an asset in one folder, or `None` when one is missing.
pub fn in_folder(folder: Option<&Path>, asset: &Asset) -> Option<BTreeMap<String, PathBuf>> {
    let folder = folder?;
    let mut found = BTreeMap::new();
    for program in asset.programs.keys() {
        let file = folder.join(program);
        if !is_executable(&file) {
            return None;
        }
        found.insert(program.clone(), file);
    }
    Some(found)
}

/// All programs of an asset in `$PATH`, in exactly the pinned version.
pub fn in_path(asset: &Asset) -> Option<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for program in asset.programs.keys() {
        let arguments = asset.version_arguments.get(program)?;
        let file = search(program)?;
        let output = Command::new(&file).args(arguments).output().ok()?;
        let printed = [output.stdout, output.stderr].concat();
        if !names_version(&String::from_utf8_lossy(&printed), &asset.version) {
            return None;
        }
        found.insert(program.clone(), file);
    }
    Some(found)
}

/// A program's file in `$PATH` and the system folders that a user's `$PATH` may lack.
pub fn search(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let dirs = path
        .split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/go/bin"]);
    let mut files = dirs.map(|dir| Path::new(dir).join(program));
    files.find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::metadata(file);
    found.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Whether a version stands in a text as a word of its own: `1.3.6` is not in `1.3.60`.
fn names_version(text: &str, version: &str) -> bool {
    text.match_indices(version).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + version.len()..].chars().next();
        let part_of_number = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || c == '.');
        !part_of_number(before) && !part_of_number(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_recognised_only_as_a_whole() {
        assert!(names_version("runc version 1.3.6\ncommit", "1.3.6"));
        assert!(names_version("Kubernetes v1.34.10", "1.34.10"));
        assert!(!names_version("runc version 1.3.60", "1.3.6"));
        assert!(!names_version("runc version 11.3.6", "1.3.6"));
    }

    #[test]
    fn a_folder_that_lacks_one_program_does_not_count() {
        let assets = super::super::versions::pinned().unwrap();
        let cni = assets.iter().find(|a| a.name == "cni").unwrap();
        let dir = tempfile::tempdir().unwrap();
        for program in cni.programs.keys() {
            std::fs::copy("/bin/true", dir.path().join(program)).unwrap();
        }
        assert_eq!(in_folder(Some(dir.path()), cni).unwrap().len(), 5);
        std::fs::remove_file(dir.path().join("ptp")).unwrap();
        assert_eq!(in_folder(Some(dir.path()), cni), None);
    }
}

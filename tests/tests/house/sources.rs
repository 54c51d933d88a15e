//! Rules for Rust files: a head that says what the file is for, a bounded length, no `mod.rs`.

use std::path::PathBuf;

/// Beyond this a file is two things. Tables of test rows do not count.
const LONGEST: usize = 900;

#[test]
fn every_file_says_what_it_is_for() {
    let wrong: Vec<_> = rust_files()
        .into_iter()
        .filter(|path| {
            let text = super::read(path).unwrap_or_default();
            let first = text
                .lines()
                .find(|line| !line.starts_with("// ") && !line.trim().is_empty());
            !first.is_some_and(|line| line.starts_with("//!"))
        })
        .collect();
    assert!(wrong.is_empty(), "no head (`//!`) in {wrong:?}");
}

#[test]
fn no_file_is_two_things() {
    let long: Vec<_> = rust_files()
        .into_iter()
        .map(|path| (super::read(&path).unwrap_or_default().lines().count(), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .collect();
    assert!(long.is_empty(), "more than {LONGEST} lines: {long:?}");
}

#[test]
fn modules_stand_beside_their_folders() {
    let wrong: Vec<_> = rust_files()
        .into_iter()
        .filter(|path| path.ends_with("mod.rs"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn rust_files() -> Vec<PathBuf> {
    let files: Vec<_> = super::files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    assert!(
        files.len() > 20,
        "only {} Rust files: the list is broken",
        files.len()
    );
    files
}

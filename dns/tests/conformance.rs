//! Every conformance file agrees, on both paths.

use std::path::{Path, PathBuf};

use weft_dns::conformance::{Judged, Suite, judge};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/dns")
}

pub fn suites() -> Vec<Suite> {
    let entries = std::fs::read_dir(folder()).expect("the folder");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a file");
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

/// Of judged files: how many cases agree, and how the others do not.
pub fn count(judged: Vec<(String, Result<Vec<Judged>, String>)>) -> (usize, Vec<String>) {
    let (mut passed, mut faults) = (0, Vec::new());
    for (file, cases) in judged {
        for case in cases.unwrap_or_else(|error| panic!("{file}: {error}")) {
            passed += usize::from(case.disagreements.is_empty());
            faults.extend(
                case.disagreements
                    .iter()
                    .map(|fault| format!("{file}: {}: {fault:#?}", case.name)),
            );
        }
    }
    (passed, faults)
}

#[test]
fn every_case_agrees_on_both_paths() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let judge = |suite: Suite| {
        let judged = judge(&suite, |served, case| case.ask_both(served, &runtime));
        (suite.name, judged)
    };
    let (passed, faults) = count(suites().into_iter().map(judge).collect());
    assert!(
        faults.is_empty(),
        "{passed} passed, {} failed:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(passed > 150, "only {passed} cases were found");
}

/// A case that is right, with one thing about it changed.
fn changed(from: &str, to: &str) -> usize {
    let text = std::fs::read_to_string(folder().join("headless-srv.yaml")).expect("a file");
    assert!(text.contains(from), "{from:?} is not in the file");
    let suite: Suite = serde_saphyr::from_str(&text.replace(from, to)).expect("a suite");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let judged = judge(&suite, |served, case| case.ask_both(served, &runtime));
    let judged = judged.expect("judged");
    judged.iter().map(|case| case.disagreements.len()).sum()
}

#[test]
fn a_wrong_row_is_found_on_each_path() {
    let rows = [
        ("SRV * * 80 ep-0.hosts", "SRV * * 81 ep-0.hosts"),
        ("SRV * * 80 ep-0.hosts", "SRV * 7 80 ep-0.hosts"),
        ("SRV * * 80 ep-0.hosts", "SRV * * 80 ep-7.hosts"),
        (
            "hosts.default.svc.cluster.local. 5 IN SRV * * 80 ep-0",
            "hosts.default.svc.cluster.local. 6 IN SRV * * 80 ep-0",
        ),
        ("rcode: NOERROR", "rcode: NXDOMAIN"),
    ];
    for (from, to) in rows {
        assert!(changed(from, to) >= 2, "{to:?} went unnoticed");
    }
    assert_eq!(changed("rcode: NOERROR", "rcode: NOERROR"), 0);
}

//! Which crate may use which: the table in ARCHITECTURE.md is held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

type Edges = BTreeMap<String, BTreeSet<String>>;

#[test]
fn crates_use_only_what_the_table_allows() {
    let allowed = table();
    let used = used();
    assert_eq!(
        allowed.keys().collect::<Vec<_>>(),
        used.keys().collect::<Vec<_>>(),
        "the table in ARCHITECTURE.md and the workspace name different packages"
    );
    assert_eq!(violations(&allowed, &used), Vec::<String>::new());
}

#[test]
fn an_edge_that_the_table_lacks_is_found() {
    let allowed = table();
    let mut used = used();
    used.get_mut("weft-crds")
        .unwrap()
        .insert("weft-kernel".to_owned());
    assert_eq!(violations(&allowed, &used), ["weft-crds uses weft-kernel"]);
}

#[test]
fn pure_crates_stay_without_runtime_and_client() {
    for (package, never) in [
        ("weft-crds", &["tokio", "kube-client"][..]),
        ("weft-nft", &["tokio", "kube-client", "netlink-sys"]),
        ("weft-core", &["tokio", "kube-client", "tracing"]),
        ("weft-kernel", &["tokio", "kube-client"]),
        ("weft-cni", &["tokio", "kube-client"]),
    ] {
        let reached = closure(package);
        assert!(
            reached.len() > 2,
            "{package} reaches nothing: the walk is broken"
        );
        for name in never {
            assert!(!reached.contains(*name), "{package} reaches {name}");
        }
    }
}

fn violations(allowed: &Edges, used: &Edges) -> Vec<String> {
    used.iter()
        .flat_map(|(package, uses)| {
            let allowed = allowed.get(package).cloned().unwrap_or_default();
            uses.difference(&allowed)
                .map(|other| format!("{package} uses {other}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Rows of the table under "Folders": package and the packages of its column "May use".
fn table() -> Edges {
    let text = super::read(std::path::Path::new("ARCHITECTURE.md")).unwrap();
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| Folder |"))
        .skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .filter_map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let package = cells[2].trim_matches('`');
            let uses = cells[4]
                .split(',')
                .map(|name| name.trim().trim_matches('`').to_owned());
            package.starts_with("weft-").then(|| {
                (
                    package.to_owned(),
                    uses.filter(|name| !name.is_empty()).collect(),
                )
            })
        })
        .collect()
}

fn used() -> Edges {
    let metadata = super::metadata();
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|id| id.as_str())
        .collect();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| members.contains(package["id"].as_str().unwrap()))
        .map(|package| {
            let uses = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|dependency| {
                    let name = dependency["name"].as_str().unwrap();
                    name.starts_with("weft-").then(|| name.to_owned())
                });
            (package["name"].as_str().unwrap().to_owned(), uses.collect())
        })
        .collect()
}

/// Names of all packages that a package is built with, as `cargo build -p` would resolve features;
/// tests' dependencies do not count.
fn closure(package: &str) -> BTreeSet<String> {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "tree", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}",
        ])
        .current_dir(super::root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

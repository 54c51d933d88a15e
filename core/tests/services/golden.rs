//! `golden/services/<case>/input.yaml`, in the form of the conformance files: what the last stage leaves in
//! the table, the transactions that lead there from the stage before, and what becomes of the last
//! stage's flows, rule by rule (`trace.snap`).

use std::fmt::Write;
use std::path::Path;

use super::conformance::{self, Stand, read};
use super::table;

/// Chains and sets of services, by the beginnings of their names.
const OURS: &[&str] = &[
    "affinity",
    "choose",
    "cluster-ips",
    "count",
    "endpoint-pairs",
    "eps",
    "gate",
    "inner",
    "invalid",
    "masquerade-own",
    "masquerade-services",
    "nat",
    "no-",
    "number",
    "outer",
    "outside",
    "own",
    "pick",
    "service",
    "source-ranges",
];

#[test]
fn compiled_services_are_as_committed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/services");
    let mut cases: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 3);
    for case in cases {
        let file = read(&case.join("input.yaml"));
        let mut stand = Stand::new(&file);
        let mut transactions = String::new();
        for stage in &file.stages {
            stand.enter(stage);
            transactions.clear();
            for (number, batch) in stand.services.compile().batches.enumerate() {
                writeln!(transactions, "# transaction {}", number + 1).unwrap();
                for change in &batch.changes {
                    writeln!(transactions, "{change}").unwrap();
                }
            }
            stand.services.committed();
        }
        let mut table = table(&stand.services);
        assert_eq!(table.faults(), [], "{}", case.display());
        let mut stories = String::new();
        for flow in file
            .stages
            .last()
            .into_iter()
            .flat_map(|stage| &stage.flows)
        {
            let wrong = conformance::wrong(&table, &file, flow);
            assert_eq!(wrong, None, "{}: {}", case.display(), flow.name);
            let traces = conformance::traces(&table, &file, flow);
            writeln!(stories, "# {}\n{traces}", flow.name).unwrap();
        }
        let ours = |name: &String| OURS.iter().any(|start| name.starts_with(start));
        table.chains.retain(|name, _| ours(name));
        table
            .sets
            .retain(|name, set| ours(name) && !(name.ends_with('6') && set.elements.is_empty()));
        let mut out = format!("{table}\n{transactions}");
        for finding in stand.services.findings() {
            writeln!(out, "found [{}] {finding}", finding.code()).unwrap();
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(&case);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("plan", out));
        settings.bind(|| insta::assert_snapshot!("trace", stories));
    }
}

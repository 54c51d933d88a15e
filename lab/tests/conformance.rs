//! Every file of the services and policy suites agrees, and a file that is wrong about one thing does not.

use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_lab::conformance::verdict::Verdict;
use weft_lab::conformance::{policy, read, services};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/services");
    let entries = std::fs::read_dir(folder).expect("the folder of the suite");
    let files = entries.map(|entry| entry.expect("an entry").path());
    files
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect()
}

fn disagreements(value: &Value) -> Vec<String> {
    let cases = services::judge(value, false).expect("the file is judged");
    assert!(!cases.is_empty());
    let different = cases
        .iter()
        .filter(|case| !services::all_agree(std::slice::from_ref(case)));
    different.map(|case| format!("{case:?}")).collect()
}

#[test]
fn services_do_what_every_file_says() {
    let files = files();
    assert!(files.len() > 30, "only {} files", files.len());
    for file in files {
        let content = read::file(&file).unwrap();
        let different = disagreements(&content.value);
        assert!(different.is_empty(), "{}: {different:#?}", file.display());
    }
}

/// A part of the files: all of them take a minute (`weft-lab conformance --packets`).
#[test]
fn packets_end_as_the_rules_say() {
    for name in [
        "own-reject-or-drop",
        "own-affinity",
        "own-hairpin",
        "own-dual-stack",
        "masquerade",
    ] {
        let file = files()
            .into_iter()
            .find(|file| file.ends_with(format!("{name}.yaml")));
        let content = read::file(&file.unwrap()).unwrap();
        let cases = services::judge(&content.value, true).unwrap();
        let different: Vec<String> = cases
            .iter()
            .filter(|case| matches!(case.verdict, Verdict::Differs { .. }))
            .map(|case| format!("{case:?}"))
            .collect();
        assert!(different.is_empty(), "{name}: {different:#?}");
    }
}

#[test]
fn a_wrong_expectation_is_noticed_by_packets_too() {
    let file = files()
        .into_iter()
        .find(|file| file.ends_with("cluster-ip.yaml"));
    let mut content = read::file(&file.unwrap()).unwrap();
    content.value["stages"][0]["flows"][0]["expect"] = serde_json::json!("drop");
    let cases = services::judge(&content.value, true).unwrap();
    let told = cases.iter().any(|case| match &case.verdict {
        Verdict::Differs { got, .. } => got.ends_with("(as packets)"),
        Verdict::Agrees | Verdict::Inexpressible(_) => false,
    });
    assert!(told, "{cases:#?}");
}

#[test]
fn another_endpoint_another_source_and_another_end_are_noticed() {
    let file = files()
        .into_iter()
        .find(|file| file.ends_with("masquerade.yaml"))
        .unwrap();
    let content = read::file(&file).unwrap();
    assert!(disagreements(&content.value).is_empty());
    for wrong in [
        serde_json::json!({"endpoints": ["10.180.0.1:80"], "masquerade": false}),
        serde_json::json!({"endpoints": ["10.180.0.1:80", "10.180.1.1:80"], "masquerade": true}),
        serde_json::json!({"endpoints": ["10.180.0.1:80", "10.180.1.1:80"], "masquerade": false, "affinity": 5}),
        serde_json::json!("drop"),
        serde_json::json!("reject"),
        serde_json::json!("untouched"),
    ] {
        let mut value = content.value.clone();
        value["stages"][0]["flows"][0]["expect"] = wrong.clone();
        assert_eq!(disagreements(&value).len(), 1, "{wrong}");
    }
}

fn policy_file(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/policy");
    read::file(&folder.join(name))
        .expect("a file of the suite")
        .value
}

/// Steps of these cases alone.
fn only(mut file: Value, cases: &[&str]) -> Value {
    let steps = file["steps"].as_array_mut().expect("steps");
    steps.retain(|step| cases.iter().any(|case| step["case"] == *case));
    assert!(steps.len() >= cases.len(), "a case is not there: {cases:?}");
    file
}

fn differences(file: &Value, packets: bool) -> Vec<String> {
    let cases = policy::judge(file, packets).expect("the file is judged");
    let differ = cases
        .iter()
        .filter(|case| matches!(case.verdict, Verdict::Differs { .. }));
    differ.map(|case| format!("{case:?}")).collect()
}

/// `core/tests/policy.rs` judges all files; here it is the way from step to step that counts.
#[test]
fn policies_end_as_the_files_say_whatever_was_before() {
    for name in ["edges.yaml", "cluster-network-policy.json.gz"] {
        let different = differences(&policy_file(name), false);
        assert!(different.is_empty(), "{name}: {different:#?}");
    }
}

/// A part of the files: all of them take minutes (`weft-lab conformance --packets`).
#[test]
fn packets_end_as_policies_say() {
    let file = only(policy_file("three-tier.yaml.gz"), &["three-tiers-together"]);
    for file in [file, policy_file("edges.yaml")] {
        let different = differences(&file, true);
        assert!(different.is_empty(), "{different:#?}");
    }
}

#[test]
fn a_wrong_row_about_policies_is_noticed_by_rules_and_by_packets() {
    let mut file = only(policy_file("three-tier.yaml.gz"), &["default-deny-ingress"]);
    let rows = file["steps"][0]["rows"].as_array_mut().unwrap();
    for wanted in ["allowed", "blocked"] {
        let row = rows
            .iter_mut()
            .find(|row| row["combined"] == wanted)
            .unwrap();
        let other = if wanted == "allowed" {
            "blocked"
        } else {
            "allowed"
        };
        row["combined"] = other.into();
        row["marked"] = true.into();
    }
    rows.retain(|row| row.get("marked").is_some());
    for row in rows {
        row.as_object_mut().unwrap().remove("marked");
    }
    assert_eq!(differences(&file, false).len(), 2);
    let told = differences(&file, true);
    let by_packets = told.iter().filter(|case| case.contains("(as packets)"));
    assert_eq!(by_packets.count(), 2, "{told:#?}");
}

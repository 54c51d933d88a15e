//! What `kubectl get` and `kubectl describe` show of the resources, as a user reads it.

use std::process::Command;

#[test]
#[ignore = "needs a lab cluster: make test starts one"]
fn pools_overlays_and_addresses_have_their_columns() {
    // A pod with an address, so that there is something to list.
    kubectl(&[
        "-n",
        "kube-system",
        "rollout",
        "status",
        "deployment/coredns",
        "--timeout=180s",
    ]);
    let text = kubectl(&["get", "ipp"]);
    assert_eq!(
        words(text.lines().next().unwrap()),
        ["NAME", "CIDR", "USED", "FREE", "NODES", "READY", "AGE"]
    );
    let row = words(text.lines().nth(1).expect("a pool"));
    assert_eq!(row[0], "default");
    assert!(row[1].contains("10.64.0.0/16"), "{row:?}");
    assert_eq!(row[5], "True", "{row:?}");

    let text = kubectl(&["get", "ovl"]);
    assert_eq!(
        words(text.lines().next().unwrap()),
        ["NAME", "MODE", "VNI", "MTU", "NODES", "READY", "AGE"]
    );
    let row = words(text.lines().nth(1).expect("an overlay"));
    assert_eq!(row[5], "True", "{row:?}");

    let text = kubectl(&["get", "podaddresses", "-A"]);
    let head = words(text.lines().next().unwrap());
    assert_eq!(
        head,
        ["NAMESPACE", "NAME", "POD", "NODE", "ADDRESS", "POOL", "AGE"]
    );
    assert!(text.lines().count() > 1, "no pod has an address");
}

#[test]
#[ignore = "needs a lab cluster: make test starts one"]
fn describing_a_pool_reads_like_a_runbook() {
    let text = kubectl(&["describe", "ipp", "default"]);
    for part in [
        "Conditions:",
        "Accepted",
        "Allocatable",
        "Ready",
        "Families:",
        "Capacity:",
        "Allocated:",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("Phase"), "{text}");
}

fn kubectl(arguments: &[&str]) -> String {
    let output = Command::new("kubectl")
        .args(arguments)
        .env("KUBECONFIG", super::kubeconfig())
        .output()
        .expect("kubectl is in PATH: `weft-lab assets --list` prints the folders");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

//! Everything wrong that can arrive: an error object, exit code 1, and nothing changed.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Call, config, read};

#[test]
fn wrong_standard_input_is_an_error_object() {
    let folder = tempfile::tempdir().unwrap();
    let with = |field: &str, value: Value| {
        let mut config = config(folder.path());
        config[field] = value;
        config.to_string().into_bytes()
    };
    let rows: Vec<(Vec<u8>, u64)> = vec![
        (b"".to_vec(), 6),
        (b"not json".to_vec(), 6),
        (b"[1, 2]".to_vec(), 6),
        (vec![b' '; 1 << 20], 6),
        (vec![0; 1 << 20], 6),
        (vec![b'{'; 3 << 20], 6),
        (with("cniVersion", json!("0.2.0")), 1),
        (with("cniVersion", Value::Null), 1),
        (with("name", json!("../../etc")), 7),
        (with("socket", json!("/run/../etc/shadow")), 7),
        (with("spoolDir", json!("spool")), 7),
        (with("ipam", json!({"type": "host-local"})), 2),
        (with("prevResult", json!("x")), 7),
        (
            with(
                "prevResult",
                json!({"interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}]}),
            ),
            7,
        ),
    ];
    for verb in ["ADD", "DEL"] {
        for (stdin, code) in &rows {
            let mut call = Call::new(verb, folder.path());
            call.netns = "/run/netns/weftcni-absent";
            let (value, success) = read(&call.run_with(stdin));
            let shown = String::from_utf8_lossy(&stdin[..stdin.len().min(200)]);
            // DEL does not look at the interfaces of prevResult: it has to succeed.
            if verb == "DEL" && shown.contains("\"sandbox\"") {
                assert!(success);
                continue;
            }
            assert!(!success, "{verb} {shown}");
            assert_eq!(value["code"], *code, "{verb} {shown}: {value}");
            assert!(!value["msg"].as_str().unwrap().is_empty());
            assert!(value["cniVersion"].is_string());
        }
    }
}

#[test]
fn wrong_variables_are_an_error_object_and_nothing_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        ("CNI_COMMAND", ""),
        ("CNI_COMMAND", "REMOVE"),
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../spool"),
        ("CNI_IFNAME", "sixteen-bytes-xx"),
        ("CNI_IFNAME", "../all"),
        ("CNI_NETNS", "/run/../proc/1/ns/net"),
        (
            "CNI_ARGS",
            "K8S_POD_NAMESPACE=../../kube-system;K8S_POD_NAME=a",
        ),
    ];
    for row in rows {
        let mut call = Call::new("DEL", folder.path());
        call.variables = vec![row];
        let (value, success) = read(&call.run());
        assert!(!success, "{row:?}");
        assert_eq!(value["code"], 4, "{row:?}");
    }
    assert!(!folder.path().join("spool").exists());
}

#[test]
fn a_namespace_that_is_not_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let rows = [
        ("/run/netns/weftcni-absent", 3),
        (file, 4),
        ("/proc/self/ns/net", 4),
        ("/proc/self/ns/uts", 4),
    ];
    for (netns, code) in rows {
        let mut call = Call::new("ADD", folder.path());
        call.netns = netns;
        let (value, success) = read(&call.run());
        assert!(!success);
        assert_eq!(value["code"], code, "{netns}: {value}");
    }
}

proptest! {
    #[test]
    fn random_input_is_refused_in_good_order(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        variables in proptest::collection::vec(("CNI_[A-Z]{2,12}", "[ -~]{0,40}"), 0..6),
    ) {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let verb = std::iter::once(("CNI_COMMAND".into(), "ADD".into()));
        let outcome = weft_cni::plugin::run(variables.chain(verb), &bytes[..]);
        prop_assert!(!outcome.success);
        let value: Value = serde_json::from_str(&outcome.stdout).unwrap();
        prop_assert!(value["code"].as_u64().is_some_and(|code| code > 0));
    }

    #[test]
    fn random_json_of_the_right_shape_never_panics(name in "\\PC{0,20}", socket in "\\PC{0,20}", port in any::<i64>()) {
        let text = json!({
            "cniVersion": "1.1.0", "name": name, "socket": socket,
            "runtimeConfig": {"portMappings": [{"hostPort": port, "containerPort": port}]},
        });
        if let Ok(config) = weft_cni::config::Config::of(text) {
            prop_assert!(config.port_mappings.iter().all(|mapping| mapping.container_port != 0));
        }
    }
}

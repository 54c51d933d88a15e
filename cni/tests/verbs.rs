//! Each verb with an agent and without one.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use nix::sys::socket::{MsgFlags, recv, send};
use serde_json::json;
use weft_cni::plugin::ADD_LIMIT;
use weft_cni::spool;
use weft_cni::wire::{Added, Request, Response};

use crate::agent::answer;
use crate::namespaces::Namespace;
use crate::{Call, read};

fn added() -> Response {
    Response::Added(Added {
        host_link: "weft0123456789".to_owned(),
        host_mac: "02:00:00:00:00:01".to_owned(),
        pod_mac: "02:00:00:00:00:02".to_owned(),
        mtu: 1450,
        addresses: vec!["10.64.0.5".parse().unwrap()],
    })
}

#[test]
fn add_hands_over_a_socket_of_the_pods_namespace_and_prepares_it() {
    let (folder, namespace) = (tempfile::tempdir().unwrap(), Namespace::new());
    namespace.output(&[
        "ip",
        "link",
        "add",
        "weftmark0",
        "type",
        "veth",
        "peer",
        "name",
        "weftmark1",
    ]);
    namespace.output(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    let agent = answer(folder.path(), vec![Some(added())]);
    let path = namespace.path();
    let mut call = Call::new("ADD", folder.path());
    call.netns = &path;
    call.config["runtimeConfig"] =
        json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}]});
    let (value, success) = read(&call.run());
    assert!(success, "{value}");
    assert_eq!(
        value["ips"][0],
        json!({"address": "10.64.0.5/32", "interface": 1, "gateway": "169.254.1.1"})
    );
    let (request, descriptor) = agent.join().unwrap().remove(0);
    let Request::Add(attachment) = request else {
        panic!("{request:?}")
    };
    assert_eq!(
        (attachment.pod_name.as_str(), attachment.netns.as_str()),
        ("web-0", path.as_str())
    );
    assert_eq!(
        (
            attachment.port_mappings[0].host_port,
            attachment.port_mappings[0].protocol.as_str()
        ),
        (8080, "tcp")
    );
    assert!(
        links(&descriptor.unwrap())
            .windows(9)
            .any(|bytes| bytes == b"weftmark0")
    );
    for (name, wanted) in [
        ("disable_ipv6", "0"),
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("accept_dad", "0"),
    ] {
        let text = namespace.output(&["cat", &format!("/proc/sys/net/ipv6/conf/default/{name}")]);
        assert_eq!(text.trim(), wanted, "{name}");
    }
}

/// The answer to a dump of links (RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP) over a socket.
fn links(socket: &OwnedFd) -> Vec<u8> {
    let mut request = vec![0_u8; 32];
    request[..8].copy_from_slice(&[32, 0, 0, 0, 18, 0, 1, 3]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty()).unwrap();
    let mut answer = Vec::new();
    // NLMSG_DONE is type 3.
    loop {
        let mut buffer = vec![0; 65536];
        let count = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        let done = buffer[4..8] == [3, 0, 2, 0];
        answer.extend_from_slice(&buffer[..count]);
        if done {
            break;
        }
    }
    answer
}

#[test]
fn add_without_an_agent_is_code_11_at_once() {
    let (folder, namespace) = (tempfile::tempdir().unwrap(), Namespace::new());
    let path = namespace.path();
    let mut call = Call::new("ADD", folder.path());
    call.netns = &path;
    let begun = Instant::now();
    let (value, success) = read(&call.run());
    assert!(!success && begun.elapsed() < ADD_LIMIT);
    assert_eq!(value["code"], 11);
    assert!(
        value["details"]
            .as_str()
            .unwrap()
            .contains("no agent listens on"),
        "{value}"
    );
}

#[test]
fn a_request_is_sent_again_when_the_agents_process_dies() {
    let (folder, namespace) = (tempfile::tempdir().unwrap(), Namespace::new());
    let agent = answer(folder.path(), vec![None, None, Some(added())]);
    let path = namespace.path();
    let mut call = Call::new("ADD", folder.path());
    call.netns = &path;
    let (value, success) = read(&call.run());
    assert!(success, "{value}");
    let asked = agent.join().unwrap();
    assert_eq!(asked.len(), 3);
    assert!(
        asked
            .iter()
            .all(|(request, descriptor)| *request == asked[0].0 && descriptor.is_some())
    );
}

#[test]
fn the_agents_error_is_the_runtimes_error() {
    let (folder, namespace) = (tempfile::tempdir().unwrap(), Namespace::new());
    let failed = Response::Failed {
        code: 11,
        msg: "no address".to_owned(),
        details: "pool small is exhausted".to_owned(),
    };
    let agent = answer(folder.path(), vec![Some(failed)]);
    let path = namespace.path();
    let mut call = Call::new("ADD", folder.path());
    call.netns = &path;
    call.config["cniVersion"] = json!("0.4.0");
    let (value, success) = read(&call.run());
    assert!(!success);
    assert_eq!(
        value,
        json!({"cniVersion": "0.4.0", "code": 11, "msg": "no address", "details": "pool small is exhausted"})
    );
    agent.join().unwrap();
}

#[test]
fn del_is_queued_without_an_agent_and_sent_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let call = Call::new("DEL", folder.path());
    assert_eq!(read(&call.run()), (serde_json::Value::Null, true));
    let waiting = spool::list(&folder.path().join("spool")).unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].1.as_ref().unwrap().container_id, "c0ffee");
    spool::remove(&waiting[0].0).unwrap();

    let agent = answer(folder.path(), vec![Some(Response::Done)]);
    assert_eq!(read(&call.run()), (serde_json::Value::Null, true));
    assert!(matches!(agent.join().unwrap()[0].0, Request::Del(_)));
    assert!(
        spool::list(&folder.path().join("spool"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn del_that_cannot_be_queued_is_code_11() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("spool"), "a file").unwrap();
    let (value, success) = read(&Call::new("DEL", folder.path()).run());
    assert!(!success);
    assert_eq!(value["code"], 11);
}

#[test]
fn status_asks_the_agent_and_then_the_ready_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut call = Call::new("STATUS", folder.path());
    call.variables = vec![
        ("CNI_CONTAINERID", ""),
        ("CNI_IFNAME", ""),
        ("CNI_ARGS", ""),
    ];
    assert_eq!(read(&call.run()).0["code"], 50);
    std::fs::write(folder.path().join("ready"), "").unwrap();
    assert_eq!(read(&call.run()), (serde_json::Value::Null, true));
    let failed = Response::Failed {
        code: 50,
        msg: "not ready".to_owned(),
        details: String::new(),
    };
    let agent = answer(folder.path(), vec![Some(failed)]);
    assert_eq!(read(&call.run()).0["code"], 50);
    agent.join().unwrap();
}

#[test]
fn check_and_gc_without_an_agent_are_code_11() {
    let (folder, namespace) = (tempfile::tempdir().unwrap(), Namespace::new());
    let path = namespace.path();
    let mut check = Call::new("CHECK", folder.path());
    check.netns = &path;
    assert_eq!(read(&check.run()).0["code"], 7, "prevResult is missing");
    check.config["prevResult"] =
        json!({"cniVersion": "1.1.0", "ips": [{"address": "10.64.0.5/32"}]});
    assert_eq!(read(&check.run()).0["code"], 11);
    assert_eq!(read(&Call::new("GC", folder.path()).run()).0["code"], 11);
}

#[test]
fn check_compares_prev_result_with_the_agents_record() {
    let (folder, namespace) = (tempfile::tempdir().unwrap(), Namespace::new());
    let agent = answer(folder.path(), vec![Some(added()), Some(added())]);
    let path = namespace.path();
    let mut check = Call::new("CHECK", folder.path());
    check.netns = &path;
    check.config["prevResult"] = json!({"ips": [{"address": "10.64.0.5/32"}]});
    assert_eq!(read(&check.run()), (serde_json::Value::Null, true));
    check.config["prevResult"] = json!({"ips": [{"address": "10.64.0.6/32"}]});
    assert_eq!(read(&check.run()).0["code"], 7);
    agent.join().unwrap();
}

#[test]
fn gc_says_whether_a_list_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let agent = answer(
        folder.path(),
        vec![Some(Response::Done), Some(Response::Done)],
    );
    let mut call = Call::new("GC", folder.path());
    assert!(read(&call.run()).1);
    call.config["cni.dev/valid-attachments"] = json!([]);
    assert!(read(&call.run()).1);
    let asked = agent.join().unwrap();
    assert_eq!(asked[0].0, Request::Gc { valid: None });
    assert_eq!(
        asked[1].0,
        Request::Gc {
            valid: Some(vec![])
        }
    );
}

#[test]
fn version_needs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (value, success) = read(&Call::new("VERSION", folder.path()).run_with(b""));
    assert!(success);
    assert_eq!(
        value["supportedVersions"],
        json!(["0.4.0", "1.0.0", "1.1.0"])
    );
}

#[test]
fn without_cni_variables_it_says_what_it_is() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weft-cni"));
    let output = crate::start(command.env_clear().arg("--help"), b"");
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("CNI plugin of Weftnet")
    );
}

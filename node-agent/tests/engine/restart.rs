//! Stop and start: the same state, whatever happened meanwhile.

use weft_agent::engine::{Faults, Output, cleanup};
use weft_cni::spool;
use weft_cni::wire::Response;

use super::node::{Node, Pod, answer, eventually, exists, failure};

#[test]
fn a_restart_over_debris_ends_in_the_same_state() {
    let mut node = Node::ready();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let (of_a, of_b) = (node.must_add(&a), node.must_add(&b));
    let (routes, table) = (node.routes(), node.table());
    node.stop();
    assert!(
        a.reaches(of_b.addresses[0]),
        "traffic goes on without an engine"
    );
    node.namespace
        .must(&format!("ip route del {}", of_a.addresses[0]));
    node.namespace
        .must("ip route add 10.99.0.0/24 dev eth0 proto 82");
    node.namespace.must("ip link del weftx-default");
    node.restart();
    assert_eq!((node.routes(), node.table()), (routes, table));
    assert_eq!(node.must_add(&a), of_a);
    for address in &of_a.addresses {
        assert!(b.reaches(*address), "{address}");
    }
    let told = node
        .seen
        .iter()
        .filter(|output| matches!(output, Output::Attached(_)))
        .count();
    assert!(told >= 2, "every attachment is told again");
}

#[test]
fn a_new_pod_never_gets_an_address_from_before_the_restart() {
    let mut node = Node::ready();
    let before: Vec<Pod> = (0..5)
        .map(|number| Pod::new(&format!("b{number}")))
        .collect();
    let taken: Vec<_> = before
        .iter()
        .flat_map(|pod| node.must_add(pod).addresses)
        .collect();
    node.restart();
    let after: Vec<Pod> = (0..5)
        .map(|number| Pod::new(&format!("a{number}")))
        .collect();
    for pod in &after {
        assert!(
            node.must_add(pod)
                .addresses
                .iter()
                .all(|address| !taken.contains(address))
        );
    }
}

#[test]
fn dels_of_the_time_without_an_engine_are_played_back() {
    let mut node = Node::ready();
    let empty = node.routes();
    let pod = Pod::new("a");
    node.must_add(&pod);
    node.stop();
    let folder = node.state.path().join("spool");
    spool::queue(&folder, &pod.attachment).unwrap();
    node.restart();
    eventually("played back", || {
        node.routes() == empty && node.pod_links().is_empty()
    });
    eventually("the file is removed", || {
        spool::list(&folder).unwrap().is_empty()
    });
    // One that appears later.
    node.must_add(&pod);
    spool::queue(&folder, &pod.attachment).unwrap();
    eventually("played back too", || node.routes() == empty);
}

#[test]
fn without_an_api_server_the_snapshot_will_do() {
    let mut node = Node::ready();
    let a = Pod::new("a");
    let of_a = node.must_add(&a);
    eventually("the snapshot is written", || {
        exists(&node.state.path().join("cluster.json"))
    });
    node.stop();
    node.start(Faults::none());
    node.wait_for(|output| *output == Output::Ready);
    let b = Pod::new("b");
    let of_b = node.must_add(&b);
    assert!(
        of_b.addresses
            .iter()
            .all(|address| !of_a.addresses.contains(address))
    );
    assert!(a.reaches(of_b.addresses[0]));
}

#[test]
fn after_a_boot_the_snapshot_is_good_for_routes_alone() {
    let mut node = Node::ready();
    let a = Pod::new("a");
    let of_a = node.must_add(&a);
    node.stop();
    std::fs::write(node.boot_id(), "boot-2\n").unwrap();
    node.start(Faults::none());
    node.wait_for(|output| *output == Output::Ready);
    assert_eq!(node.must_add(&a), of_a, "what is recorded stays");
    assert!(a.reaches("192.0.2.10".parse().unwrap()));
    let (code, text) = failure(node.add(&Pod::new("b")));
    assert_eq!(code, 11);
    assert!(text.contains("no API server has answered since"), "{text}");
    let c = Pod::new("c");
    let waiting = node.begin_add(&c);
    // Its old block has gone to others meanwhile.
    node.hear(&["10.64.0.64/26", "fd64::40/122"]);
    let Response::Added(of_c) = answer(waiting) else {
        panic!("not added")
    };
    assert_eq!(of_c.addresses[0].to_string(), "10.64.0.64");
}

#[test]
fn a_damaged_record_stops_assignment_and_says_what_to_do() {
    let mut node = Node::ready();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let of_a = node.must_add(&a);
    node.must_add(&b);
    node.stop();
    let path = node.state.path().join("record");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[150] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    node.start(Faults::none());
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    let said = |output: &Output| match output {
        Output::Report { report, .. } => report.conditions.iter().any(|condition| {
            condition.type_ == "RecordHealthy"
                && condition.status == "False"
                && condition.message.contains("drain the node")
        }),
        _ => false,
    };
    node.wait_for(said);
    let (code, text) = failure(node.add(&Pod::new("c")));
    assert_eq!(code, 11);
    assert!(text.contains("damaged at byte"), "{text}");
    assert_eq!(node.del(&b), Response::Done, "it waits in the spool");
    assert!(b.reaches(of_a.addresses[0]), "running pods go on");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn another_nodes_record_is_set_aside() {
    let mut node = Node::ready();
    let mut pod = Pod::new("a");
    node.must_add(&pod);
    node.stop();
    pod.namespace = None;
    eventually("the link has gone with the namespace", || {
        node.pod_links().is_empty()
    });
    node.uid = "node-uid-2".to_owned();
    node.restart();
    node.wait_for(|output| {
        matches!(
            output,
            Output::Event {
                reason: "RecordSetAside",
                ..
            }
        )
    });
    assert!(exists(&node.state.path().join("record.of-node-node-uid-1")));
}

#[test]
fn cleanup_leaves_nothing() {
    let mut node = Node::new();
    let clean = snapshot(&node);
    node.start(Faults::none());
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    node.wait_for(|output| *output == Output::Ready);
    let pod = Pod::new("a");
    node.must_add(&pod);
    assert_ne!(snapshot(&node), clean, "negative control");
    node.stop();
    node.forget_nft();
    let state = node.state.path().join("inner");
    std::fs::create_dir(&state).unwrap();
    for name in ["record", "sysctls.json"] {
        let _ = std::fs::rename(node.state.path().join(name), state.join(name));
    }
    node.inside(|| cleanup(&state, std::path::Path::new("/proc/sys/net")).unwrap());
    assert_eq!(snapshot(&node), clean);
    assert!(!exists(&state));
    node.inside(|| cleanup(&state, std::path::Path::new("/proc/sys/net")).unwrap());
}

/// Everything that could be left behind.
fn snapshot(node: &Node) -> Vec<String> {
    [
        "ip -brief link show",
        "ip route show table all",
        "ip -6 route show table main",
        "nft list ruleset",
        "sysctl -n net.ipv4.conf.eth0.forwarding",
        "sysctl -n net.ipv6.conf.all.forwarding",
        "sysctl -n net.ipv6.conf.eth0.force_forwarding",
    ]
    .iter()
    .map(|line| node.namespace.run(line).unwrap_or_default())
    .collect()
}

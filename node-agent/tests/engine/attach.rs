//! ADD, DEL, CHECK, GC and STATUS.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_agent::engine::{Input, Output};
use weft_cni::wire::{Request, Response, Valid};

use super::node::{Node, Pod, answer, eventually, failure};

#[test]
fn pods_reach_each_other_and_the_node_in_both_families() {
    let mut node = Node::ready();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let (of_a, of_b) = (node.must_add(&a), node.must_add(&b));
    assert_eq!(of_a.addresses.len(), 2);
    for address in &of_b.addresses {
        assert!(a.reaches(*address), "a to {address}");
    }
    for address in &of_a.addresses {
        assert!(b.reaches(*address), "b to {address}");
        assert!(
            node.namespace
                .run(&format!("ping -c1 -w10 {address}"))
                .is_some(),
            "node to {address}"
        );
    }
    assert!(a.reaches("192.0.2.10".parse().unwrap()), "a to the node");
    assert!(
        a.reaches("192.0.2.1".parse().unwrap()),
        "a to the outside, masqueraded"
    );
    assert!(node.outside_reaches(of_a.addresses[0]), "the outside to a");
    assert!(
        !a.reaches("10.64.0.60".parse().unwrap()),
        "negative control: nobody has this address"
    );
    let attached = node
        .wait_for(|output| matches!(output, Output::Attached(attached) if attached.name == "a"));
    let Output::Attached(attached) = attached else {
        unreachable!()
    };
    assert_eq!(
        (attached.addresses, attached.pools),
        (of_a.addresses, vec!["default".to_owned(); 2])
    );
}

#[test]
fn the_same_request_again_has_the_same_answer() {
    let node = Node::ready();
    let pod = Pod::new("a");
    let first = node.must_add(&pod);
    assert_eq!(node.must_add(&pod), first);
    let twice = [node.begin_add(&pod), node.begin_add(&pod)];
    for receiver in twice {
        assert_eq!(answer(receiver), Response::Added(first.clone()));
    }
    assert_eq!(node.pod_links().len(), 1);
}

#[test]
fn del_leaves_nothing_and_unknown_is_success() {
    let mut node = Node::ready();
    let (empty, pod) = (node.routes(), Pod::new("a"));
    let added = node.must_add(&pod);
    assert!(node.routes().contains(&added.addresses[0].to_string()));
    assert!(
        node.namespace
            .must("nft list table inet weftnet")
            .contains("default/a")
    );
    assert_eq!(node.del(&pod), Response::Done);
    assert_eq!(node.del(&pod), Response::Done);
    assert_eq!(node.del(&Pod::new("unknown")), Response::Done);
    assert_eq!(node.routes(), empty);
    assert!(node.pod_links().is_empty());
    assert!(
        !node
            .namespace
            .must("nft list table inet weftnet")
            .contains("default/a")
    );
    node.wait_for(
        |output| matches!(output, Output::Released { pod_uid, .. } if pod_uid == "uid-a"),
    );
}

#[test]
fn check_names_what_differs() {
    let node = Node::ready();
    let pod = Pod::new("a");
    let added = node.must_add(&pod);
    assert_eq!(node.check(&pod), Response::Added(added.clone()));
    pod.namespace().must("ip route del default");
    let (_, text) = failure(node.check(&pod));
    assert!(text.contains("0.0.0.0/0"), "{text}");
    let (code, _) = failure(node.check(&Pod::new("unknown")));
    assert_eq!(code, 3);
}

#[test]
fn gc_releases_only_what_a_present_list_excludes_twice() {
    let node = Node::ready();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    node.must_add(&a);
    node.must_add(&b);
    let gc = |valid| answer(node.ask(Request::Gc { valid }, None));
    let only_a = || {
        Some(vec![Valid {
            container_id: a.attachment.container_id.clone(),
            ifname: "eth0".to_owned(),
        }])
    };
    assert_eq!(gc(None), Response::Done);
    assert_eq!(gc(only_a()), Response::Done);
    assert_eq!(node.pod_links().len(), 2, "the first time only marks");
    eventually("the second time releases", || {
        gc(None);
        gc(only_a());
        node.pod_links().len() == 1
    });
    assert!(matches!(node.check(&a), Response::Added(_)));
}

#[test]
fn a_host_port_belongs_to_one_pod() {
    let node = Node::ready();
    let first = Pod::new("first").with_host_port(8080);
    let second = Pod::new("second").with_host_port(8080);
    node.must_add(&first);
    let (_, text) = failure(node.add(&second));
    assert!(
        text.contains("8080") && text.contains("default/first"),
        "{text}"
    );
    assert_eq!(node.del(&first), Response::Done);
    node.must_add(&second);
}

#[test]
fn an_exhausted_pool_is_named_and_a_block_in_time_helps() {
    let mut node = Node::new();
    node.start(weft_agent::engine::Faults::none());
    node.hear(&["10.64.1.0/32", "fd64::40/122"]);
    node.wait_for(|output| *output == Output::Ready);
    let (a, b, c) = (Pod::new("a"), Pod::new("b"), Pod::new("c"));
    node.must_add(&a);
    let waiting = node.begin_add(&b);
    let asks = |output: &Output| match output {
        Output::Report { report, urgent } => {
            *urgent && report.pools.iter().any(|pool| pool.waiting == 1)
        }
        _ => false,
    };
    node.wait_for(asks);
    node.hear(&["10.64.1.0/32", "10.64.1.1/32", "fd64::40/122"]);
    assert!(
        matches!(answer(waiting), Response::Added(_)),
        "the block came in time"
    );
    let (code, text) = failure(node.add(&c));
    assert_eq!(code, 11);
    assert!(
        text.contains("IPPool default") && text.contains("IPv4"),
        "{text}"
    );
    assert!(
        matches!(answer(node.ask(Request::Status, None)), Response::Done),
        "the node stays ready"
    );
}

#[test]
fn a_released_address_rests() {
    let mut node = Node::new();
    node.start(weft_agent::engine::Faults::none());
    let blocks = ["10.64.1.0/32", "fd64::40/122"];
    node.send(Input::Cluster(Arc::new(node.cluster(&blocks, 2))));
    node.wait_for(|output| *output == Output::Ready);
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let first = node.must_add(&a);
    // Its rest begins somewhere within the DEL.
    let begun = std::time::Instant::now();
    node.del(&a);
    let second = node.must_add(&b);
    assert_eq!(first.addresses[0], second.addresses[0]);
    assert!(
        begun.elapsed() >= std::time::Duration::from_secs(2),
        "it was used again at once"
    );
}

#[test]
fn many_at_once_get_different_addresses_and_leave_nothing() {
    let node = Node::ready();
    let empty = node.routes();
    let pods: Vec<Pod> = (0..20)
        .map(|number| Pod::new(&format!("p{number}")))
        .collect();
    for _ in 0..5 {
        let answers: Vec<_> = pods.iter().map(|pod| node.begin_add(pod)).collect();
        let mut addresses = BTreeSet::new();
        for receiver in answers {
            let Response::Added(added) = answer(receiver) else {
                panic!("not added")
            };
            added
                .addresses
                .into_iter()
                .for_each(|address| assert!(addresses.insert(address), "{address} twice"));
        }
        assert_eq!(addresses.len(), 40);
        let dels: Vec<_> = pods
            .iter()
            .map(|pod| node.ask(Request::Del(pod.attachment.clone()), None))
            .collect();
        dels.into_iter()
            .for_each(|receiver| assert_eq!(answer(receiver), Response::Done));
    }
    assert_eq!(node.routes(), empty);
    assert!(node.pod_links().is_empty());
}

#[test]
fn requests_before_the_cluster_is_heard_wait() {
    let mut node = Node::new();
    node.start(weft_agent::engine::Faults::none());
    let (status, _) = failure(answer(node.ask(Request::Status, None)));
    assert_eq!(status, 50);
    let pod = Pod::new("a");
    let waiting = node.begin_add(&pod);
    assert_eq!(
        node.del(&Pod::new("early")),
        Response::Done,
        "it goes to the spool"
    );
    assert!(
        node.namespace.run("nft list table inet weftnet").is_none(),
        "nothing is changed before"
    );
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    assert!(matches!(answer(waiting), Response::Added(_)));
    let spool = node.state.path().join("spool");
    eventually("the spool is played back", || {
        std::fs::read_dir(&spool).unwrap().next().is_none()
    });
    node.wait_for(|output| *output == Output::Ready);
}

#[test]
fn an_add_that_fails_leaves_nothing() {
    let mut node = Node::ready();
    let empty = node.routes();
    let pod = Pod::new("a");
    pod.namespace()
        .must("ip link add eth0 type veth peer name other0");
    let (code, text) = failure(node.add(&pod));
    assert_eq!(code, 5);
    assert!(text.contains("another plugin made it"), "{text}");
    let taken = Pod::new("b");
    node.namespace.must("ip route add 10.64.0.1/32 dev eth0");
    let (code, text) = failure(node.add(&taken));
    assert_eq!(code, 11);
    assert!(
        text.contains("10.64.0.1") && text.contains("somebody else"),
        "{text}"
    );
    assert_eq!(node.routes(), empty);
    assert!(node.pod_links().is_empty());
    node.namespace.must("ip route del 10.64.0.1/32 dev eth0");
    let healthy = |output: &Output| match output {
        Output::Counters(counters) => counters.attachments == 0 && counters.add_failures == 2,
        _ => false,
    };
    node.wait_for(healthy);
    node.must_add(&taken);
}

//! What others do to our objects is undone, and an event names it.

use weft_agent::engine::Output;
use weft_cni::wire::Response;

use super::node::{Node, Pod, eventually};

fn says(word: &str) -> impl Fn(&Output) -> bool {
    move |output| matches!(output, Output::Event { reason: "ForeignChange", message, .. } if message.contains(word))
}

#[test]
fn a_deleted_route_address_neighbour_or_link_comes_back_with_an_event() {
    let mut node = Node::ready();
    let pod = Pod::new("a");
    let added = node.must_add(&pod);
    let (v4, link) = (added.addresses[0], added.host_link.as_str());
    let state = |node: &Node| {
        let neighbours = node.namespace.must("ip neigh show nud permanent")
            + &node.namespace.must("ip -6 neigh show nud permanent");
        let addresses = node
            .namespace
            .must(&format!("ip -brief address show dev {link}"));
        (
            node.routes(),
            neighbours,
            addresses,
            node.namespace
                .must("ip -brief link show type vxlan")
                .contains("weftx-default"),
        )
    };
    let whole = state(&node);
    let rows = [
        (format!("ip route del {v4}"), v4.to_string()),
        (
            format!("ip address del 169.254.1.1/32 dev {link}"),
            "169.254.1.1".to_owned(),
        ),
        (
            format!("ip neigh del {v4} dev {link}"),
            format!("neighbour {v4}"),
        ),
        (
            format!("ip link set {link} mtu 1300"),
            format!("link {link}"),
        ),
        (
            "ip route add 10.99.0.0/24 dev eth0 proto 82".to_owned(),
            "10.99.0.0/24".to_owned(),
        ),
        (
            "ip link del weftx-default".to_owned(),
            "weftx-default".to_owned(),
        ),
        (format!("ip link set {link} down"), format!("link {link}")),
    ];
    for (line, word) in rows {
        node.drain();
        node.seen.clear();
        node.namespace.must(&line);
        node.wait_for(says(&word));
        let begun = std::time::Instant::now();
        while state(&node) != whole {
            assert!(
                begun.elapsed() < super::node::LIMIT,
                "not undone: {line}\n{whole:#?}\n{:#?}",
                state(&node)
            );
        }
        assert!(pod.reaches("192.0.2.10".parse().unwrap()), "after {line}");
    }
    assert!(matches!(node.check(&pod), Response::Added(_)));
}

#[test]
fn routes_that_went_silently_with_the_underlay_come_back() {
    let mut node = Node::new();
    node.start(weft_agent::engine::Faults::none());
    node.hear_with_peer();
    node.wait_for(|output| *output == Output::Ready);
    let routes = node.routes();
    assert!(
        routes.contains("10.64.0.64/26 via 192.0.2.11 dev eth0"),
        "{routes}"
    );
    node.namespace.must("ip link set eth0 down");
    assert!(!node.routes().contains("192.0.2.11"), "negative control");
    node.namespace.must("ip link set eth0 up");
    eventually("they are back", || node.routes() == routes);
}

#[test]
fn a_changed_sysctl_is_put_back() {
    let mut node = Node::ready();
    let pod = Pod::new("a");
    node.must_add(&pod);
    node.namespace
        .must("sysctl -qw net.ipv4.conf.eth0.forwarding=0");
    node.wait_for(says("ipv4/conf/eth0/forwarding"));
    eventually("put back", || {
        node.namespace
            .must("sysctl -n net.ipv4.conf.eth0.forwarding")
            .trim()
            == "1"
    });
}

#[test]
fn the_table_cannot_be_flushed_by_others() {
    let node = Node::ready();
    let pod = Pod::new("a");
    node.must_add(&pod);
    let before = node.table();
    node.namespace.run("nft flush ruleset");
    assert!(
        node.namespace
            .run("nft delete table inet weftnet")
            .is_none()
    );
    assert_eq!(node.table(), before);
}

#[test]
fn nothing_is_repaired_where_nobody_did_anything() {
    let mut node = Node::ready();
    let pods: Vec<Pod> = (0..5)
        .map(|number| Pod::new(&format!("p{number}")))
        .collect();
    for pod in &pods {
        node.must_add(pod);
    }
    for pod in &pods {
        node.del(pod);
    }
    let last = Pod::new("last");
    node.must_add(&last);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    node.drain();
    let foreign: Vec<_> = node.seen.iter().filter(|output| says("")(output)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn a_sandbox_that_went_without_del_is_taken_back_and_one_that_lives_is_not() {
    let mut node = Node::ready();
    let (mut gone, lives) = (Pod::new("gone"), Pod::new("lives"));
    node.must_add(&gone);
    let kept = node.must_add(&lives);
    gone.namespace = None;
    node.wait_for(
        |output| matches!(output, Output::Released { pod_uid, .. } if pod_uid == "uid-gone"),
    );
    assert!(lives.reaches("192.0.2.10".parse().unwrap()));
    assert_eq!(node.must_add(&lives), kept);
}

#[test]
fn the_audit_names_a_link_that_the_record_does_not_know() {
    let mut node = Node::new();
    node.namespace
        .must("ip link add weft0123456789a type veth peer name other0");
    node.start(weft_agent::engine::Faults::none());
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    let named = |output: &Output| match output {
        Output::Report { report, .. } => report.conditions.iter().any(|condition| {
            condition.type_ == "Consistent" && condition.message.contains("weft0123456789a")
        }),
        _ => false,
    };
    node.wait_for(named);
    assert!(
        node.namespace.run("ip link show weft0123456789a").is_some(),
        "it is reported, not deleted"
    );
}

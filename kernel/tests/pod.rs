//! Pods wired, checked, and taken away, with packets between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use weft_core::diff::{Change, Changes};
use weft_core::names;
use weft_core::plan::{Mac, Route};
use weft_core::view::AttachmentKey;
use weft_kernel::net::{self, Ipv4Setting};
use weft_kernel::pod::{Error, Wired, Wiring, unwire, unwire_all, verify, wire};

use crate::namespace::Namespace;

pub fn wiring(id: &str, addresses: &[&str]) -> Wiring {
    let key = AttachmentKey {
        container_id: id.to_owned(),
        ifname: "eth0".to_owned(),
    };
    Wiring {
        host_link: names::pod_link(&key),
        ifname: "eth0".to_owned(),
        host_mac: names::host_mac(&key),
        pod_mac: names::pod_mac(&key),
        mtu: 1400,
        addresses: addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        host_ipv4: BTreeMap::from([(Ipv4Setting::Forwarding, 1), (Ipv4Setting::RpFilter, 0)]),
    }
}

fn give(node: &Namespace, pod: &Namespace, wiring: &Wiring) -> Result<Wired, Error> {
    wire(&mut node.socket(), &mut pod.socket(), node.fd(), wiring)
}

/// What a plan adds on the node for a pod.
fn reach(node: &Namespace, wiring: &Wiring) {
    let link = &wiring.host_link;
    let changes = wiring.addresses.iter().flat_map(|address| {
        let route = Route::Unicast {
            link: link.clone(),
            via: None,
            onlink: false,
            source: None,
            mtu: None,
        };
        [
            Change::ReplaceNeighbour(link.clone(), *address, wiring.pod_mac),
            Change::ReplaceRoute((*address).into(), route),
        ]
    });
    net::apply(&mut node.socket(), &Changes(changes.collect())).unwrap();
}

/// Sends a datagram from one namespace to another, and says from which address it came.
fn seen_from(from: &Namespace, to: &Namespace, address: IpAddr) -> Option<IpAddr> {
    let receiver = to.enter(|| UdpSocket::bind((address, 7000))).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    from.enter(|| {
        let unspecified: IpAddr = if address.is_ipv4() { "0.0.0.0" } else { "::" }
            .parse()
            .unwrap();
        let sender = UdpSocket::bind((unspecified, 0)).unwrap();
        // A datagram that cannot be sent is one that does not arrive.
        (0..20).find_map(|_| {
            let _ = sender.send_to(b"weft", (address, 7000));
            let mut buffer = [0; 16];
            receiver
                .recv_from(&mut buffer)
                .ok()
                .map(|(_, peer)| peer.ip())
        })
    })
}

#[test]
fn pods_reach_each_other_through_their_node_in_both_families() {
    let (node, a, b) = (Namespace::new(), Namespace::new(), Namespace::new());
    node.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
    let of_a = wiring("a", &["10.8.0.1", "fd00:8::1"]);
    let of_b = wiring("b", &["10.8.0.2", "fd00:8::2"]);
    assert!(give(&node, &a, &of_a).unwrap().created);
    assert!(give(&node, &b, &of_b).unwrap().created);
    let forwarding = format!("/proc/sys/net/ipv4/conf/{}/forwarding", of_a.host_link);
    assert_eq!(
        node.enter(|| std::fs::read_to_string(forwarding))
            .unwrap()
            .trim(),
        "1"
    );
    let ways: Vec<_> = of_a.addresses.iter().zip(&of_b.addresses).collect();
    for (_, destination) in &ways {
        assert_eq!(
            seen_from(&a, &b, **destination),
            None,
            "the node has no route to {destination} yet"
        );
    }
    reach(&node, &of_a);
    reach(&node, &of_b);
    for (source, destination) in ways {
        assert_eq!(seen_from(&a, &b, *destination), Some(*source));
    }
}

#[test]
fn a_pods_addresses_are_usable_at_once() {
    let (node, pod) = (Namespace::new(), Namespace::new());
    give(&node, &pod, &wiring("a", &["10.8.0.1", "fd00:8::1"])).unwrap();
    let addresses = pod.run("ip -6 addr show dev eth0");
    assert!(addresses.contains("fd00:8::1/128"), "{addresses}");
    assert!(!addresses.contains("tentative"), "{addresses}");
}

#[test]
fn the_same_request_again_finds_what_is_there() {
    let (node, pod) = (Namespace::new(), Namespace::new());
    for addresses in [
        &["10.8.0.1"][..],
        &["fd00:8::1"],
        &["10.8.0.1", "fd00:8::1"],
    ] {
        let wanted = wiring(&addresses.concat(), addresses);
        let first = give(&node, &pod, &wanted).unwrap();
        let second = give(&node, &pod, &wanted).unwrap();
        assert_eq!((first.created, second.created), (true, false));
        assert_eq!(first.host_index, second.host_index);
        assert_eq!(
            verify(&mut node.socket(), &mut pod.socket(), &wanted).unwrap(),
            Vec::<String>::new()
        );
        assert!(unwire(&mut node.socket(), &wanted.host_link).unwrap());
    }
}

#[test]
fn a_pair_that_differs_is_made_anew() {
    let (node, pod) = (Namespace::new(), Namespace::new());
    let first = wiring("a", &["10.8.0.1"]);
    give(&node, &pod, &first).unwrap();
    let second = Wiring {
        addresses: vec!["10.8.0.9".parse().unwrap()],
        ..first
    };
    assert!(give(&node, &pod, &second).unwrap().created);
    let addresses = pod.run("ip -4 addr show dev eth0");
    assert!(
        addresses.contains("10.8.0.9/32") && !addresses.contains("10.8.0.1/32"),
        "{addresses}"
    );
}

#[test]
fn a_pair_without_addresses_and_routes_is_made_anew() {
    let (node, pod) = (Namespace::new(), Namespace::untouched());
    let wanted = wiring("a", &["10.8.0.1", "fd00:8::1"]);
    // As an agent leaves it that is killed after its first exchange with the kernel.
    let mut inside = node
        .enter(|| Command::new("sleep").arg("60").spawn())
        .unwrap();
    let host_link = &wanted.host_link;
    pod.run(&format!(
        "ip link add eth0 type veth peer name {host_link} netns {}",
        inside.id()
    ));
    inside.kill().unwrap();
    inside.wait().unwrap();
    assert!(give(&node, &pod, &wanted).unwrap().created);
    assert_eq!(
        verify(&mut node.socket(), &mut pod.socket(), &wanted).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_host_end_without_its_pod_is_made_anew() {
    let (node, gone, pod) = (Namespace::new(), Namespace::new(), Namespace::new());
    let wanted = wiring("a", &["10.8.0.1"]);
    give(&node, &gone, &wanted).unwrap();
    assert!(give(&node, &pod, &wanted).unwrap().created);
    assert_eq!(
        verify(&mut node.socket(), &mut pod.socket(), &wanted).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn an_interface_of_another_plugin_is_left_alone() {
    let (node, pod) = (Namespace::new(), Namespace::new());
    pod.run("ip link add eth0 type veth peer name other");
    let error = give(&node, &pod, &wiring("a", &["10.8.0.1"])).unwrap_err();
    assert!(matches!(error, Error::Foreign(..)), "{error}");
    assert!(pod.run("ip link show eth0").contains("eth0@other"));
}

#[test]
fn each_difference_is_named() {
    let (node, pod) = (Namespace::new(), Namespace::new());
    let wanted = wiring("a", &["10.8.0.1", "fd00:8::1"]);
    let host = wanted.host_link.clone();
    let cases = [
        (
            &pod,
            "ip addr del 10.8.0.1/32 dev eth0".to_owned(),
            "address 10.8.0.1/32 is missing",
        ),
        (
            &pod,
            "ip addr del fd00:8::1/128 dev eth0".to_owned(),
            "address fd00:8::1/128 is missing",
        ),
        (
            &pod,
            "ip route del default".to_owned(),
            "route to 0.0.0.0/0 is missing",
        ),
        (
            &pod,
            "ip -6 route del default".to_owned(),
            "route to ::/0 is missing",
        ),
        (
            &pod,
            "ip route change default via 169.254.1.1 dev eth0 proto 82 mtu 600".to_owned(),
            "route to 0.0.0.0/0 leads elsewhere",
        ),
        (
            &pod,
            "ip neigh del 169.254.1.1 dev eth0".to_owned(),
            "neighbour 169.254.1.1 is missing",
        ),
        (
            &pod,
            "ip neigh change fe80::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent".to_owned(),
            "next hop fe80::1 has hardware address 02:00:00:00:00:01",
        ),
        (
            &pod,
            "ip link set eth0 mtu 1300".to_owned(),
            "eth0 has MTU 1300 instead of 1400",
        ),
        (&pod, "ip link set eth0 down".to_owned(), "eth0 is down"),
        (
            &pod,
            "ip link set eth0 address 02:00:00:00:00:01".to_owned(),
            "eth0 has hardware address 02:00:00:00:00:01",
        ),
        (
            &node,
            format!("ip link set {host} mtu 1300"),
            "has MTU 1300 instead of 1400",
        ),
        (&node, format!("ip link set {host} down"), "is down"),
        (
            &node,
            format!("ip link set {host} address 02:00:00:00:00:01"),
            "has hardware address 02:00:00:00:00:01",
        ),
        (
            &node,
            format!("ip link set {host} group 5"),
            "is in link group 5",
        ),
        (&node, format!("ip link del {host}"), "does not exist"),
    ];
    for (place, command, words) in cases {
        give(&node, &pod, &wanted).unwrap();
        place.run(&command);
        let found = verify(&mut node.socket(), &mut pod.socket(), &wanted).unwrap();
        assert!(
            found.iter().any(|difference| difference.contains(words)),
            "{command}: {found:?}"
        );
    }
}

#[test]
fn many_are_taken_away_at_once_and_others_stay() {
    let node = Namespace::new();
    let pods: Vec<Namespace> = (0..4).map(|_| Namespace::new()).collect();
    let wirings: Vec<Wiring> = (0..4)
        .map(|number| wiring(&number.to_string(), &[&format!("10.8.0.{number}")]))
        .collect();
    for (pod, wanted) in pods.iter().zip(&wirings) {
        give(&node, pod, wanted).unwrap();
    }
    let mut going: Vec<_> = wirings[..3]
        .iter()
        .map(|wanted| wanted.host_link.clone())
        .collect();
    going.push("weft00000000000".to_owned());
    unwire_all(&mut node.socket(), &going).unwrap();
    unwire_all(&mut node.socket(), &going).unwrap();
    let left = net::observe(&mut node.socket()).unwrap().pod_links;
    let stays = &wirings[3].host_link;
    assert_eq!(left.keys().collect::<Vec<_>>(), [stays]);
    let found = verify(&mut node.socket(), &mut pods[3].socket(), &wirings[3]).unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn taking_away_what_is_not_there_is_success() {
    let (node, pod) = (Namespace::new(), Namespace::new());
    let wanted = wiring("a", &["10.8.0.1"]);
    give(&node, &pod, &wanted).unwrap();
    assert!(unwire(&mut node.socket(), &wanted.host_link).unwrap());
    assert!(!unwire(&mut node.socket(), &wanted.host_link).unwrap());
    assert!(pod.enter(|| {
        !std::fs::read_to_string("/proc/thread-self/net/dev")
            .unwrap()
            .contains("eth0")
    }));
}

#[test]
fn a_refusal_names_the_pair() {
    let (node, pod) = (Namespace::new(), Namespace::new());
    let impossible = Wiring {
        pod_mac: Mac([1, 0, 0, 0, 0, 1]),
        ..wiring("a", &["10.8.0.1"])
    };
    let error = give(&node, &pod, &impossible).unwrap_err().to_string();
    assert!(
        error.contains("create the veth pair") && error.contains("eth0"),
        "{error}"
    );
}

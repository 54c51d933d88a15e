//! Entries of connection tracking deleted by address.

use std::net::{IpAddr, UdpSocket};

use weft_core::services::StaleFlows;
use weft_core::view::Protocol;
use weft_kernel::conntrack::{ConntrackSocket, Labelled};

use crate::namespace::Namespace;

const HOSTS: [&str; 6] = [
    "10.6.0.1",
    "10.6.0.2",
    "10.6.0.3",
    "fd00:6::1",
    "fd00:6::2",
    "fd00:6::3",
];

/// A namespace that tracks connections between its own addresses; 10.6.0.9 is translated to 10.6.0.2.
fn tracked() -> Namespace {
    let node = Namespace::new();
    for host in HOSTS {
        node.run(&format!("ip addr add {host} dev lo nodad"));
    }
    node.run(
        "ip route add 10.6.0.9 dev lo; nft add table inet t
         nft 'add chain inet t out { type nat hook output priority -100; }'
         nft add rule inet t out ct state new ip daddr 10.6.0.9 dnat ip to 10.6.0.2",
    );
    for (from, to) in [(0, 1), (0, 2), (2, 0), (3, 4), (5, 3)] {
        talk(&node, HOSTS[from], HOSTS[to]);
    }
    talk(&node, "10.6.0.3", "10.6.0.9");
    node
}

fn talk(node: &Namespace, from: &str, to: &str) {
    node.enter(|| {
        let from: IpAddr = from.parse().unwrap();
        let to: IpAddr = to.parse().unwrap();
        let socket = UdpSocket::bind((from, 0)).unwrap();
        // Nobody listens: the entry is made all the same.
        socket.send_to(b"weft", (to, 9)).unwrap();
    });
}

fn entries(node: &Namespace) -> Vec<String> {
    let listed = ["ipv4", "ipv6"]
        .map(|family| node.run(&format!("conntrack -L -f {family} -p udp 2>/dev/null")));
    listed
        .iter()
        .flat_map(|listed| listed.lines())
        .map(str::to_owned)
        .collect()
}

/// Once so many are listed, or the last that were listed before that took too long: well within the
/// half minute that an entry lives.
fn entries_once(node: &Namespace, count: usize) -> Vec<String> {
    let begun = std::time::Instant::now();
    loop {
        let now = entries(node);
        if now.len() == count || begun.elapsed() > std::time::Duration::from_secs(20) {
            return now;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn with(entries: &[String], address: &str) -> usize {
    let is_about = |entry: &&String| {
        entry.split_whitespace().any(|word| {
            word.split_once('=')
                .is_some_and(|(_, value)| value == address)
        })
    };
    entries.iter().filter(is_about).count()
}

fn deletes_by_address(delete: fn(&mut ConntrackSocket, IpAddr)) {
    let node = tracked();
    let before = entries_once(&node, 6);
    assert_eq!(before.len(), 6, "{before:?}");
    let mut socket = node.enter(|| ConntrackSocket::open().unwrap());
    for address in ["10.6.0.7", "fd00:6::7"] {
        delete(&mut socket, address.parse().unwrap());
    }
    assert_eq!(entries(&node).len(), 6);
    // 10.6.0.2 is in one entry by itself, and in another by translation alone.
    let mut left = 6;
    for (address, about) in [
        ("10.6.0.2", 2),
        ("fd00:6::2", 1),
        ("10.6.0.1", 2),
        ("fd00:6::1", 1),
    ] {
        assert_eq!(with(&entries(&node), address), about, "{address}");
        delete(&mut socket, address.parse().unwrap());
        let now = entries(&node);
        left -= about;
        assert_eq!(
            (with(&now, address), now.len()),
            (0, left),
            "{address}: {now:?}"
        );
    }
    assert_eq!(left, 0);
}

#[test]
fn entries_of_an_address_are_deleted_and_no_others() {
    deletes_by_address(|socket, address| socket.delete(address).unwrap());
}

#[test]
fn entries_of_an_address_are_deleted_where_the_kernel_can_only_list() {
    deletes_by_address(|socket, address| socket.delete_listed(address).unwrap());
}

#[test]
fn entries_of_many_addresses_are_deleted_at_once() {
    deletes_by_address(|socket, address| {
        let nobody = [
            "192.0.2.99".parse().unwrap(),
            "2001:db8::99".parse().unwrap(),
        ];
        socket.delete_all(&[nobody[0], address, nobody[1]]).unwrap();
    });
}

#[test]
fn this_kernel_deletes_without_listing() {
    let node = tracked();
    let mut socket = node.enter(|| ConntrackSocket::open().unwrap());
    socket.delete("10.6.0.1".parse().unwrap()).unwrap();
    let release = node.run("uname -r");
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.trim().parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version >= (6, 12) {
        assert_eq!(socket.dumps(), 0);
    }
}

/// Entries to 10.6.0.9, which 10.6.0.2 answers on the same port, and to fd00:6::2, which answers itself.
fn reconciled(frontends: &[(&str, &[&str])]) -> (u64, Vec<String>) {
    let node = tracked();
    assert_eq!(entries_once(&node, 6).len(), 6);
    let flows: Vec<StaleFlows> = frontends
        .iter()
        .map(|(frontend, endpoints)| StaleFlows {
            protocol: Protocol::Udp,
            frontend: frontend.parse().unwrap(),
            endpoints: endpoints.iter().map(|at| at.parse().unwrap()).collect(),
        })
        .collect();
    let mut socket = node.enter(|| ConntrackSocket::open().unwrap());
    let deleted = socket.delete_stale(&flows).unwrap();
    (deleted, entries(&node))
}

#[test]
fn an_entry_to_an_endpoint_that_is_gone_is_deleted_and_no_other() {
    let (deleted, left) = reconciled(&[("10.6.0.9:9", &["10.6.0.1:9", "10.6.0.2:10"])]);
    assert_eq!((deleted, left.len()), (1, 5), "{left:?}");
    assert_eq!(with(&left, "10.6.0.9"), 0, "{left:?}");
}

#[test]
fn entries_to_present_endpoints_and_to_other_ports_stay() {
    let (deleted, left) = reconciled(&[
        ("10.6.0.9:9", &["10.6.0.2:9"]),
        ("10.6.0.9:10", &[]),
        ("10.6.0.7:9", &[]),
        ("[fd00:6::1]:10", &[]),
    ]);
    assert_eq!((deleted, left.len()), (0, 6), "{left:?}");
}

#[test]
fn an_entry_from_before_there_was_an_endpoint_is_deleted() {
    let frontends: [(&str, &[&str]); 2] = [
        ("[fd00:6::2]:9", &["[fd00:6::3]:9"]),
        ("10.6.0.2:9", &["10.6.0.3:9"]),
    ];
    let (deleted, left) = reconciled(&frontends);
    assert_eq!((deleted, left.len()), (2, 4), "{left:?}");
    // The translated one went to 10.6.0.9.
    assert_eq!(with(&left, "10.6.0.9"), 1, "{left:?}");
}

/// The entries of a namespace whose rules have room for labels or not; the translated one is made anew.
fn labelled(room: bool) -> (Namespace, ConntrackSocket) {
    let node = tracked();
    if room {
        node.run("nft add chain inet t labels; nft add rule inet t labels ct label set 82");
        talk(&node, "10.6.0.3", "10.6.0.9");
        talk(&node, "fd00:6::3", "fd00:6::2");
    }
    let socket = node.enter(|| ConntrackSocket::open().unwrap());
    (node, socket)
}

#[test]
fn a_connection_gets_a_label_and_loses_it_and_no_other_one() {
    let (node, mut socket) = labelled(true);
    let of = |socket: &mut ConntrackSocket, address: &str| {
        let of = [address.parse().unwrap()].into();
        socket.connections(&of).unwrap()
    };
    for (address, source) in [("10.6.0.2", "10.6.0.3"), ("fd00:6::2", "fd00:6::3")] {
        let source: IpAddr = source.parse().unwrap();
        let mut done = 0;
        for connection in of(&mut socket, address) {
            if connection.source != source {
                continue;
            }
            assert_eq!(connection.destination.to_string(), address, "translated");
            assert_eq!((connection.protocol, connection.port), (17, 9));
            // One that was made before there was room has none.
            done += u32::from(socket.label(&connection, 82, true).unwrap() == Labelled::Done);
        }
        assert!(done > 0, "{address}");
        let now = of(&mut socket, address);
        let labelled = now.iter().filter(|connection| connection.has(82));
        assert!(
            labelled
                .clone()
                .all(|connection| connection.source == source)
        );
        assert_eq!(labelled.count(), usize::try_from(done).unwrap());
        assert!(now.iter().all(|connection| !connection.has(81)));
        for connection in now {
            socket.label(&connection, 82, false).unwrap();
        }
        assert!(
            of(&mut socket, address)
                .iter()
                .all(|connection| !connection.has(82))
        );
    }
    drop(node);
}

#[test]
fn an_entry_without_room_or_that_is_gone_says_so() {
    let (node, mut socket) = labelled(false);
    let of = ["10.6.0.1".parse().unwrap()].into();
    let connections = socket.connections(&of).unwrap();
    assert_eq!(connections.len(), 3);
    assert_eq!(
        socket.label(&connections[0], 82, true).unwrap(),
        Labelled::NoRoom
    );
    socket.delete_connection(&connections[0]).unwrap();
    assert_eq!(
        socket.label(&connections[0], 82, true).unwrap(),
        Labelled::Gone
    );
    assert_eq!(socket.connections(&of).unwrap().len(), 2);
    drop(node);
}

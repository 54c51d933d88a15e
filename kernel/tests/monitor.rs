//! What others do to our objects is seen, and nothing else.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use weft_core::diff::diff;
use weft_core::plan::{LinkAddress, Mac, NetState, Route, VxlanLink};
use weft_kernel::monitor::{Event, Monitor, What};
use weft_kernel::net;
use weft_kernel::netlink::Socket;
use weft_kernel::nft::NftSocket;
use weft_nft::{Batch, Change, TableFlags};

use crate::namespace::Namespace;

const POD: &str = "weft00000000001";
const VXLAN: &str = "weftx-one";

fn plan() -> NetState {
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let mut plan = NetState::default();
    let vxlan = VxlanLink {
        vni: 7,
        port: 4789,
        local: "192.0.2.1".parse().unwrap(),
        mac,
        mtu: 1400,
    };
    plan.vxlans.insert(VXLAN.to_owned(), vxlan);
    plan.addresses.insert(LinkAddress {
        link: POD.to_owned(),
        address: "169.254.1.1/32".parse().unwrap(),
        link_scope: true,
    });
    plan.neighbours
        .insert((POD.to_owned(), "10.8.0.1".parse().unwrap()), mac);
    plan.neighbours
        .insert((POD.to_owned(), "fd00:8::1".parse().unwrap()), mac);
    plan.forwarding
        .insert((VXLAN.to_owned(), mac), "192.0.2.2".parse().unwrap());
    plan.routes
        .insert("10.7.0.0/26".parse().unwrap(), Route::Unreachable);
    plan.routes
        .insert("fd00:7::/64".parse().unwrap(), Route::Unreachable);
    plan
}

/// A node with a plan in force, and a monitor that leaves out what the socket does.
fn watched() -> (Namespace, Socket, Monitor) {
    let node = Namespace::new();
    node.run(&format!(
        "ip link add {POD} type veth peer name peer; ip link set peer up; ip link set {POD} up"
    ));
    let mut socket = node.socket();
    let mut monitor = node.enter(|| Monitor::open(&mut socket, None).unwrap());
    monitor.ignore(socket.port().unwrap());
    let have = net::observe(&mut socket).unwrap();
    let mut plan = plan();
    plan.pod_links.clone_from(&have.pod_links);
    net::apply(&mut socket, &diff(&have, &plan)).unwrap();
    drain(&mut monitor);
    (node, socket, monitor)
}

/// Waits until nothing comes any more.
fn drain(monitor: &mut Monitor) -> Vec<Event> {
    let mut events = Vec::new();
    while wait(monitor, 100) {
        events.extend(monitor.read_events().unwrap());
    }
    events
}

/// Everything up to the first event that is wanted, however long a busy machine takes to tell.
fn heard(monitor: &mut Monitor, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !events.iter().any(&wanted) && Instant::now() < deadline {
        events.extend(drain(monitor));
    }
    events
}

fn wait(monitor: &Monitor, milliseconds: u16) -> bool {
    let mut descriptors: Vec<PollFd<'_>> = monitor
        .descriptors()
        .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
        .collect();
    poll(&mut descriptors, PollTimeout::from(milliseconds)).unwrap() > 0
}

#[test]
fn foreign_changes_are_told_with_what_is_there_now() {
    let (node, _socket, mut monitor) = watched();
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let pod = || POD.to_owned();
    let cases = [
        (
            "ip route del unreachable 10.7.0.0/26".to_owned(),
            What::Route {
                to: "10.7.0.0/26".parse().unwrap(),
                now: None,
            },
        ),
        (
            "ip -6 route del unreachable fd00:7::/64".to_owned(),
            What::Route {
                to: "fd00:7::/64".parse().unwrap(),
                now: None,
            },
        ),
        (
            format!("ip neigh del 10.8.0.1 dev {POD}"),
            What::Neighbour {
                link: pod(),
                address: "10.8.0.1".parse().unwrap(),
                now: None,
            },
        ),
        (
            format!("ip neigh change fd00:8::1 lladdr 02:00:00:00:00:09 dev {POD} nud permanent"),
            What::Neighbour {
                link: pod(),
                address: "fd00:8::1".parse().unwrap(),
                now: Some(Mac([2, 0, 0, 0, 0, 9])),
            },
        ),
        (
            format!("bridge fdb del 02:00:00:00:00:01 dev {VXLAN} dst 192.0.2.2 self"),
            What::Forwarding {
                link: VXLAN.to_owned(),
                mac,
                now: None,
            },
        ),
        (
            format!("ip addr del 169.254.1.1/32 dev {POD}"),
            What::Address {
                address: LinkAddress {
                    link: pod(),
                    address: "169.254.1.1/32".parse().unwrap(),
                    link_scope: true,
                },
                gone: true,
            },
        ),
        (
            format!("ip link del {VXLAN}"),
            What::Vxlan {
                link: VXLAN.to_owned(),
                now: None,
            },
        ),
        (
            format!("ip link del {POD}"),
            What::PodLink {
                link: pod(),
                now: None,
            },
        ),
    ];
    for (command, what) in cases {
        node.run(&command);
        let events = heard(&mut monitor, |event| event.what == what);
        let event = events.iter().find(|event| event.what == what);
        let event = event.unwrap_or_else(|| panic!("{command}: {events:?}"));
        // The kernel tells the end of some objects without saying who ended them.
        if matches!(event.what, What::Route { .. } | What::Address { .. }) {
            assert!(event.by.port.is_some(), "{command}: {event:?}");
        }
    }
}

#[test]
fn own_changes_and_changes_of_other_objects_are_not_told() {
    let (node, mut socket, mut monitor) = watched();
    let have = net::observe(&mut socket).unwrap();
    let mut less = have.clone();
    less.routes.clear();
    less.neighbours.clear();
    net::apply(&mut socket, &diff(&have, &less)).unwrap();
    net::apply(&mut socket, &diff(&less, &have)).unwrap();
    node.run(
        "ip link add other type veth peer name other1; ip link set other up; ip addr add 10.3.0.1/24 dev other
         ip neigh add 10.3.0.9 lladdr 02:00:00:00:00:09 dev other nud permanent
         ip route add 10.4.0.0/24 via 10.3.0.9; ip link del other",
    );
    assert_eq!(drain(&mut monitor), []);
}

#[test]
fn a_queue_that_overflows_is_told() {
    let (node, _socket, mut monitor) = watched();
    nix::sys::socket::setsockopt(
        &monitor
            .descriptors()
            .next()
            .unwrap()
            .try_clone_to_owned()
            .unwrap(),
        nix::sys::socket::sockopt::RcvBuf,
        &4096,
    )
    .unwrap();
    node.run("for i in $(seq 200); do echo route add unreachable 10.70.0.$i/32 proto 82; done | ip -batch -");
    let events = heard(&mut monitor, |event| event.what == What::Overflow);
    assert!(
        events.iter().any(|event| event.what == What::Overflow),
        "{events:?}"
    );
    node.run("ip route del unreachable 10.7.0.0/26");
    assert!(
        !heard(&mut monitor, |_| true).is_empty(),
        "nothing is heard after an overflow"
    );
}

#[test]
fn a_change_of_our_table_names_who_made_it() {
    let node = Namespace::new();
    let mut socket = node.socket();
    let mut nft = node.enter(|| NftSocket::open().unwrap());
    let mut monitor = node.enter(|| Monitor::open(&mut socket, Some("weftnet")).unwrap());
    monitor.ignore(nft.port().unwrap());
    let make = Batch {
        table: "weftnet".to_owned(),
        changes: vec![Change::AddTable {
            flags: Some(TableFlags::default()),
        }],
    };
    nft.commit(&make).unwrap();
    node.run("nft add table inet other");
    assert_eq!(drain(&mut monitor), []);
    node.run("nft delete table inet weftnet");
    let events = heard(&mut monitor, |_| true);
    let [event] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert!(
        matches!(&event.what, What::Table { first, changes: 1 } if first == "deleted the table"),
        "{event:?}"
    );
    assert_eq!(event.by.name.as_deref(), Some("nft"));
    assert!(event.by.process.is_some() && event.by.port.is_some());
    assert!(
        monitor
            .descriptors()
            .all(|descriptor| descriptor.as_fd().try_clone_to_owned().is_ok())
    );
}

//! Plans applied and read back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::subsequence;
use weft_core::diff::{Change, Changes, diff};
use weft_core::plan::{LinkAddress, Mac, NetState, PodLink, Route, VxlanLink};
use weft_kernel::net::{Error, apply, observe};

use crate::namespace::Namespace;

const PODS: [&str; 3] = ["weft00000000001", "weft00000000002", "weft0000000000a"];
/// An address that routes may name as their source.
const SOURCE: &str = "10.45.0.1/32";
const VXLANS: [&str; 3] = ["weftx-one", "weftx-two", "weftx_012345678"];

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn vxlan(number: u8) -> impl Strategy<Value = VxlanLink> {
    let local = prop_oneof![Just("192.0.2.1"), Just("192.0.2.2"), Just("fd00:9::1")];
    (0..2_u32, local, 1..4_u8, 1400..1500_u32).prop_map(move |(vni, local, last, mtu)| VxlanLink {
        vni: 100 + 10 * u32::from(number) + vni,
        port: 4789 + u16::from(number),
        local: local.parse().unwrap(),
        mac: mac(last),
        mtu,
    })
}

fn on_link(pick: u8) -> (String, bool) {
    let all: Vec<&str> = PODS.iter().chain(&VXLANS[..2]).copied().collect();
    let link = all[usize::from(pick) % all.len()];
    (link.to_owned(), link.starts_with("weftx"))
}

fn route(v6: bool, pick: u8, via: bool, mtu: Option<u32>) -> Route {
    if pick.is_multiple_of(5) {
        return Route::Unreachable;
    }
    if pick % 7 == 3 {
        let source = (!v6 && via).then(|| SOURCE.parse::<IpNet>().unwrap().addr());
        return Route::Local { source };
    }
    let (link, _) = on_link(pick);
    let hop: IpAddr = if v6 { "fd00:8::7" } else { "10.9.9.7" }.parse().unwrap();
    let source = (!v6 && pick.is_multiple_of(3)).then(|| SOURCE.parse::<IpNet>().unwrap().addr());
    Route::Unicast {
        link,
        via: via.then_some(hop),
        onlink: via,
        source,
        mtu,
    }
}

prop_compose! {
    fn routes()(
        picks in proptest::collection::btree_map((any::<bool>(), 0..24_u8), (any::<u8>(), any::<bool>(), proptest::option::of(1280..1400_u32)), 0..20),
    ) -> BTreeMap<IpNet, Route> {
        picks.into_iter().map(|((v6, at), (pick, via, mtu))| {
            let to: IpNet = match (v6, at % 2 == 0) {
                (false, true) => format!("10.7.{at}.0/26"),
                (false, false) => format!("10.7.{at}.9/32"),
                (true, true) => format!("fd00:7:0:{at:x}::/122"),
                (true, false) => format!("fd00:7:0:{at:x}::9/128"),
            }.parse().unwrap();
            (to, route(v6, pick, via, mtu))
        }).collect()
    }
}

prop_compose! {
    /// The first two VXLAN devices are always there, because routes may leave by them.
    fn plan()(
        first in vxlan(0), second in vxlan(1), third in proptest::option::of(vxlan(2)),
        macs in proptest::collection::vec(1..200_u8, 3),
        mtus in proptest::collection::vec(1400..1500_u32, 3),
        addresses in subsequence(vec!["fe80::1/64", "10.44.0.1/32", "fd00:44::1/128", "fe80::2/64"], 0..=4),
        neighbours in proptest::collection::btree_map((0..5_u8, 1..6_u8, any::<bool>()), 1..200_u8, 0..8),
        forwarding in proptest::collection::btree_map((0..2_usize, 1..9_u8), 1..9_u8, 0..8),
        routes in routes(),
    ) -> NetState {
        let mut vxlans = BTreeMap::from([
            (VXLANS[0].to_owned(), first.clone()),
            (VXLANS[1].to_owned(), second.clone()),
        ]);
        vxlans.extend(third.map(|third| (VXLANS[2].to_owned(), third)));
        let pod_links = PODS.iter().zip(macs.iter().zip(&mtus)).map(|(link, (last, mtu))| {
            ((*link).to_owned(), PodLink { mac: mac(*last), mtu: *mtu })
        }).collect();
        // With the last IPv4 address of a link the kernel takes its IPv4 routes and neighbours: as in real
        // plans, each pod's link has one that stays.
        let lasting = PODS.iter().map(|link| (*link, "169.254.1.1/32")).chain([(PODS[0], SOURCE)]);
        let passing = addresses.iter().enumerate().map(|(place, address)| (PODS[place % PODS.len()], *address));
        let addresses: BTreeSet<LinkAddress> = lasting.chain(passing).map(|(link, address)| LinkAddress {
            link: link.to_owned(),
            address: address.parse().unwrap(),
            link_scope: address.starts_with("169.254") || address.starts_with("fe80"),
        }).collect();
        let neighbours = neighbours.into_iter().map(|((pick, host, v6), last)| {
            let address: IpAddr = if v6 { format!("fd00:5::{host}") } else { format!("10.5.0.{host}") }.parse().unwrap();
            ((on_link(pick).0, address), mac(last))
        }).collect();
        let forwarding = forwarding.into_iter().map(|((device, last), host)| {
            let v6 = [&first, &second][device].local.is_ipv6();
            let node: IpAddr = if v6 { format!("fd00:9::{host}") } else { format!("192.0.2.{host}") }.parse().unwrap();
            ((VXLANS[device].to_owned(), mac(last)), node)
        }).collect();
        NetState { vxlans, pod_links, addresses, neighbours, forwarding, routes }
    }
}

/// A node with the host ends of three pods.
fn node() -> Namespace {
    let node = Namespace::new();
    for (number, link) in PODS.iter().enumerate() {
        node.run(&format!(
            "ip link add {link} type veth peer name peer{number}; ip link set peer{number} up"
        ));
    }
    node
}

/// A plan may be read back with an IPv6 link-local address that the test's own `ip link add` let the kernel make.
fn observed(node: &Namespace) -> NetState {
    observe(&mut node.socket()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_back_is_the_plan(plans in proptest::collection::vec(plan(), 1..4)) {
        let node = node();
        let mut socket = node.socket();
        for plan in plans {
            let have = observe(&mut socket).unwrap();
            let changes = diff(&have, &plan);
            apply(&mut socket, &changes).unwrap_or_else(|error| panic!("{changes}: {error}"));
            let now = observe(&mut socket).unwrap();
            prop_assert_eq!(&now, &plan, "after\n{}", changes);
        }
    }
}

#[test]
fn what_belongs_to_others_is_neither_seen_nor_touched() {
    let node = Namespace::new();
    node.run(
        "ip link add other type veth peer name weft0; ip link set other up; ip link set weft0 up
         ip addr add 10.3.0.1/24 dev other; ip route add 10.4.0.0/24 via 10.3.0.9 dev other
         ip route add 10.4.1.0/24 via 10.3.0.9 dev other table 100 proto 82
         ip neigh add 10.3.0.9 lladdr 02:00:00:00:00:09 dev other nud permanent",
    );
    assert_eq!(observed(&node), NetState::default());
    let to: IpNet = "10.4.0.0/24".parse().unwrap();
    let taken = Changes(vec![Change::ReplaceRoute(to, Route::Unreachable)]);
    let Err(Error::Refused(failures)) = apply(&mut node.socket(), &taken) else {
        panic!("the route of somebody else was replaced");
    };
    let text = failures[0].to_string();
    assert!(
        text.contains("10.4.0.0/24") && text.contains("somebody else"),
        "{text}"
    );
    apply(
        &mut node.socket(),
        &Changes(vec![Change::RemoveRoute(to, Route::Unreachable)]),
    )
    .unwrap();
    assert!(node.run("ip route show 10.4.0.0/24").contains("10.3.0.9"));
}

#[test]
fn a_route_that_is_ours_already_is_replaced() {
    let node = node();
    let to: IpNet = "10.4.0.0/24".parse().unwrap();
    let mut socket = node.socket();
    node.run(&format!("ip link set {} up", PODS[0]));
    apply(
        &mut socket,
        &Changes(vec![Change::ReplaceRoute(to, Route::Unreachable)]),
    )
    .unwrap();
    let wanted = route(false, 1, false, Some(1300));
    node.run(&format!("ip link set {} up", PODS[1]));
    apply(
        &mut socket,
        &Changes(vec![Change::ReplaceRoute(to, wanted.clone())]),
    )
    .unwrap();
    assert_eq!(observed(&node).routes.get(&to), Some(&wanted));
}

#[test]
fn failures_name_the_object_and_the_others_are_made() {
    let node = node();
    node.run(&format!("ip link set {} up", PODS[0]));
    let address = |link: &str| LinkAddress {
        link: link.to_owned(),
        address: "10.44.0.1/32".parse().unwrap(),
        link_scope: false,
    };
    let changes = Changes(vec![
        Change::AddAddress(address("weft00000000bad")),
        Change::AddAddress(address(PODS[0])),
    ]);
    let error = apply(&mut node.socket(), &changes).unwrap_err().to_string();
    assert!(
        error.contains("add address 10.44.0.1/32 to link weft00000000bad: no such device (ENODEV)"),
        "{error}"
    );
    assert!(observed(&node).addresses.contains(&address(PODS[0])));
}

#[test]
fn what_is_gone_already_may_be_removed_and_what_is_there_may_be_added() {
    let node = node();
    let plan = NetState {
        addresses: BTreeSet::from([LinkAddress {
            link: PODS[0].to_owned(),
            address: "169.254.1.1/32".parse().unwrap(),
            link_scope: true,
        }]),
        neighbours: BTreeMap::from([((PODS[0].to_owned(), "10.5.0.1".parse().unwrap()), mac(1))]),
        routes: BTreeMap::from([("10.7.0.0/26".parse().unwrap(), Route::Unreachable)]),
        ..NetState::default()
    };
    let add = diff(&NetState::default(), &plan);
    let remove = diff(&plan, &NetState::default());
    let mut socket = node.socket();
    node.run(&format!("ip link set {} up", PODS[0]));
    for changes in [&add, &add, &remove, &remove] {
        apply(&mut socket, changes).unwrap_or_else(|error| panic!("{changes}: {error}"));
    }
    assert_eq!(observed(&node).routes, BTreeMap::new());
}

#[test]
fn a_link_that_is_down_is_set_up_again() {
    let node = node();
    let have = observed(&node);
    let plan = NetState {
        vxlans: BTreeMap::from([(
            VXLANS[0].to_owned(),
            VxlanLink {
                vni: 7,
                port: 4789,
                local: "192.0.2.1".parse().unwrap(),
                mac: mac(1),
                mtu: 1400,
            },
        )]),
        ..NetState::default()
    };
    let mut socket = node.socket();
    apply(&mut socket, &diff(&have, &plan)).unwrap();
    node.run(&format!("ip link set {} down", VXLANS[0]));
    let down = observed(&node);
    assert_ne!(down.vxlans, plan.vxlans);
    apply(&mut socket, &diff(&down, &plan)).unwrap();
    assert_eq!(observed(&node).vxlans, plan.vxlans);
}

#[test]
fn a_foreign_device_with_our_name_is_replaced() {
    let node = Namespace::new();
    node.run(&format!(
        "ip link add {} type vxlan id 9 dstport 9999",
        VXLANS[0]
    ));
    let link = VxlanLink {
        vni: 7,
        port: 4789,
        local: "192.0.2.1".parse().unwrap(),
        mac: mac(1),
        mtu: 1400,
    };
    let changes = Changes(vec![Change::CreateVxlan(
        VXLANS[0].to_owned(),
        link.clone(),
    )]);
    apply(&mut node.socket(), &changes).unwrap();
    assert_eq!(observed(&node).vxlans.get(VXLANS[0]), Some(&link));
}

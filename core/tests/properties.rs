//! Properties of the compilation over random clusters and random sequences of changes.
//!
//! Names and addresses come from small ranges on purpose: collisions are what goes wrong.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weft_core::compile::{self, Incremental};
use weft_core::names;
use weft_core::plan::{Mac, Route};
use weft_core::view::{
    AttachmentKey, BlockView, DnsView, HostInterface, HostPort, HostView, NodeView, OverlayView,
    PeerUnderlay, PeerView, PodView, PoolView, Protocol,
};
use weft_crds::OverlayMode;
use weft_nft::{Part, Value};

fn name(prefix: &'static str, count: u8) -> impl Strategy<Value = String> {
    (0..count).prop_map(move |number| format!("{prefix}{number}"))
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1_u8..6, 0_u8..2).prop_map(|(last, third)| IpAddr::from([192, 0, third, last])),
        (1_u16..6, 0_u16..2)
            .prop_map(|(last, seg)| IpAddr::from([0xfd00, 0, 0, seg, 0, 0, 0, last])),
    ]
}

fn segment(address: IpAddr) -> IpNet {
    IpNet::new(address, if address.is_ipv4() { 24 } else { 64 }).unwrap()
}

fn pod_net() -> impl Strategy<Value = IpNet> {
    let v4 = (0_u8..8, select(vec![24_u8, 26, 32]))
        .prop_map(|(third, length)| IpNet::new([10, 64, third, 0].into(), length).unwrap());
    let v6 = (0_u16..8, select(vec![120_u8, 122, 128])).prop_map(|(part, length)| {
        IpNet::new(IpAddr::from([0xfd64, 0, 0, 0, 0, 0, part, 0]), length).unwrap()
    });
    prop_oneof![v4, v6]
}

prop_compose! {
    fn overlay()(
        mode in select(vec![OverlayMode::Direct, OverlayMode::Vxlan, OverlayMode::Auto]),
        port in 4789_u16..4791,
        mtu in option::of(1280_u32..1600),
        underlay_v6 in any::<bool>(),
        cidrs in vec(address().prop_map(|address| segment(address).trunc()), 0..2),
    ) -> OverlayView {
        OverlayView { mode, vni: 1, port, mtu, underlay_v6, underlay_cidrs: cidrs }
    }
}

prop_compose! {
    fn pool()(
        overlay in name("o", 3),
        assignable in any::<bool>(),
        cidrs in btree_set(pod_net(), 0..3),
        masquerade in any::<bool>(),
        except in vec(pod_net(), 0..3),
    ) -> PoolView {
        let mut disjoint: Vec<IpNet> = Vec::new();
        for cidr in cidrs {
            if !disjoint.iter().any(|other| other.contains(&cidr) || cidr.contains(other)) {
                disjoint.push(cidr);
            }
        }
        PoolView {
            overlay, assignable, priority: 0, cidrs: disjoint, reserved: Vec::new(), prealloc: 0,
            cooldown_seconds: 0, masquerade, masquerade_except: except,
        }
    }
}

fn underlay() -> impl Strategy<Value = PeerUnderlay> {
    (
        vec(address(), 0..3),
        option::of(0_u8..3),
        option::of(1200_u32..1600),
    )
        .prop_map(|(addresses, mac, device_mtu)| {
            let of = |v4: bool| {
                addresses
                    .iter()
                    .find(|ip| ip.is_ipv4() == v4)
                    .map(|ip| segment(*ip))
            };
            PeerUnderlay {
                v4: of(true),
                v6: of(false),
                vtep_mac: mac.map(|last| Mac([2, 0, 0, 0, 0, last])),
                device_mtu,
            }
        })
}

fn peer() -> impl Strategy<Value = PeerView> {
    (
        btree_map(name("o", 3), underlay(), 0..3),
        btree_set(address(), 0..3),
    )
        .prop_map(|(underlays, addresses)| PeerView {
            underlays,
            addresses,
        })
}

fn block() -> impl Strategy<Value = BlockView> {
    (name("p", 4), pod_net(), name("n", 4), any::<bool>()).prop_map(
        |(pool, cidr, node, draining)| BlockView {
            uid: String::new(),
            pool,
            cidr,
            node,
            draining,
        },
    )
}

fn host_port() -> impl Strategy<Value = HostPort> {
    (
        1_u16..3,
        option::of(address()),
        select(vec![Protocol::Tcp, Protocol::Udp]),
    )
        .prop_map(|(host_port, host_ip, protocol)| HostPort {
            host_port,
            host_ip,
            container_port: 80,
            protocol,
        })
}

fn key(number: u8) -> AttachmentKey {
    AttachmentKey {
        container_id: number.to_string(),
        ifname: "eth0".to_owned(),
    }
}

fn pod() -> impl Strategy<Value = (AttachmentKey, PodView)> {
    (
        0_u8..4,
        option::of(1_u32..9),
        vec(pod_net(), 0..3),
        vec(host_port(), 0..3),
    )
        .prop_map(|(number, host_index, nets, host_ports)| {
            let key = key(number);
            let mut addresses: Vec<IpAddr> = nets.iter().map(IpNet::addr).collect();
            addresses.sort();
            addresses.dedup_by_key(|address| address.is_ipv4());
            let view = PodView {
                pod: format!("default/pod{number}"),
                host_link: names::pod_link(&key),
                host_index,
                host_mac: names::host_mac(&key),
                pod_mac: names::pod_mac(&key),
                addresses,
                host_ports,
            };
            (key, view)
        })
}

fn host() -> impl Strategy<Value = HostView> {
    let interface = (
        1280_u32..1600,
        btree_set(address().prop_map(segment), 0..3),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(mtu, addresses, default_route, router_advertisements)| HostInterface {
                index: 2,
                mtu,
                addresses,
                default_route,
                router_advertisements,
            },
        );
    (
        vec(address(), 0..3),
        btree_map(name("eth", 2), interface, 0..3),
        any::<[bool; 3]>(),
    )
        .prop_map(
            |(internal_ips, interfaces, [ipv6, force_forwarding, vxlan])| HostView {
                internal_ips,
                interfaces,
                ipv6,
                force_forwarding,
                vxlan,
            },
        )
}

fn view() -> impl Strategy<Value = NodeView> {
    (
        btree_map(name("o", 3), overlay(), 0..3),
        btree_map(name("p", 4), pool(), 0..4),
        btree_map(
            name("m", 4).prop_map(|name| name.replace('m', "n")),
            peer(),
            0..4,
        ),
        btree_map(name("b", 8), block(), 0..8),
        vec(pod(), 0..4),
        option::of((btree_set(address(), 0..3), any::<bool>())),
        host(),
    )
        .prop_map(|(overlays, pools, mut peers, blocks, pods, dns, host)| {
            let dns = dns.map(|(addresses, serving)| DnsView { addresses, serving });
            peers.remove("n0");
            NodeView {
                node: "n0".to_owned(),
                overlays,
                pools,
                peers,
                blocks: disjoint(blocks),
                pods: pods.into_iter().collect(),
                services: None,
                policies: false,
                dns,
                host,
            }
        })
}

fn disjoint(
    blocks: std::collections::BTreeMap<String, BlockView>,
) -> std::collections::BTreeMap<String, BlockView> {
    let mut used: Vec<IpNet> = Vec::new();
    blocks
        .into_iter()
        .filter(|(_, block)| {
            let free = !used
                .iter()
                .any(|net| net.contains(&block.cidr) || block.cidr.contains(net));
            if free {
                used.push(block.cidr);
            }
            free
        })
        .collect()
}

fn bounds(part: &Part) -> (&Value, &Value) {
    match part {
        Part::One(value) => (value, value),
        Part::Range(first, last) => (first, last),
    }
}

/// One part of the view becomes what it is in another view, or one pod changes.
#[derive(Clone, Debug)]
enum Step {
    Overlays,
    Pools,
    OnePool(String),
    Peers,
    OnePeer(String),
    Blocks,
    Host,
    Pods,
    Pod(AttachmentKey, Option<PodView>),
    Everything,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Overlays),
        1 => Just(Step::Pools),
        3 => name("p", 4).prop_map(Step::OnePool),
        1 => Just(Step::Peers),
        4 => (1_u8..4).prop_map(|number| Step::OnePeer(format!("n{number}"))),
        3 => Just(Step::Blocks),
        1 => Just(Step::Host),
        1 => Just(Step::Pods),
        4 => pod().prop_map(|(key, pod)| Step::Pod(key, Some(pod))),
        2 => (0_u8..4).prop_map(|number| Step::Pod(key(number), None)),
        1 => Just(Step::Everything),
    ]
}

fn one<V: Clone>(
    into: &mut std::collections::BTreeMap<String, V>,
    from: &std::collections::BTreeMap<String, V>,
    name: &str,
) {
    match from.get(name) {
        Some(value) => drop(into.insert(name.to_owned(), value.clone())),
        None => drop(into.remove(name)),
    }
}

fn take(step: &Step, incremental: &mut Incremental, other: NodeView) {
    let mut next = incremental.view().clone();
    match step {
        Step::Overlays => next.overlays = other.overlays,
        Step::Pools => next.pools = other.pools,
        Step::OnePool(name) => one(&mut next.pools, &other.pools, name),
        Step::Peers => next.peers = other.peers,
        Step::OnePeer(name) => one(&mut next.peers, &other.peers, name),
        Step::Blocks => next.blocks = other.blocks,
        Step::Host => next.host = other.host,
        Step::Pods => next.pods = other.pods,
        Step::Everything => next = other,
        Step::Pod(key, pod) => {
            incremental.set_pod(key, pod.clone());
            return;
        }
    }
    incremental.update(next);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn incremental_and_wholesale_compilation_are_equal(
        start in view(),
        steps in vec((step(), view()), 1..8),
    ) {
        let mut incremental = Incremental::new(start);
        for (step, other) in steps {
            take(&step, &mut incremental, other);
            let (plan, findings) = compile::all(incremental.view());
            prop_assert_eq!(incremental.plan(), &plan, "after {:?}", step);
            let incremental: Vec<_> = incremental.findings().cloned().collect();
            prop_assert_eq!(incremental, findings, "after {:?}", step);
        }
    }

    #[test]
    fn every_plan_is_one_that_the_kernel_takes(view in view()) {
        let (plan, _) = compile::all(&view);
        prop_assert_eq!(plan.table.faults(), []);
        for set in ["pod-networks4", "pod-networks6", "masquerade-sources4", "masquerade-sources6"] {
            let mut ranges: Vec<_> = plan.table.sets[set].elements.keys().map(|key| bounds(&key.0[0])).collect();
            ranges.sort();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{set}: {ranges:?}");
        }
        let pods: BTreeSet<&String> = plan.net.pod_links.keys().collect();
        for (destination, route) in &plan.net.routes {
            let Route::Unicast { link, via, mtu, .. } = route else { continue };
            let known = pods.contains(link)
                || plan.net.vxlans.contains_key(link)
                || view.host.interfaces.contains_key(link);
            prop_assert!(known, "{destination}: {link} is not there");
            if plan.net.vxlans.contains_key(link) {
                let via = via.expect("a next hop");
                let mac = plan.net.neighbours.get(&(link.clone(), via)).expect("a neighbour");
                prop_assert!(plan.net.forwarding.contains_key(&(link.clone(), *mac)));
            }
            let v6 = destination.max_prefix_len() == 128;
            prop_assert!(!v6 || mtu.is_none_or(|mtu| mtu >= 1280), "{destination}: {mtu:?}");
        }
        for link in plan.net.pod_links.keys().chain(plan.net.vxlans.keys()) {
            prop_assert!(names::recognise(link).is_some(), "{link}");
        }
    }

    #[test]
    fn only_own_pods_and_own_blocks_are_claimed(view in view()) {
        let (plan, _) = compile::all(&view);
        for block in view.blocks.values().filter(|block| block.node == view.node) {
            let pod = plan.net.routes.get(&block.cidr);
            let v4 = block.cidr.max_prefix_len() == 32;
            prop_assert!(pod.is_some() || (!v4 && !view.host.ipv6), "{} has no route", block.cidr);
        }
        for set in ["pod-sources4", "pod-sources6"] {
            let known = view.pods.values().filter(|pod| pod.host_index.is_some()).count();
            prop_assert!(plan.table.sets[set].elements.len() <= known);
        }
    }
}

//! Order of changes, and that they lead to what is wanted.

use proptest::prelude::*;

use super::*;

fn link() -> impl Strategy<Value = LinkName> {
    prop::sample::select(vec!["weftx-a", "weftx-b", "eth0"]).prop_map(str::to_owned)
}

fn pod() -> impl Strategy<Value = LinkName> {
    prop::sample::select(vec!["weft00000000001", "weft00000000002"]).prop_map(str::to_owned)
}

fn mac() -> impl Strategy<Value = Mac> {
    (0_u8..3).prop_map(|last| Mac([2, 0, 0, 0, 0, last]))
}

fn ip() -> impl Strategy<Value = IpAddr> {
    (0_u8..4).prop_map(|last| IpAddr::from([10, 0, 0, last]))
}

fn net() -> impl Strategy<Value = IpNet> {
    (ip(), prop::sample::select(vec![24_u8, 32]))
        .prop_map(|(ip, length)| IpNet::new(ip, length).unwrap().trunc())
}

fn vxlan() -> impl Strategy<Value = VxlanLink> {
    (1_u32..3, ip(), mac(), 1400_u32..1402).prop_map(|(vni, local, mac, mtu)| VxlanLink {
        vni,
        port: 4789,
        local,
        mac,
        mtu,
    })
}

fn route() -> impl Strategy<Value = Route> {
    let unicast =
        (link(), proptest::option::of(ip()), any::<bool>()).prop_map(|(link, via, onlink)| {
            Route::Unicast {
                link,
                via,
                onlink,
                source: None,
                mtu: None,
            }
        });
    let local = proptest::option::of(ip()).prop_map(|source| Route::Local { source });
    prop_oneof![Just(Route::Unreachable), unicast, local]
}

fn state() -> impl Strategy<Value = NetState> {
    use proptest::collection::{btree_map, vec};
    let address = (pod(), net(), any::<bool>());
    (
        btree_map(
            prop::sample::select(vec!["weftx-a".to_owned(), "weftx-b".to_owned()]),
            vxlan(),
            0..3,
        ),
        btree_map(
            pod(),
            (mac(), 1400_u32..1402).prop_map(|(mac, mtu)| PodLink { mac, mtu }),
            0..3,
        ),
        vec(address, 0..3),
        btree_map((link(), ip()), mac(), 0..5),
        btree_map((link(), mac()), ip(), 0..5),
        btree_map(net(), route(), 0..6),
    )
        .prop_map(
            |(vxlans, pod_links, addresses, neighbours, forwarding, routes)| {
                // One scope for each address on a link, as in the kernel.
                let addresses: std::collections::BTreeMap<(LinkName, IpNet), bool> = addresses
                    .into_iter()
                    .map(|(link, address, scope)| ((link, address), scope))
                    .collect();
                NetState {
                    vxlans,
                    pod_links,
                    addresses: addresses
                        .into_iter()
                        .map(|((link, address), link_scope)| LinkAddress {
                            link,
                            address,
                            link_scope,
                        })
                        .collect(),
                    neighbours,
                    forwarding,
                    routes,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn applying_the_difference_leads_to_what_is_wanted(have in state(), want in state()) {
        let mut got = have.clone();
        let changes = diff(&have, &want);
        changes.apply(&mut got);
        // A device that goes at the end takes along what the plan wrongly had on it.
        let gone: Vec<&LinkName> = have.vxlans.keys().filter(|link| !want.vxlans.contains_key(*link)).collect();
        let mut expected = want.clone();
        for link in gone {
            delete_link(&mut expected, link);
        }
        for (link, pod) in &have.pod_links {
            expected.pod_links.entry(link.clone()).or_insert_with(|| pod.clone());
        }
        prop_assert_eq!(got, expected, "{}", changes);
    }

    #[test]
    fn nothing_is_to_be_done_twice(have in state(), want in state()) {
        prop_assert!(diff(&want, &want).is_empty());
        prop_assert_eq!(have == want, diff(&have, &want).is_empty() && have.pod_links == want.pod_links);
    }

    #[test]
    fn a_route_that_stays_wanted_is_never_removed(have in state(), want in state()) {
        for change in diff(&have, &want).0 {
            if let Change::RemoveRoute(destination, old) = change {
                let is_local = |route: &Route| matches!(route, Route::Local { .. });
                let stays = want.routes.get(&destination).is_some_and(|route| is_local(route) == is_local(&old));
                prop_assert!(!stays);
            }
        }
    }
}

#[test]
fn changes_read_like_a_log_in_their_order() {
    let vxlan = VxlanLink {
        vni: 1,
        port: 4789,
        local: "192.0.2.1".parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1450,
    };
    let route = |link: &str| Route::Unicast {
        link: link.to_owned(),
        via: Some("192.0.2.2".parse().unwrap()),
        onlink: true,
        source: None,
        mtu: None,
    };
    let net: IpNet = "10.64.1.0/26".parse().unwrap();
    let have = NetState {
        vxlans: [("weftx-old".to_owned(), vxlan.clone())].into(),
        routes: [
            (net, route("weftx-old")),
            ("10.64.2.0/26".parse().unwrap(), Route::Unreachable),
        ]
        .into(),
        ..NetState::default()
    };
    let want = NetState {
        vxlans: [("weftx-new".to_owned(), vxlan)].into(),
        neighbours: [(
            ("weftx-new".to_owned(), "192.0.2.2".parse().unwrap()),
            Mac([2, 0, 0, 0, 0, 2]),
        )]
        .into(),
        routes: [(net, route("weftx-new"))].into(),
        ..NetState::default()
    };
    insta::assert_snapshot!(diff(&have, &want), @r"
    + link weftx-new vxlan id 1 port 4789 local 192.0.2.1 address 02:00:00:00:00:01 mtu 1450
    ~ neighbour 192.0.2.2 lladdr 02:00:00:00:00:02 dev weftx-new
    ~ route 10.64.1.0/26 via 192.0.2.2 dev weftx-new onlink
    - route 10.64.2.0/26
    - link weftx-old
    ");
}

//! Who gets which address: requests, sharing, conflicts of old caches, full pools.

use proptest::prelude::*;

use super::*;

fn range(first: &str, last: &str) -> BalancerRange {
    BalancerRange {
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        reserved: Vec::new(),
    }
}

fn pool(ranges: Vec<BalancerRange>) -> BalancerPool {
    BalancerPool {
        accepted: true,
        priority: 0,
        ranges,
    }
}

fn service(created: i64) -> BalancerService {
    BalancerService {
        created,
        families: [Family::V4].into(),
        ports: [(Protocol::Tcp, 80)].into(),
        ..BalancerService::default()
    }
}

fn key(name: &str) -> ServiceKey {
    ("default".to_owned(), name.to_owned())
}

fn view(pools: Vec<(&str, BalancerPool)>, services: Vec<(&str, BalancerService)>) -> BalancerView {
    let named = |(name, pool): (&str, _)| (name.to_owned(), pool);
    BalancerView {
        pools: pools.into_iter().map(named).collect(),
        services: services
            .into_iter()
            .map(|(name, service)| (key(name), service))
            .collect(),
    }
}

fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn held(grants: &BTreeMap<ServiceKey, BalancerGrant>, name: &str) -> Vec<String> {
    let grant = &grants[&key(name)];
    grant.addresses.keys().map(ToString::to_string).collect()
}

fn small() -> BalancerPool {
    pool(vec![range("192.0.2.10", "192.0.2.11")])
}

fn sharing(service: BalancerService, port: u16) -> BalancerService {
    BalancerService {
        sharing: Some(Sharing {
            key: "k".to_owned(),
            local: false,
        }),
        ports: [(Protocol::Tcp, port)].into(),
        ..service
    }
}

#[test]
fn the_lowest_free_address_of_the_preferred_pool_is_given() {
    let preferred = BalancerPool {
        priority: 1,
        ..pool(vec![range("198.51.100.7", "198.51.100.7")])
    };
    let grants = plan_balancers(&view(
        vec![("a", small()), ("z", preferred)],
        vec![("one", service(1)), ("two", service(2))],
    ));
    assert_eq!(held(&grants, "one"), ["198.51.100.7"]);
    assert_eq!(held(&grants, "two"), ["192.0.2.10"]);
    let pool = &grants[&key("two")].addresses.values().next().unwrap();
    assert_eq!(pool.as_deref(), Some("a"));
}

#[test]
fn reserved_addresses_are_given_only_to_who_asks() {
    let mut pool = small();
    pool.ranges[0].reserved = vec!["192.0.2.10/32".parse().unwrap()];
    assert_eq!(pool.ranges[0].sizes(), (1, 1));
    let asks = BalancerService {
        requested: addresses(&["192.0.2.10"]),
        ..service(3)
    };
    let grants = plan_balancers(&view(
        vec![("a", pool)],
        vec![("one", service(1)), ("two", service(2)), ("asks", asks)],
    ));
    assert_eq!(held(&grants, "one"), ["192.0.2.11"]);
    assert_eq!(held(&grants, "asks"), ["192.0.2.10"]);
    assert_eq!(
        grants[&key("two")].problem,
        Some(BalancerProblem::Exhausted(Family::V4))
    );
}

#[test]
fn of_two_with_one_address_the_older_keeps_it() {
    let with = |created| BalancerService {
        held: addresses(&["192.0.2.10"]),
        ..service(created)
    };
    let grants = plan_balancers(&view(
        vec![("a", small())],
        vec![("young", with(2)), ("old", with(1))],
    ));
    assert_eq!(held(&grants, "old"), ["192.0.2.10"]);
    assert_eq!(held(&grants, "young"), ["192.0.2.11"]);
}

#[test]
fn what_is_held_stays_when_the_pool_goes() {
    let holds = BalancerService {
        held: addresses(&["203.0.113.9"]),
        ..service(1)
    };
    let grants = plan_balancers(&view(vec![("a", small())], vec![("one", holds)]));
    assert_eq!(held(&grants, "one"), ["203.0.113.9"]);
    assert_eq!(grants[&key("one")].problem, None);
}

#[test]
fn sharers_join_on_other_ports_alone() {
    let grants = plan_balancers(&view(
        vec![("a", small())],
        vec![
            ("a", sharing(service(1), 80)),
            ("b", sharing(service(2), 81)),
            ("c", sharing(service(3), 80)),
        ],
    ));
    assert_eq!(held(&grants, "a"), held(&grants, "b"));
    assert_ne!(held(&grants, "a"), held(&grants, "c"));
}

#[test]
fn a_request_that_cannot_be_granted_leaves_what_is_held() {
    let cases = [
        (
            "192.0.2.10",
            BalancerProblem::Taken("192.0.2.10".parse().unwrap(), key("first")),
        ),
        (
            "203.0.113.1",
            BalancerProblem::NotInPool("203.0.113.1".parse().unwrap()),
        ),
        (
            "2001:db8::1",
            BalancerProblem::WrongFamily("2001:db8::1".parse().unwrap()),
        ),
    ];
    for (asked, problem) in cases {
        let asks = BalancerService {
            held: addresses(&["192.0.2.11"]),
            requested: addresses(&[asked]),
            ..service(2)
        };
        let grants = plan_balancers(&view(
            vec![("a", small())],
            vec![("first", service(1)), ("asks", asks)],
        ));
        assert_eq!(held(&grants, "asks"), ["192.0.2.11"], "{asked}");
        assert_eq!(grants[&key("asks")].problem, Some(problem));
    }
}

#[test]
fn a_request_takes_the_place_of_what_is_held() {
    let asks = BalancerService {
        held: addresses(&["192.0.2.10"]),
        requested: addresses(&["192.0.2.11"]),
        ..service(1)
    };
    let grants = plan_balancers(&view(
        vec![("a", small())],
        vec![("asks", asks), ("next", service(2))],
    ));
    assert_eq!(held(&grants, "asks"), ["192.0.2.11"]);
    // The address that was given up is free in the next round, not in this one.
    assert_eq!(held(&grants, "next"), Vec::<String>::new());
}

#[test]
fn dual_stack_needs_both_unless_one_will_do() {
    let both = BalancerService {
        families: Family::ALL.into(),
        ..service(1)
    };
    let either = BalancerService {
        one_will_do: true,
        ..both.clone()
    };
    let grants = plan_balancers(&view(
        vec![("a", small())],
        vec![("both", both), ("either", either)],
    ));
    assert_eq!(
        grants[&key("both")].problem,
        Some(BalancerProblem::NoPool(Family::V6))
    );
    assert_eq!(grants[&key("either")].problem, None);
}

fn any_service() -> impl Strategy<Value = BalancerService> {
    (
        0_i64..4,
        prop::collection::btree_set(0_u8..6, 0..2),
        prop::collection::btree_set(0_u8..6, 0..2),
        prop::option::of(0_u8..2),
        prop::collection::btree_set(80_u16..83, 1..3),
    )
        .prop_map(|(created, held, requested, key, ports)| {
            let named = |numbers: BTreeSet<u8>| {
                let addresses = numbers.into_iter();
                addresses
                    .map(|last| IpAddr::from([192, 0, 2, 8 + last]))
                    .collect()
            };
            BalancerService {
                created,
                families: [Family::V4].into(),
                held: named(held),
                requested: named(requested),
                sharing: key.map(|key| Sharing {
                    key: key.to_string(),
                    local: false,
                }),
                ports: ports
                    .into_iter()
                    .map(|port| (Protocol::Tcp, port))
                    .collect(),
                ..BalancerService::default()
            }
        })
}

proptest! {
    #[test]
    fn no_address_has_two_holders_that_may_not_share(services in prop::collection::vec(any_service(), 0..8)) {
        let mut view = view(vec![("a", small())], Vec::new());
        for (index, service) in services.into_iter().enumerate() {
            view.services.insert(key(&index.to_string()), service);
        }
        let mut rounds = Vec::new();
        for _ in 0..4 {
            let grants = plan_balancers(&view);
            let mut holders: Vec<(IpAddr, &ServiceKey)> = Vec::new();
            for (key, grant) in &grants {
                for address in grant.addresses.keys() {
                    for (_, other) in holders.iter().filter(|(held, _)| held == address) {
                        let (a, b) = (&view.services[key], &view.services[*other]);
                        prop_assert!(a.sharing.is_some() && a.sharing == b.sharing, "{key:?} {other:?}");
                        prop_assert!(a.ports.is_disjoint(&b.ports), "{key:?} {other:?}");
                    }
                    holders.push((*address, key));
                }
            }
            for (key, grant) in &grants {
                if let Some(service) = view.services.get_mut(key) {
                    service.held = grant.addresses.keys().copied().collect();
                }
            }
            rounds.push(grants);
        }
        // It comes to rest.
        prop_assert_eq!(&rounds[2], &rounds[3]);
    }
}

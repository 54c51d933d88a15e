//! What there is decides, not the order in which it came.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::zones::config::ConfigSpec;
use crate::zones::input::{Face, Port, Protocol};

const NAMESPACES: [&str; 2] = ["a", "b"];
const SERVICES: [&str; 3] = ["web", "db", "ext"];
const SLICES: [&str; 4] = ["one", "two", "three", "four"];

/// What may happen, each to one of a few objects.
#[derive(Clone, Debug)]
enum Event {
    Namespace(usize, Option<bool>),
    Service(usize, usize, Option<ServiceInput>),
    Slice(usize, usize, Option<SliceInput>),
}

fn port(name: u8) -> Port {
    Port {
        name: ["", "http", "dns"][usize::from(name % 3)].into(),
        protocol: Protocol::Tcp,
        number: 80 + u16::from(name),
    }
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn service() -> impl Strategy<Value = ServiceInput> {
    let faces = (0_u8..3, 0_u8..4).prop_map(|(kind, last)| match kind {
        0 => Face::Addresses(Box::new([address(last)])),
        1 => Face::Headless,
        _ => Face::Alias(crate::zones::name::Name::absolute("x.example").expect("a name")),
    });
    (
        faces,
        prop::collection::vec(0_u8..3, 0..2),
        prop::collection::vec(100_u8..103, 0..2),
    )
        .prop_map(|(face, ports, external)| ServiceInput {
            face,
            ports: ports.into_iter().map(port).collect(),
            external: external.into_iter().map(address).collect(),
            external_name: None,
        })
}

fn slice() -> impl Strategy<Value = (usize, SliceInput)> {
    let endpoint = (0_u8..6, prop::option::of(0_u8..3));
    let endpoints = prop::collection::vec(endpoint, 0..5);
    (
        0..SERVICES.len(),
        endpoints,
        prop::collection::vec(0_u8..3, 0..3),
    )
        .prop_map(|(service, endpoints, ports)| {
            let mut labels = Vec::new();
            for (_, name) in &endpoints {
                match name {
                    Some(name) => labels.extend_from_slice(&[2, b'e', b'0' + name]),
                    None => labels.push(0),
                }
            }
            let input = SliceInput {
                service: UnitKey {
                    imported: false,
                    key: Box::default(),
                },
                ports: ports.into_iter().map(port).collect(),
                addresses: endpoints.iter().map(|(last, _)| address(*last)).collect(),
                labels: labels.into(),
                cluster: None,
            };
            (service, input)
        })
}

fn event() -> impl Strategy<Value = Event> {
    let namespace = 0..NAMESPACES.len();
    prop_oneof![
        1 => (namespace.clone(), prop::option::of(any::<bool>())).prop_map(|(at, exposed)| Event::Namespace(at, exposed)),
        2 => (namespace.clone(), 0..SERVICES.len(), prop::option::of(service()))
            .prop_map(|(at, name, service)| Event::Service(at, name, service)),
        3 => (namespace, 0..SLICES.len(), prop::option::of(slice())).prop_map(|(at, name, slice)| {
            let slice = slice.and_then(|(service, mut slice)| {
                slice.service.key = input::key(NAMESPACES[at], SERVICES[service])?;
                Some(slice)
            });
            Event::Slice(at, name, slice)
        }),
    ]
}

fn cluster() -> Cluster {
    Cluster::new(Config::parse(&ConfigSpec::default()).expect("defaults"))
}

fn apply(cluster: &mut Cluster, event: &Event) {
    match event {
        Event::Namespace(at, exposed) => cluster.set_namespace(NAMESPACES[*at], *exposed),
        Event::Service(at, name, service) => {
            cluster.set_service(NAMESPACES[*at], SERVICES[*name], service.clone())
        }
        Event::Slice(at, name, slice) => {
            cluster.set_slice(NAMESPACES[*at], SLICES[*name], slice.clone())
        }
    }
}

/// Everything that answers are made of, in an order of its own.
fn contents(data: &Data) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut units: Vec<_> = data.services.iter().cloned().collect();
    units.sort_by(|one, other| one.key.cmp(&other.key));
    let entries = |ordered: &Ordered| ordered.range(0, u128::MAX).cloned().collect::<Vec<_>>();
    (
        units,
        data.services.len(),
        entries(&data.reverse),
        entries(&data.external),
        data.namespaces.clone(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn step_by_step_and_all_at_once_end_in_the_same_names(events in prop::collection::vec(event(), 0..60)) {
        let (mut steps, mut whole) = (cluster(), cluster());
        let mut snapshots = Vec::new();
        for event in &events {
            apply(&mut steps, event);
            snapshots.push(steps.compile());
        }
        // The last state of each object alone, in another order: slices first, namespaces last.
        let mut last: BTreeMap<(u8, usize, usize), &Event> = BTreeMap::new();
        for event in &events {
            let key = match event {
                Event::Slice(at, name, _) => (0, *at, *name),
                Event::Service(at, name, _) => (1, *at, *name),
                Event::Namespace(at, _) => (2, *at, 0),
            };
            last.insert(key, event);
        }
        last.values().for_each(|event| apply(&mut whole, event));
        let (steps, whole) = (steps.compile(), whole.compile());
        prop_assert_eq!(contents(&steps), contents(&whole));
    }

    #[test]
    fn a_snapshot_that_was_handed_out_does_not_change(events in prop::collection::vec(event(), 1..30), later in prop::collection::vec(event(), 1..30)) {
        let mut cluster = cluster();
        events.iter().for_each(|event| apply(&mut cluster, event));
        let snapshot = cluster.compile();
        let before = format!("{:?}", contents(&snapshot));
        for event in &later {
            apply(&mut cluster, event);
            cluster.compile();
        }
        prop_assert_eq!(before, format!("{:?}", contents(&snapshot)));
    }
}

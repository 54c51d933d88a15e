//! Properties of updates over random clusters and events.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use weft_core::compile;
use weft_core::services::object::{ServicePort, SliceEndpoint, SlicePort};
use weft_core::services::{
    Bulk, Code, Repair, ServiceName, ServiceObject, Services, SliceName, SliceObject,
};
use weft_core::view::{Family, NodeView, Protocol};
use weft_nft::trace::{Arrival, Packet, Tracer};
use weft_nft::{Data, Element, Key, Table, Value, l4proto};

use super::cluster::{self, Event};
use super::conformance::host;
use super::oracle::{Verdict, World};
use super::table;

fn apply(services: &mut Services, event: &Event) {
    match event.clone() {
        Event::Service(name, object) => services.set_service(&name, object),
        Event::Slice(name, object) => services.set_slice(&name, object),
        Event::Config(config) => services.configure(config),
    }
}

fn remember(world: &mut World, event: &Event) {
    match event.clone() {
        Event::Service(name, Some(object)) => drop(world.services.insert(name, object)),
        Event::Service(name, None) => drop(world.services.remove(&name)),
        Event::Slice(name, Some(object)) => drop(world.slices.insert(name, object)),
        Event::Slice(name, None) => drop(world.slices.remove(&name)),
        Event::Config(config) => world.config = config,
    }
}

fn started() -> (Services, World) {
    let config = weft_core::services::Config {
        node: cluster::NODE.to_owned(),
        node_addresses: vec![cluster::ip(cluster::NODE_ADDRESSES[0])],
        ..Default::default()
    };
    let world = World {
        config: config.clone(),
        ..World::default()
    };
    (Services::new(config), world)
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => l4proto::TCP,
        Protocol::Udp => l4proto::UDP,
        Protocol::Sctp => l4proto::SCTP,
    }
}

fn traced(
    table: &Table,
    world: &World,
    from: SocketAddr,
    protocol: Protocol,
    to: SocketAddr,
) -> Verdict {
    let node = &world.config.node_addresses;
    let packet = Packet::new(protocol_number(protocol), from, to);
    let arrival = if node.contains(&from.ip()) {
        Arrival::of_node(packet)
    } else {
        Arrival::by(2, packet)
    };
    let flow = Tracer::new(table).flow(&host(node), &arrival);
    assert!(flow.unknown.is_empty(), "{flow:?}");
    if flow.is_untouched(to) {
        return Verdict::Untouched;
    }
    match (
        flow.reached.is_empty(),
        flow.dropped,
        flow.rejected.is_empty(),
    ) {
        (true, true, true) => Verdict::Drop,
        (true, false, false) => Verdict::Reject,
        (false, false, true) => {
            let times = flow
                .reached
                .values()
                .map(|how| how.remembered.map_or(0, |time| time.as_secs()));
            let times: Vec<u64> = times.collect();
            assert!(times.iter().all(|time| *time == times[0]), "{flow:?}");
            Verdict::Reach {
                endpoints: flow.reached.keys().copied().collect(),
                masqueraded: flow.masqueraded(from.ip()),
                affinity: u32::try_from(times[0]).unwrap(),
            }
        }
        _ => panic!("{flow:?}"),
    }
}

/// What makes a set right that is as in this table.
fn audit(services: &Services, set: (Bulk, Family), kernel: &Table) -> Repair {
    let (bulk, family) = set;
    let mut audit = services.audit(set);
    for (key, element) in &kernel.sets[bulk.name(family)].elements {
        audit.see(key.clone(), element);
    }
    audit.repair()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_tracer_comes_to_what_the_prose_says(
        config in cluster::config(),
        events in vec(cluster::event(), 1..16),
    ) {
        let (mut services, mut world) = started();
        for event in [Event::Config(config)].iter().chain(&events) {
            apply(&mut services, event);
            remember(&mut world, event);
        }
        services.compile();
        services.committed();
        let table = table(&services);
        prop_assert_eq!(table.faults(), []);
        for from in cluster::SOURCES {
            for to in cluster::DESTINATIONS {
                let (from, to) = (cluster::ip(from), cluster::ip(to));
                if from.is_ipv4() != to.is_ipv4() {
                    continue;
                }
                for port in cluster::PORTS {
                    for protocol in [Protocol::Tcp, Protocol::Udp] {
                        let to = SocketAddr::new(to, port);
                        let want = world.judge(from, protocol, to);
                        let have = traced(&table, &world, SocketAddr::new(from, 40_000), protocol, to);
                        prop_assert_eq!(have, want, "{} to {} {}", from, protocol, to);
                    }
                }
            }
        }
    }

    #[test]
    fn batches_lead_to_the_whole_and_no_packet_falls_between(
        rounds in vec(vec(cluster::event(), 1..6), 1..8),
        faults in vec(any::<Option<Index>>(), 8),
    ) {
        let (mut services, mut world) = started();
        let mut kernel = Kernel::default();
        for (events, fault) in rounds.iter().zip(&faults) {
            for event in events {
                apply(&mut services, event);
                remember(&mut world, event);
            }
            kernel.follow(&mut services, *fault)?;
        }
        kernel.follow(&mut services, None)?;
        prop_assert!(!services.is_dirty());
        let want = table(&services);
        for (name, set) in &want.sets {
            prop_assert_eq!(&kernel.table.sets[name].elements, &set.elements, "{}", name);
        }
        prop_assert_eq!(&kernel.table, &want);

        // What a node is like may be known last.
        let mut fresh = Services::default();
        for (name, object) in &world.slices {
            fresh.set_slice(name, Some(object.clone()));
        }
        for (name, object) in &world.services {
            fresh.set_service(name, Some(object.clone()));
        }
        fresh.configure(world.config.clone());
        fresh.compile();
        prop_assert_eq!(resolved(&table(&fresh)), resolved(&want));
        prop_assert_eq!(fresh.health(), services.health());
        prop_assert_eq!(fresh.frame(), services.frame());
    }

    #[test]
    fn a_restart_changes_nothing(events in vec(vec(cluster::event(), 1..6), 1..6)) {
        let (mut services, mut world) = started();
        for event in events.iter().flatten() {
            apply(&mut services, event);
            remember(&mut world, event);
            services.compile();
            services.committed();
        }
        let kernel = table(&services);
        let mut fresh = Services::new(world.config.clone());
        for (name, object) in world.services.iter().rev() {
            fresh.set_service(name, Some(object.clone()));
        }
        for (name, object) in world.slices.iter().rev() {
            fresh.set_slice(name, Some(object.clone()));
        }
        for (name, set) in &kernel.sets {
            for (key, element) in &set.elements {
                fresh.adopt(name, key, element);
            }
        }
        fresh.compile();
        for bulk in Bulk::ALL {
            for family in Family::ALL {
                let repair = audit(&fresh, (bulk, family), &kernel);
                prop_assert_eq!(repair, Default::default(), "{}", bulk.name(family));
            }
        }
    }

    #[test]
    fn an_audit_makes_anything_right(
        before in vec(cluster::event(), 1..10),
        after in vec(cluster::event(), 1..10),
    ) {
        let (mut services, _) = started();
        before.iter().for_each(|event| apply(&mut services, event));
        services.compile();
        services.committed();
        let mut kernel = table(&services);
        after.iter().for_each(|event| apply(&mut services, event));
        services.compile();
        services.committed();
        let want = table(&services);
        kernel.chains = want.chains.clone();
        for (name, set) in &want.sets {
            if Bulk::of(name).is_none() {
                kernel.sets.insert(name.clone(), set.clone());
            }
        }
        let mut removals = Vec::new();
        for bulk in Bulk::ALL {
            for family in Family::ALL {
                let repair = audit(&services, (bulk, family), &kernel);
                repair.additions.iter().for_each(|batch| kernel.apply(batch).unwrap());
                removals.extend(repair.removals);
            }
        }
        removals.iter().rev().for_each(|batch| kernel.apply(batch).unwrap());
        prop_assert_eq!(kernel, want);
    }
}

/// A model of the kernel that follows changes as the agent has it follow them.
#[derive(Default)]
struct Kernel {
    table: Table,
}

impl Kernel {
    fn follow(
        &mut self,
        services: &mut Services,
        fault: Option<Index>,
    ) -> Result<(), TestCaseError> {
        let mut changes = services.compile();
        if let Some(frame) = &changes.before {
            self.frame(services, frame.clone());
        }
        let batches: Vec<_> = changes.batches.clone().collect();
        let fault = fault
            .filter(|_| !batches.is_empty())
            .map(|index| index.index(batches.len()));
        let mut number = 0;
        while let Some(batch) = changes.batches.next() {
            if fault == Some(number) {
                services.interrupted(batch, changes.batches);
                return Ok(());
            }
            number += 1;
            let before = self.table.clone();
            self.table
                .apply(&batch)
                .map_err(|error| TestCaseError::fail(format!("{error}: {batch:?}")))?;
            nothing_dangles(&before, &self.table)?;
        }
        services.committed();
        if let Some(frame) = &changes.after {
            self.frame(services, frame.clone());
        }
        Ok(())
    }

    /// The generic part: chains, declarations and small sets, without a look at bulk elements.
    fn frame(&mut self, services: &Services, frame: weft_core::services::Frame) {
        let view = NodeView {
            node: services.config().node.clone(),
            services: Some(frame),
            ..NodeView::default()
        };
        let (plan, _) = compile::all(&view);
        let mut want = plan.table;
        for (name, set) in &mut want.sets {
            if Bulk::of(name).is_some()
                && let Some(have) = self.table.sets.get(name)
            {
                set.elements = have.elements.clone();
            }
        }
        for batch in weft_nft::diff(&self.table, &want) {
            self.table.apply(&batch).unwrap();
        }
    }
}

/// Whatever a packet finds in one state leads to something in that state and in the next.
fn nothing_dangles(before: &Table, after: &Table) -> Result<(), TestCaseError> {
    for family in Family::ALL {
        for (count, number) in [
            (Bulk::Count, Bulk::Number),
            (Bulk::OuterCount, Bulk::Number),
            (Bulk::InnerCount, Bulk::InnerNumber),
        ] {
            let of = |table: &Table, bulk: Bulk| -> BTreeMap<Key, Element> {
                table.sets[bulk.name(family)].elements.clone()
            };
            for (tuple, code) in of(before, count) {
                let code = carried(&code);
                let gate = [(true, false), (false, true), (true, true)]
                    .map(|(ranges, inside)| Code::Gate { ranges, inside }.value());
                let end = [Code::Refuse, Code::Drop].map(Code::value);
                // Behind a gate only what a gate leads to is found.
                let first = of(before, Bulk::Count).get(&tuple).map(carried);
                let leads = match count {
                    Bulk::Count => true,
                    Bulk::OuterCount => first.is_some_and(|first| gate.contains(&first)),
                    _ => first.is_some_and(|first| gate[1..].contains(&first)),
                };
                if !leads {
                    continue;
                }
                let choose = &before.sets[if family == Family::V4 {
                    "choose4"
                } else {
                    "choose6"
                }];
                let known = choose
                    .elements
                    .contains_key(&Key::of([Value::ClassId(code)]));
                if gate.contains(&code) {
                    prop_assert!(
                        of(before, Bulk::OuterCount).contains_key(&tuple),
                        "{tuple:?}"
                    );
                    continue;
                }
                prop_assert!(known, "nothing chooses for {tuple:?}: {code:x}");
                if end.contains(&code) {
                    continue;
                }
                prop_assert!(
                    of(after, number).contains_key(&tuple)
                        || !of(after, count).contains_key(&tuple)
                );
                let group = carried(&of(before, number)[&tuple]);
                for slot in 0..count_of(code) {
                    let key = Key::of([Value::ClassId(group), Value::Mark(slot)]);
                    let direct = of(after, Bulk::Endpoints).contains_key(&key);
                    let by_number = of(after, Bulk::Slots).get(&key).map(carried);
                    let reached = by_number.is_some_and(|number| {
                        of(after, Bulk::Addresses).contains_key(&Key::of([Value::ClassId(number)]))
                    });
                    prop_assert!(direct || reached, "{tuple:?} slot {slot} leads nowhere");
                }
            }
        }
    }
    Ok(())
}

/// How many endpoints a code chooses among: its lowest bits, in tests of small groups.
fn count_of(code: u32) -> u32 {
    code & 0xff
}

fn carried(element: &Element) -> u32 {
    match &element.data {
        Some(Data::Values(values)) => match values.as_slice() {
            [Value::ClassId(value)] => *value,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A table with groups' and endpoints' numbers replaced by what they stand for: they tell history.
fn resolved(table: &Table) -> (Table, BTreeMap<String, Vec<Element>>, usize) {
    let mut table = table.clone();
    let mut groups = BTreeMap::new();
    let mut slots_in_use = 0;
    for family in Family::ALL {
        let mut take = |bulk: Bulk| table.sets.remove(bulk.name(family)).unwrap().elements;
        let (slots, addresses) = (take(Bulk::Slots), take(Bulk::Addresses));
        let endpoints = take(Bulk::Endpoints);
        assert_eq!(slots.len(), addresses.len());
        slots_in_use += slots.len() + endpoints.len();
        for bulk in [Bulk::Number, Bulk::InnerNumber] {
            for (tuple, number) in take(bulk) {
                let key = |slot| Key::of([Value::ClassId(carried(&number)), Value::Mark(slot)]);
                let endpoint = |slot| match slots.get(&key(slot)) {
                    None => endpoints.get(&key(slot)),
                    Some(number) => addresses.get(&Key::of([Value::ClassId(carried(number))])),
                };
                let all: Vec<Element> = (0..).map_while(endpoint).cloned().collect();
                groups.insert(format!("{bulk:?} {tuple}"), all);
            }
        }
    }
    (table, groups, slots_in_use)
}

#[test]
fn an_endpoint_costs_as_many_messages_among_many_services_as_among_few() {
    let messages = |services: u32| {
        let (mut state, _) = started();
        for index in 0..services {
            let (name, object) = plain_service(index);
            state.set_service(&name, Some(object));
            let (name, object) = plain_slice(index, 2);
            state.set_slice(&name, Some(object));
        }
        state.compile();
        state.committed();
        let (name, object) = plain_slice(7, 3);
        state.set_slice(&name, Some(object));
        let changes = state.compile().batches.flat_map(|batch| batch.changes);
        let elements = changes.map(|change| match change {
            weft_nft::Change::AddElements { elements, .. } => elements.len(),
            weft_nft::Change::DeleteElements { keys, .. } => keys.len(),
            other => panic!("{other:?}"),
        });
        elements.collect::<Vec<_>>()
    };
    let few = messages(10);
    assert_eq!(few, messages(2_000));
    // The count goes and comes; one slot and one pair are new.
    assert_eq!(few, [1, 1, 1, 1]);
}

#[test]
fn too_many_endpoints_are_refused_with_the_limit_named_and_the_last_good_state_stays() {
    let (mut state, _) = started();
    for index in 0..2 {
        let (name, object) = plain_service(index);
        state.set_service(&name, Some(object));
        let (name, object) = plain_slice(index, 2);
        state.set_slice(&name, Some(object));
    }
    state.compile();
    state.committed();
    let before = table(&state);

    let (name, object) = plain_slice(0, 500_000);
    state.set_slice(&name, Some(object));
    assert!(state.compile().batches.is_empty());
    state.committed();
    assert_eq!(table(&state), before);
    let found: Vec<String> = state
        .findings()
        .map(|finding| finding.to_string())
        .collect();
    assert!(found.len() == 1 && found[0].contains("393216"), "{found:?}");

    // Others are not concerned, and the Service comes back when it fits.
    let (name, object) = plain_slice(1, 3);
    state.set_slice(&name, Some(object));
    assert!(!state.compile().batches.is_empty());
    state.committed();
    let (name, object) = plain_slice(0, 5);
    state.set_slice(&name, Some(object));
    assert!(!state.compile().batches.is_empty());
    assert_eq!(state.findings().count(), 0);
}

fn plain_service(index: u32) -> (ServiceName, ServiceObject) {
    let object = ServiceObject {
        created: 0,
        cluster_ips: [IpAddr::from(Ipv4Addr::from(0xac1e_0000 + index))].into(),
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        source_ranges: [].into(),
        ports: [ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }]
        .into(),
        internal_local: false,
        external_local: false,
        affinity: None,
        health_check_node_port: None,
    };
    (ServiceName::new("many", &format!("s{index}")), object)
}

fn plain_slice(index: u32, endpoints: u32) -> (SliceName, SliceObject) {
    let endpoint = |number: u32| SliceEndpoint {
        address: Ipv4Addr::from(0x0a00_0000 + (index << 20) + number).into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        for_zones: [].into(),
        for_nodes: [].into(),
    };
    let object = SliceObject {
        service: plain_service(index).0,
        family: Family::V4,
        ports: [SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }]
        .into(),
        endpoints: (0..endpoints).map(endpoint).collect(),
    };
    (SliceName::new("many", &format!("s{index}-1")), object)
}

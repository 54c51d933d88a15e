//! The allocation protocol, model-checked: two operators that both believe to lead and run the very
//! `plan_blocks` of the product on caches of any age, an API server, and two machines whose agents
//! assign from caches of any age, crash, lose power, vanish and come back.
//!
//! Four addresses, networks of /30 to /32, two overlapping pools with different block sizes.
//! A partition is that somebody takes no step; a slow request is a decision from an old cache.

mod cluster;
mod protections;
mod steps;

use std::collections::HashMap;
use std::sync::Mutex;

use stateright::{Checker, Model, Property};

use cluster::{Api, MACHINES, Plan, State};
use protections::{Protection, Protections};
use steps::Step;

/// Every state within the bounds is visited; there are somewhat more than this.
const STATES: usize = 1_000_000;

/// The protocol with some of its protections.
struct Protocol {
    protections: Protections,
    /// How many blocks are ever created.
    blocks: u8,
    /// What the product's code decides, by operator and cache: the same caches come up often.
    plans: Mutex<HashMap<(usize, Api), Plan>>,
}

impl Protocol {
    fn new(protections: Protections, blocks: u8) -> Self {
        Self {
            protections,
            blocks,
            plans: Mutex::default(),
        }
    }

    fn plan(&self, operator: usize, cache: Api) -> Plan {
        let mut plans = self.plans.lock().unwrap();
        plans.entry((operator, cache)).or_insert_with(|| cluster::plan(operator, cache)).clone()
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        steps::possible(self, state, actions);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        steps::take(self, &mut next, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no address has two owners", |_, state: &State| {
                let [one, other] = state.machines;
                one.assigned & other.assigned == 0
            }),
            Property::always("released blocks come back in the end", |model: &Self, state| {
                steps::comes_to_rest(model, state)
            }),
            Property::sometimes("both machines have addresses", |_, state: &State| {
                state.machines.iter().all(|machine| machine.assigned != 0)
            }),
            Property::sometimes("blocks overlap", |_, state: &State| !state.api.younger().is_empty()),
            Property::sometimes("a network is granted to another machine", |_, state: &State| {
                state.api.deleted_before_others()
            }),
        ]
    }
}

#[test]
fn no_address_is_ever_given_twice() {
    let checker = Protocol::new(Protections::all(), 3).checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
    println!("{states} states, depth {depth}");
    assert!(states >= STATES, "only {states} states: the model says too little");
}

#[test]
fn each_protection_is_needed() {
    for protection in Protection::ALL {
        let without = Protocol::new(Protections::without(protection), 3);
        let checker = without
            .checker()
            .threads(2)
            .finish_when(stateright::HasDiscoveries::AnyOf(
                ["no address has two owners"].into_iter().collect(),
            ))
            .spawn_bfs()
            .join();
        let found = checker.discovery("no address has two owners");
        let path = found.unwrap_or_else(|| panic!("without {protection:?} nothing goes wrong"));
        println!("without {protection:?}: {:?}", path.into_actions());
    }
}

#[test]
fn the_model_runs_the_code_of_the_product() {
    let fresh = Api::default();
    let first = cluster::plan(0, fresh);
    let second = cluster::plan(1, fresh);
    assert_eq!(first.create.len(), MACHINES, "one /31 for each machine");
    assert_eq!(second.create.len(), MACHINES, "one /32 for each machine");
    assert_ne!(first.create, second.create);
}

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

use stateright::{Checker, HasDiscoveries, Model, Property, UniformChooser};

use cluster::{Api, MACHINES, Plan, State};
use protections::{Protection, Protections};
use steps::Step;

/// What is explored breadth first, at least.
const STATES: usize = 1_000_000;
/// Breadth first, so many are generated, among them the same ones again.
const GENERATED: usize = 6_000_000;
/// In random walks, so many.
const WALKED: usize = 300_000;
/// How far a random walk goes.
const WALK: usize = 80;

const TWICE: &str = "no address has two owners";
const COMES_BACK: &str = "released blocks come back in the end";
const WITNESSES: [&str; 3] = [
    "both machines have addresses",
    "blocks overlap",
    "a network is granted to another machine",
];

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

    fn after(&self, state: &State, step: Step) -> State {
        let mut next = *state;
        steps::take(self, &mut next, step);
        next
    }

    fn plan(&self, operator: usize, cache: Api) -> Plan {
        let mut plans = self.plans.lock().unwrap();
        plans
            .entry((operator, cache))
            .or_insert_with(|| cluster::plan(operator, cache))
            .clone()
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::default();
        for step in self.protections.prelude() {
            let mut possible = Vec::new();
            steps::possible(self, &state, &mut possible);
            assert!(possible.contains(&step), "{step:?} is not possible");
            steps::take(self, &mut state, step);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        steps::possible(self, state, actions);
        // Random walks want only what changes something.
        actions.retain(|step| self.after(state, *step) != *state);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        Some(self.after(state, step))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWICE, |_, state: &State| {
                let [one, other] = state.machines;
                one.assigned & other.assigned == 0
            }),
            Property::always(COMES_BACK, |model: &Self, state| {
                steps::comes_to_rest(model, state)
            }),
            Property::sometimes(WITNESSES[0], |_, state: &State| {
                state.machines.iter().all(|machine| machine.assigned != 0)
            }),
            Property::sometimes(WITNESSES[1], |_, state: &State| {
                !state.api.younger().is_empty()
            }),
            Property::sometimes(WITNESSES[2], |_, state: &State| {
                state.api.deleted_before_others()
            }),
        ]
    }
}

#[test]
fn no_address_is_ever_given_twice() {
    let wide = Protocol::new(Protections::all(), 3)
        .checker()
        .threads(2)
        .target_state_count(GENERATED)
        .spawn_bfs()
        .join();
    let deep = Protocol::new(Protections::all(), 4)
        .checker()
        .target_state_count(WALKED)
        .target_max_depth(WALK)
        .spawn_simulation(1, UniformChooser)
        .join();
    let states = wide.unique_state_count();
    println!(
        "{states} states, at most {} steps; walks of at most {} steps",
        wide.max_depth(),
        deep.max_depth()
    );
    for property in [TWICE, COMES_BACK] {
        wide.assert_no_discovery(property);
        deep.assert_no_discovery(property);
    }
    for witness in WITNESSES {
        assert!(
            deep.discovery(witness).is_some(),
            "it never happens that {witness}"
        );
    }
    assert!(
        states >= STATES,
        "only {states} states: the model says too little"
    );
}

#[test]
fn each_protection_is_needed() {
    for protection in Protection::ALL {
        let checker = Protocol::new(Protections::without(protection), 3)
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyOf([TWICE].into_iter().collect()))
            .spawn_bfs()
            .join();
        let found = checker.discovery(TWICE);
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

#[test]
fn a_block_that_nobody_takes_back_is_noticed() {
    let model = Protocol::new(Protections::all(), 1);
    let mut state = State::default();
    state.api.created = 1;
    state.api.released = 1;
    state.api.blocks[0] = Some(protections::block(1, 0, 0));
    steps::take(&model, &mut state, Step::Drain(0));
    assert!(steps::comes_to_rest(&model, &state));
    for operator in 0..cluster::OPERATORS {
        model
            .plans
            .lock()
            .unwrap()
            .insert((operator, state.api), Plan::default());
    }
    assert!(!steps::comes_to_rest(&model, &state));
}

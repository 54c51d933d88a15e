//! What can happen next, and what it does.

use super::Protocol;
use super::cluster::{
    Api, BLOCKS, Block, Blocks, MACHINES, OPERATORS, State, addresses, present, younger,
};
use super::protections::Protection;

/// Something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// An operator's cache catches up.
    OperatorHears(u8),
    /// An operator asks for a block to be created.
    Create(Block),
    /// An operator asks for a block to be drained, having seen it Active.
    Drain(u8),
    /// An operator reads a Node afresh before it deletes a block that it has seen Draining.
    ReadNode(u8, u8),
    /// An operator asks for a block to be deleted.
    Delete(u8, u8),
    /// An agent's cache catches up.
    AgentHears(u8),
    /// An agent gives a pod an address of a block.
    Assign(u8, u8),
    /// The pod with an address ends.
    Unassign(u8, u8),
    /// An agent reports a block released.
    Release(u8, u8),
    /// An agent writes what it believes to its disk.
    Persist(u8),
    /// An agent crashes and starts from its disk.
    Crash(u8),
    /// A machine loses power.
    PowerOff(u8),
    /// A Node object is deleted.
    DeleteNode(u8),
    /// A machine boots, registers its Node if need be, and its agent starts.
    Boot(u8),
}

/// Everything that could happen next.
pub fn possible(model: &Protocol, state: &State, steps: &mut Vec<Step>) {
    for number in 0..OPERATORS {
        operator_steps(model, state, number, steps);
    }
    for number in 0..MACHINES {
        machine_steps(model, state, number, steps);
    }
    // Users change pools and selectors: any Active block may be drained.
    steps.extend(
        present(&state.api.blocks)
            .filter(|(_, block)| !block.draining)
            .map(|(uid, _)| Step::Drain(uid)),
    );
}

/// What a step does.
pub fn take(model: &Protocol, state: &mut State, step: Step) {
    match step {
        Step::OperatorHears(operator) => state.operators[usize::from(operator)].cache = state.api,
        Step::Create(block) => create(&mut state.api, block),
        Step::Drain(uid) => {
            if let Some(block) = &mut state.api.blocks[usize::from(uid)] {
                block.draining = true;
            }
        }
        Step::ReadNode(operator, uid) => {
            let machine = state.operators[usize::from(operator)].cache.blocks[usize::from(uid)]
                .map(|block| block.machine);
            if machine.is_some_and(|machine| state.api.gone & (1 << machine) != 0) {
                state.operators[usize::from(operator)].confirmed = uid + 1;
            }
        }
        Step::Delete(operator, uid) => delete(model, state, operator, uid),
        Step::AgentHears(machine) => state.machines[usize::from(machine)].cache = state.api.blocks,
        Step::Assign(machine, address) => {
            state.machines[usize::from(machine)].assigned |= 1 << address
        }
        Step::Unassign(machine, address) => {
            state.machines[usize::from(machine)].assigned &= !(1 << address)
        }
        Step::Release(machine, uid) => {
            state.api.released |= 1 << uid;
            if model.protections.hold(Protection::ReleasesOnDisk) {
                let machine = &mut state.machines[usize::from(machine)];
                machine.disk = machine.cache;
            }
        }
        Step::Persist(machine) => {
            let machine = &mut state.machines[usize::from(machine)];
            machine.disk = machine.cache;
        }
        Step::Crash(machine) => {
            let machine = &mut state.machines[usize::from(machine)];
            machine.cache = machine.disk;
        }
        Step::PowerOff(machine) => {
            let machine = &mut state.machines[usize::from(machine)];
            machine.off = true;
            machine.assigned = 0;
            machine.cache = [None; BLOCKS];
        }
        Step::DeleteNode(machine) => state.api.gone |= 1 << machine,
        Step::Boot(number) => {
            state.api.gone &= !(1 << number);
            let machine = &mut state.machines[usize::from(number)];
            machine.off = false;
            if model.protections.hold(Protection::FreshListAfterBoot) {
                machine.disk = state.api.blocks;
            }
            machine.cache = machine.disk;
        }
    }
}

/// Whether, once everybody hears everything, every pod of a Draining block ends and nobody fails,
/// all blocks that nobody needs are gone; but for those of a machine that is off and still has its Node.
pub fn comes_to_rest(model: &Protocol, state: &State) -> bool {
    let mut state = *state;
    loop {
        let before = state;
        for machine in 0..MACHINES {
            settle_machine(model, &mut state, machine);
        }
        for operator in 0..OPERATORS {
            settle_operator(model, &mut state, operator);
        }
        if state == before {
            break;
        }
    }
    present(&state.api.blocks)
        .filter(|(_, block)| block.draining)
        .all(|(_, block)| {
            let machine = usize::from(block.machine);
            state.machines[machine].off && state.api.gone & (1 << machine) == 0
        })
}

fn operator_steps(model: &Protocol, state: &State, number: usize, steps: &mut Vec<Step>) {
    let operator = state.operators[number];
    let n = number as u8;
    if operator.cache != state.api {
        steps.push(Step::OperatorHears(n));
    }
    let plan = model.plan(number, operator.cache);
    if state.api.created < model.blocks {
        steps.extend(plan.create.into_iter().map(Step::Create));
    }
    steps.extend(plan.drain.into_iter().map(Step::Drain));
    let fresh_read = model.protections.hold(Protection::FreshNodeRead);
    for (uid, node_gone) in plan.delete {
        if node_gone && fresh_read && operator.confirmed != uid + 1 {
            steps.push(Step::ReadNode(n, uid));
        } else {
            steps.push(Step::Delete(n, uid));
        }
    }
    if !fresh_read {
        // Without the rule a block goes as soon as its Node is missed, Draining or not.
        let gone = present(&operator.cache.blocks)
            .filter(|(_, block)| operator.cache.gone & (1 << block.machine) != 0);
        steps.extend(gone.map(|(uid, _)| Step::Delete(n, uid)));
    }
}

fn machine_steps(model: &Protocol, state: &State, number: usize, steps: &mut Vec<Step>) {
    let machine = state.machines[number];
    let n = number as u8;
    let gone = state.api.gone & (1 << number) != 0;
    if machine.off {
        steps.push(Step::Boot(n));
        if !gone {
            steps.push(Step::DeleteNode(n));
        }
        return;
    }
    steps.push(Step::PowerOff(n));
    if !gone && !model.protections.hold(Protection::DeletedNodesAreOff) {
        steps.push(Step::DeleteNode(n));
    }
    if machine.cache != state.api.blocks {
        steps.push(Step::AgentHears(n));
    }
    if machine.cache != machine.disk {
        steps.push(Step::Persist(n));
        steps.push(Step::Crash(n));
    }
    // One pod per machine: a second would add states and no way to go wrong.
    if machine.assigned == 0 {
        let usable = usable(model, &machine.cache, n);
        steps.extend(usable.into_iter().map(|address| Step::Assign(n, address)));
    }
    for address in (0..4).filter(|address| machine.assigned & (1 << address) != 0) {
        steps.push(Step::Unassign(n, address));
    }
    let empty = releasable(&machine.cache, n, machine.assigned);
    steps.extend(
        empty
            .filter(|uid| state.api.released & (1 << uid) == 0)
            .map(|uid| Step::Release(n, uid)),
    );
}

/// Addresses of blocks that an agent may use.
fn usable(model: &Protocol, cache: &Blocks, machine: u8) -> Vec<u8> {
    let mine = |block: &Block| block.machine == machine && !block.draining;
    if !present(cache).any(|(_, block)| mine(&block)) {
        return Vec::new();
    }
    let refused = if model.protections.hold(Protection::OlderOverlaps) {
        younger(cache, model.protections.hold(Protection::AgeByVersion))
    } else {
        Default::default()
    };
    let bits = present(cache)
        .filter(|(uid, block)| mine(block) && !refused.contains(uid))
        .fold(0, |bits, (_, block)| bits | addresses(block.network));
    (0..4)
        .filter(|address| bits & (1 << address) != 0)
        .collect()
}

/// Blocks of a machine that are Draining and from which no pod has an address.
fn releasable(cache: &Blocks, machine: u8, assigned: u8) -> impl Iterator<Item = u8> {
    present(cache)
        .filter(move |(_, block)| block.machine == machine && block.draining)
        .filter(move |(_, block)| addresses(block.network) & assigned == 0)
        .map(|(uid, _)| uid)
}

/// The API server knows a name only once.
fn create(api: &mut Api, block: Block) {
    let taken = present(&api.blocks).any(|(_, other)| other.network == block.network);
    if !taken {
        api.blocks[usize::from(api.created)] = Some(block);
        api.created += 1;
    }
}

fn delete(model: &Protocol, state: &mut State, operator: u8, uid: u8) {
    let operator = &mut state.operators[usize::from(operator)];
    let seen = operator.cache.blocks[usize::from(uid)];
    operator.confirmed = 0;
    if model.protections.hold(Protection::Preconditions) {
        if state.api.blocks[usize::from(uid)] == seen {
            state.api.blocks[usize::from(uid)] = None;
        }
        return;
    }
    // By name alone: whatever has this network now.
    for block in &mut state.api.blocks {
        if block.map(|block| block.network) == seen.map(|seen| seen.network) {
            *block = None;
        }
    }
}

fn settle_machine(model: &Protocol, state: &mut State, number: usize) {
    if state.machines[number].off {
        return;
    }
    let n = number as u8;
    take(model, state, Step::AgentHears(n));
    for (_, block) in
        present(&state.api.blocks).filter(|(_, block)| block.machine == n && block.draining)
    {
        state.machines[number].assigned &= !addresses(block.network);
    }
    let machine = state.machines[number];
    for uid in releasable(&machine.cache, n, machine.assigned).collect::<Vec<_>>() {
        take(model, state, Step::Release(n, uid));
    }
}

fn settle_operator(model: &Protocol, state: &mut State, number: usize) {
    let n = number as u8;
    take(model, state, Step::OperatorHears(n));
    let plan = model.plan(number, state.operators[number].cache);
    for uid in plan.drain {
        take(model, state, Step::Drain(uid));
    }
    for (uid, node_gone) in plan.delete {
        if node_gone {
            take(model, state, Step::ReadNode(n, uid));
        }
        if !node_gone || state.operators[number].confirmed == uid + 1 {
            take(model, state, Step::Delete(n, uid));
        }
    }
}

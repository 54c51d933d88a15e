//! What keeps an address from being given twice. The model runs with all of them, and once without
//! each: then it must find how two machines get one address.

use super::cluster::Block;
use super::steps::Step;

/// One rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// An agent uses a block only if no older one overlaps it.
    OlderOverlaps,
    /// Within one second the resource version tells which block is older, not its name.
    AgeByVersion,
    /// An agent writes to disk that it has given a block up before it reports so.
    ReleasesOnDisk,
    /// After a boot an agent assigns from a fresh list alone, never from its disk's.
    FreshListAfterBoot,
    /// Deletion is bound to the block's UID and version.
    Preconditions,
    /// A vanished node's block is Draining, and the Node read afresh, before it is deleted.
    FreshNodeRead,
    /// A Node that is deleted belongs to a machine that is off.
    DeletedNodesAreOff,
}

impl Protection {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::OlderOverlaps,
        Self::AgeByVersion,
        Self::ReleasesOnDisk,
        Self::FreshListAfterBoot,
        Self::Preconditions,
        Self::FreshNodeRead,
        Self::DeletedNodesAreOff,
    ];
}

/// All protections but at most one.
#[derive(Clone, Copy, Debug)]
pub struct Protections {
    missing: Option<Protection>,
}

impl Protections {
    /// The protocol as it is.
    pub fn all() -> Self {
        Self { missing: None }
    }

    /// The protocol with a hole.
    pub fn without(protection: Protection) -> Self {
        Self {
            missing: Some(protection),
        }
    }

    /// Whether one is in force.
    pub fn hold(self, protection: Protection) -> bool {
        self.missing != Some(protection)
    }

    /// What has happened before the exploration: without a protection, enough for the rest of the
    /// story to be short. Everything in it is possible with the protection too.
    pub fn prelude(self) -> Vec<Step> {
        let half = |machine| Step::Create(block(1, machine, 0));
        let single = |machine| Step::Create(block(3, machine, 1));
        match self.missing {
            None | Some(Protection::OlderOverlaps | Protection::AgeByVersion) => Vec::new(),
            Some(Protection::ReleasesOnDisk) => vec![
                half(0),
                Step::AgentHears(0),
                Step::Persist(0),
                Step::Drain(0),
                Step::AgentHears(0),
                Step::Release(0, 0),
                Step::OperatorHears(0),
                Step::Delete(0, 0),
            ],
            Some(Protection::FreshListAfterBoot) => vec![
                half(0),
                Step::AgentHears(0),
                Step::Persist(0),
                Step::PowerOff(0),
                Step::DeleteNode(0),
                Step::OperatorHears(0),
                Step::Drain(0),
                Step::OperatorHears(0),
                Step::ReadNode(0, 0),
                Step::Delete(0, 0),
            ],
            Some(Protection::Preconditions) => vec![
                single(0),
                Step::PowerOff(0),
                Step::DeleteNode(0),
                Step::Drain(0),
                Step::OperatorHears(0),
                Step::OperatorHears(1),
                Step::ReadNode(0, 0),
                Step::ReadNode(1, 0),
                Step::Delete(1, 0),
                Step::OperatorHears(1),
                single(1),
                Step::AgentHears(1),
                Step::Assign(1, 0),
                Step::Boot(0),
            ],
            Some(Protection::FreshNodeRead) => vec![
                half(0),
                Step::PowerOff(0),
                Step::DeleteNode(0),
                Step::OperatorHears(0),
                Step::Boot(0),
                Step::Assign(0, 1),
            ],
            Some(Protection::DeletedNodesAreOff) => vec![
                half(0),
                Step::AgentHears(0),
                Step::Assign(0, 1),
                Step::DeleteNode(0),
                Step::OperatorHears(0),
                Step::Drain(0),
                Step::OperatorHears(0),
                Step::ReadNode(0, 0),
            ],
        }
    }
}

/// An Active block.
pub fn block(network: u8, machine: u8, pool: u8) -> Block {
    Block {
        network,
        machine,
        pool,
        draining: false,
    }
}

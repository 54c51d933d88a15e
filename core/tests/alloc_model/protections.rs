//! What keeps an address from being given twice. The model runs with all of them, and once without
//! each: then it must find how two machines get one address.

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
}

//! Names of conditions and reasons, so that operator, agents and tests spell them alike.
//!
//! Conditions follow the Kubernetes API conventions: one per type, with `status`, `reason`,
//! `message`, `observedGeneration`. The message names cause, object and next step and ends with a
//! stable code in brackets, such as `[WEFT-1203]`, which has a page in `docs/codes/`.

/// The `type` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Everything that this object asks for is in force.
    Ready,
    /// The spec was understood and is used.
    Accepted,
    /// A pool has addresses to give.
    Allocatable,
    /// A pool has no address left. Present only while true.
    Exhausted,
    /// Every node has what an overlay needs.
    Programmed,
    /// An overlay's MTU is less than the device's because of its encapsulation. Present only while true.
    MTUReduced,
    /// A Service of type LoadBalancer has the addresses that it should.
    AddressAllocated,
    /// The object waits for its users to go before it can be deleted. Present only while true.
    Terminating,
    /// Work is under way; kept for Flux and Argo CD. Present only while true.
    Reconciling,
    /// Work cannot go on without a change by a person; kept for Flux and Argo CD. Present only while true.
    Stalled,
}

impl ConditionType {
    /// The spelling in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Accepted => "Accepted",
            Self::Allocatable => "Allocatable",
            Self::Exhausted => "Exhausted",
            Self::Programmed => "Programmed",
            Self::MTUReduced => "MTUReduced",
            Self::AddressAllocated => "weftnet.dev/AddressAllocated",
            Self::Terminating => "Terminating",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// The `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody has found out yet.
    Unknown,
}

impl ConditionStatus {
    /// The spelling in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The `reason` of a condition: one CamelCase word for programs to compare.
pub mod reason {
    /// Nothing is wrong.
    pub const OK: &str = "OK";
    /// A CIDR overlaps nodes' addresses, Services, another pool or an underlay.
    pub const CIDR_OVERLAP: &str = "CIDROverlap";
    /// A CIDR or block size that cannot be used.
    pub const INVALID_CIDR: &str = "InvalidCIDR";
    /// The pool names an overlay that does not exist.
    pub const OVERLAY_NOT_FOUND: &str = "OverlayNotFound";
    /// The pool's overlay is there but was not accepted.
    pub const OVERLAY_NOT_ACCEPTED: &str = "OverlayNotAccepted";
    /// Two overlays ask for the same VNI or port in ways that cannot both hold.
    pub const VNI_CONFLICT: &str = "VNIConflict";
    /// No address or block is left.
    pub const NO_FREE_BLOCKS: &str = "NoFreeBlocks";
    /// Nodes have not reported yet, or not all that are wanted.
    pub const NODES_NOT_READY: &str = "NodesNotReady";
    /// A node has no address of the family that its overlay needs.
    pub const NO_UNDERLAY_ADDRESS: &str = "NoUnderlayAddress";
    /// The object is being deleted and something still uses it.
    pub const IN_USE: &str = "InUse";
    /// No pool for load balancers has addresses of a family.
    pub const NO_POOL: &str = "NoPool";
    /// Every pool for load balancers is full.
    pub const POOL_EXHAUSTED: &str = "PoolExhausted";
    /// A Service asks for an address that cannot be given.
    pub const ADDRESS_REFUSED: &str = "AddressRefused";
    /// A Service asks for an address that another one has.
    pub const ADDRESS_IN_USE: &str = "AddressInUse";
    /// Encapsulation takes some of the device's MTU.
    pub const ENCAPSULATION: &str = "Encapsulation";
    /// A zone's name, records or rules that cannot be used.
    pub const INVALID_ZONE: &str = "InvalidZone";
    /// A zone file that is not there, or has no label that says so.
    pub const SOURCE_NOT_FOUND: &str = "SourceNotFound";
    /// Another zone of the same name answers the same clients.
    pub const SHADOWED: &str = "Shadowed";
    /// A zone asks the cluster's own DNS for its names.
    pub const LOOP: &str = "Loop";
}

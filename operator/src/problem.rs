//! Users' mistakes as values: a reason for programs, a sentence for people, a code with a page.

use std::fmt;

/// Why something was not accepted or is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One CamelCase word.
    pub reason: &'static str,
    /// Number of the page in `docs/codes/`.
    pub code: Code,
    /// Field, value, the other party, and what to do.
    pub sentence: String,
}

/// A stable code: each has a page in `docs/codes/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(&'static str);

impl Code {
    /// A network that cannot be used.
    pub const INVALID_CIDR: Self = Self("WEFT-1201");
    /// A block size that cannot be used.
    pub const INVALID_BLOCK_SIZE: Self = Self("WEFT-1202");
    /// A network that somebody else has.
    pub const CIDR_OVERLAP: Self = Self("WEFT-1203");
    /// The overlay of a pool is not there.
    pub const OVERLAY_NOT_FOUND: Self = Self("WEFT-1204");
    /// The overlay of a pool was not accepted.
    pub const OVERLAY_NOT_ACCEPTED: Self = Self("WEFT-1205");
    /// A pool has no block left.
    pub const NO_FREE_BLOCKS: Self = Self("WEFT-1206");
    /// Something deleted is still in use.
    pub const IN_USE: Self = Self("WEFT-1207");
    /// A block overlaps an older one.
    pub const BLOCK_OVERLAP: Self = Self("WEFT-1208");
    /// A selector or another field that cannot be read.
    pub const INVALID_FIELD: Self = Self("WEFT-1209");
    /// No pool for load balancers has addresses of a Service's family.
    pub const NO_BALANCER_POOL: Self = Self("WEFT-1261");
    /// Every pool for load balancers is full.
    pub const BALANCER_POOL_EXHAUSTED: Self = Self("WEFT-1262");
    /// A Service asks for an address that cannot be given.
    pub const BALANCER_REQUEST: Self = Self("WEFT-1263");
    /// A Service asks for an address that another one has.
    pub const BALANCER_ADDRESS_IN_USE: Self = Self("WEFT-1264");
    /// A zone with a name, a record or a rule that cannot be used.
    pub const INVALID_ZONE: Self = Self("WEFT-1281");
    /// A zone file that is not there.
    pub const ZONE_SOURCE: Self = Self("WEFT-1282");
    /// Another zone answers in place of this one.
    pub const ZONE_SHADOWED: Self = Self("WEFT-1283");
    /// A zone asks the cluster's own DNS.
    pub const ZONE_LOOP: Self = Self("WEFT-1284");
    /// Two overlays with the same VNI and port.
    pub const VNI_CONFLICT: Self = Self("WEFT-1221");
    /// Nodes do not have an overlay in force.
    pub const NODES_NOT_READY: Self = Self("WEFT-1222");
    /// Nodes have no address of the family that an overlay needs.
    pub const NO_UNDERLAY_ADDRESS: Self = Self("WEFT-1223");
    /// Encapsulation takes some of the MTU.
    pub const ENCAPSULATION: Self = Self("WEFT-1224");
    /// No word from a node's agent.
    pub const AGENT_GONE: Self = Self("WEFT-1241");
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(reason: &'static str, code: Code, sentence: String) -> Self {
        Self {
            reason,
            code,
            sentence,
        }
    }

    /// The sentence with its code, as conditions and Events carry it.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{} [{}]", self.sentence, self.code)
    }
}

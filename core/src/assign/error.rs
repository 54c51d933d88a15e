//! Why an attachment gets no address, and what to do about it.

use std::net::IpAddr;

use crate::view::{AttachmentKey, Family};

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// No pool is for this node.
    #[error(
        "no IPPool gives addresses to pods of this node: apply an IPPool whose nodeSelector selects it, or look at `kubectl get ipp` for one that is not Ready"
    )]
    NoPool,
    /// The node has no block yet.
    #[error("this node holds no {family} block of IPPool {} yet; the operator has been asked for one: if this lasts, look at the conditions of that IPPool", pools.join(", "))]
    NoBlock {
        /// The family.
        family: Family,
        /// The pools that could have one.
        pools: Vec<String>,
    },
    /// Every address is in use or resting.
    #[error("IPPool {} has no free {family} address on this node ({leased} in use, {resting} resting); the operator has been asked for a block: if this lasts, add a network to the pool", pools.join(", "))]
    Exhausted {
        /// The family.
        family: Family,
        /// The pools that could have had one.
        pools: Vec<String>,
        /// Addresses in use.
        leased: usize,
        /// Addresses resting.
        resting: usize,
    },
}

impl AssignError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPool => "WEFT-1501",
            Self::NoBlock { .. } => "WEFT-1502",
            Self::Exhausted { .. } => "WEFT-1503",
        }
    }

    /// One CamelCase word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPool => "NoPool",
            Self::NoBlock { .. } => "NoBlock",
            Self::Exhausted { .. } => "PoolExhausted",
        }
    }

    /// The pools concerned.
    #[must_use]
    pub fn pools(&self) -> &[String] {
        match self {
            Self::NoPool => &[],
            Self::NoBlock { pools, .. } | Self::Exhausted { pools, .. } => pools,
        }
    }
}

/// An entry of the record that contradicts an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record gives {address} to {}/{} and {}", key.container_id, key.ifname, match other { Some(other) => format!("to {}/{} too", other.container_id, other.ifname), None => "says that it rests".to_owned() })]
pub struct RestoreError {
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub key: AttachmentKey,
    /// Whose it is as well; none: it rests.
    pub other: Option<AttachmentKey>,
}

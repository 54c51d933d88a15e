//! Places at which a test may have the engine stop dead.
//!
//! The agent may die at any line; these are the lines between which the kernel or the record differs.

use std::fmt;
use std::sync::Arc;

/// A line at which the engine may stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultPoint {
    /// Addresses have been chosen; nothing is on disk.
    Chosen,
    /// The record has them; the kernel knows nothing.
    Recorded,
    /// The veth pair is there, and what is inside the pod.
    Wired,
    /// Routes, neighbours and the nft table are as planned; the answer has not been sent.
    Committed,
    /// A release is on disk; the kernel still has the pod.
    Released,
    /// The kernel has forgotten the pod; the answer has not been sent.
    Unwired,
    /// The chains that Services need are there; their elements are not.
    Framed,
    /// One transaction of elements of Services is committed; others may follow.
    Batched,
    /// All elements of Services are there, and chains that nothing needs any more.
    Balanced,
    /// New pods are isolated; nothing leads to them.
    Isolated,
    /// Elements of policies are there.
    Enforced,
}

impl FaultPoint {
    /// All, in the order in which ADD, DEL and an update of Services pass them; then those of policies.
    pub const ALL: [Self; 11] = [
        Self::Chosen,
        Self::Recorded,
        Self::Wired,
        Self::Committed,
        Self::Released,
        Self::Unwired,
        Self::Framed,
        Self::Batched,
        Self::Balanced,
        Self::Isolated,
        Self::Enforced,
    ];
}

/// Who is asked.
#[derive(Clone)]
pub struct Faults(Option<Arc<dyn Fn(FaultPoint) -> bool + Send + Sync>>);

/// The engine stops here, as if killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped at fault point {0:?}")]
pub(super) struct Killed(pub(super) FaultPoint);

impl Faults {
    /// The engine goes on everywhere.
    pub fn none() -> Self {
        Self(None)
    }

    /// The engine stops where the function says so.
    pub fn at(stop: impl Fn(FaultPoint) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(stop)))
    }

    pub(super) fn pass(&self, point: FaultPoint) -> Result<(), Killed> {
        match &self.0 {
            Some(stop) if stop(point) => Err(Killed(point)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Faults(injected)"
        } else {
            "Faults(none)"
        })
    }
}

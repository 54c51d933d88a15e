//! Network policies: from NetworkPolicy and ClusterNetworkPolicy objects to elements of a few maps.
//!
//! A peer's address leads to an *identity* (what policies can ask about it), the identity to a *class*
//! (identities that no policy in force on this node tells apart), and link, class, protocol and port
//! of a local pod to a verdict. Which rule wins is settled here, never by the order of look-ups.
//! Elements are rendered in units (an address, an identity, a local pod) and never kept in the plan;
//! an update is the difference of the units that it touched. The chains are ordinary facts
//! (`compile::policy`).

mod batches;
mod build;
mod bulk;
mod code;
pub mod conformance;
mod networks;
pub mod object;
mod peers;
mod ports;
mod program;
mod selector;
mod state;

pub use batches::Repair;
pub use bulk::{Bulk, Default, Direction, Elements, Form};
pub use code::{ANYBODY, STRANGERS};
pub use object::{
    Action, Network, Peer, PodPort, Pods, Policy, PolicyKind, PolicyName, PortMatch, Rule, Tier,
};
pub use ports::{Part, PortSet};
pub use selector::{Labels, Selector};
pub use state::{
    Changes, Concerned, Known, LocalPod, NodeObject, PodObject, Policies, protocol_number,
};

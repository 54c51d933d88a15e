//! Services: from Service and EndpointSlice objects to elements of a few large nftables maps.
//!
//! A cluster has tens of thousands of Services and a node follows all of them, so this part of the
//! plan is not kept as facts. Objects are held in a compact form ([`ServiceObject`],
//! [`SliceObject`]); each Service compiles to a small unit; an update renders the units that an
//! event touched, before and after, and the difference becomes [`Batches`]. The cost of an event
//! depends on the Service that it is about and on nothing else. The chains and the declarations of
//! the maps are ordinary facts ([`Frame`], `compile::services`).

mod adopt;
mod audit;
mod batches;
mod bulk;
mod changes;
mod choice;
mod claims;
mod code;
mod config;
mod numbers;
pub mod object;
mod slices;
mod state;
mod unit;

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::view::Family;

pub use audit::{Audit, Repair};
pub use batches::Batches;
pub use bulk::{Bulk, clients};
pub use changes::{Changes, Endpoints, Health, NoLocalEndpoints, StaleFlows};
pub use code::{Code, Pick};
pub use config::{Config, NodePortAddresses};
pub use object::{ServiceName, ServiceObject, SliceName, SliceObject};
pub use state::{MAX_ELEMENTS, Services};

/// What the chains of services depend on: the small, slow part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Networks of pods; without one of a family, pods of it cannot be told from others.
    pub pod_networks: BTreeSet<IpNet>,
    /// Ranges of cluster IPs.
    pub service_networks: BTreeSet<IpNet>,
    /// Addresses of the node itself.
    pub own_addresses: BTreeSet<IpNet>,
    /// Whether everything to a cluster IP is masqueraded.
    pub masquerade_all: bool,
    /// The choices that are made, each by a chain of its own.
    pub picks: BTreeSet<(Family, Pick)>,
}

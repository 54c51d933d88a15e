//! Services: from Service and EndpointSlice objects to elements of a few large nftables maps.
//!
//! A cluster has tens of thousands of Services and a node follows all of them, so this part of the
//! plan is not kept as facts. Objects are held in a compact form ([`ServiceObject`],
//! [`SliceObject`]); each Service compiles to a small unit; an update renders the units that an
//! event touched, before and after, and the difference becomes [`Batches`]. The cost of an event
//! depends on the Service that it is about and on nothing else. The chains and the declarations of
//! the maps are ordinary facts ([`Frame`], `compile::services`).

mod choice;
mod config;
pub mod object;
mod state;

pub use config::{Config, NodePortAddresses};
pub use object::{ServiceName, ServiceObject, SliceName, SliceObject};
pub use state::{Batches, Changes, Health, Services, StaleFlows};

/// What the chains of services depend on: the small, slow part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {}

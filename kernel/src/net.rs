//! Links, addresses, neighbours, forwarding entries and routes of ours: read back into a
//! [`NetState`](weft_core::plan::NetState), and changed.
//!
//! Ours are links by their names, routes by protocol number 82, and addresses, neighbours and
//! forwarding entries by the link that they are on. Everything else is neither listed nor touched.
//! Each file below makes one kind of object and recognises it.

pub(crate) mod address;
mod apply;
pub(crate) mod link;
pub(crate) mod neighbour;
mod observe;
pub(crate) mod route;
mod step;

pub use apply::apply;
pub use link::{Ipv4Setting, exists, indices};
pub use observe::observe;
pub use step::{Error, Failure};
pub(crate) use step::{Step, execute};

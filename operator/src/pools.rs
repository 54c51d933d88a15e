//! Pools: which are accepted, and what their status says of addresses in use.

pub mod status;
pub mod usage;
pub mod validate;

//! The CNI plugin as a library: what a runtime says (environment and standard input) becomes one
//! request to the node's agent, and the agent's answer becomes a CNI result or error.
//!
//! The plugin holds no credential and no state. All that it does itself happens inside the pod's
//! network namespace ([`namespace`]) and in the spool folder ([`spool`]), which the agent reads too.

pub mod client;
pub mod config;
pub mod environment;
pub mod error;
pub mod namespace;
pub mod plugin;
pub mod result;
pub mod spool;
pub mod version;
pub mod wire;

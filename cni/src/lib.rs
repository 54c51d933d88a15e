//! The CNI plugin as a library: the types of CNI's JSON, and the wire format between plugin and agent.
//!
//! The plugin itself (`main.rs`) reads a request, hands it to the agent over a unix socket and
//! prints the answer. It holds no credential and no state.

pub mod wire;

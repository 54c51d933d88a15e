//! The DNS server: answering, transports, forwarding.
//!
//! [`fast`] answers what is ours at a few microseconds a question; [`slow`] answers everything else and can
//! answer the same, so that each proves the other.

pub mod conformance;
pub mod fast;
pub mod message;
pub mod slow;
pub mod upstream;
pub mod wire;

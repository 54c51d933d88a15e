//! The DNS server: answering, transports, forwarding.
//!
//! [`fast`] answers what is ours at a few microseconds a question; [`slow`] answers everything else and can
//! answer the same, so that each proves the other.

pub mod agent;
pub mod cache;
pub mod conformance;
pub mod error;
pub mod fast;
pub mod follow;
pub mod forward;
pub mod forwards;
pub mod health;
pub mod message;
pub mod metrics;
pub mod query;
pub mod resolv_conf;
pub mod run;
pub mod server;
pub mod settings;
pub mod slow;
pub mod snapshot;
pub mod state;
pub mod upstream;
pub mod watch;
pub mod wire;

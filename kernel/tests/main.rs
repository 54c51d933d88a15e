//! What this crate does to a kernel, in network namespaces that vanish with the test.
//!
//! Every test needs root. None touches the namespace that it was started in.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a failed unwrap is a failed test"
)]

mod capability;
mod conntrack;
mod host;
mod monitor;
mod namespace;
mod net;
mod nft;
mod pod;
mod services;
mod socket;
mod sysctl;

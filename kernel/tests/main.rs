//! What this crate does to a kernel, in network namespaces that vanish with the test.
//!
//! Every test needs root. None touches the namespace that it was started in.

mod conntrack;
mod host;
mod monitor;
mod namespace;
mod net;
mod nft;
mod pod;
mod socket;
mod sysctl;

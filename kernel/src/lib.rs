//! The only crate that changes a host: links, routes and neighbours, nf_tables transactions,
//! connection tracking and sysctls; each read back and made what a plan says.
//!
//! Everything is synchronous: the kernel answers before a request returns, so there is nothing to
//! wait for. Nothing here decides: what should be is a value that comes from `weft-core`.

pub mod conntrack;
pub mod host;
pub mod monitor;
pub mod net;
pub mod netlink;
pub mod nft;
pub mod pod;
pub mod sysctl;

//! Tables as text, as differences, as netlink bytes and in a real kernel.
//!
//! The kernel's tests need root and `nft`; without them they fail and say so.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests: a panic is their failure"
)]

mod arbitrary;
mod changes;
mod encoding;
mod faults;
mod kernel;
mod namespace;
mod owner;
mod sample;
mod text;
mod trace;

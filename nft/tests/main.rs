//! Tables as text, as differences, as netlink bytes and in a real kernel.
//!
//! The kernel's tests need root and `nft`; without them they fail and say so.

mod arbitrary;
mod changes;
mod encoding;
mod faults;
mod kernel;
mod namespace;
mod owner;
mod sample;
mod text;

//! Domain types, and the pure functions between them: validation of raw objects, compilation of a
//! node's plan, differences of plans, allocation of blocks and addresses.
//!
//! Nothing here waits, reads a clock, logs or touches a file: time and randomness are arguments.

pub mod alloc;
pub mod assign;
pub mod compile;
pub mod diff;
pub mod finding;
pub mod names;
pub mod plan;
pub mod policy;
pub mod services;
pub mod view;
pub mod zones;

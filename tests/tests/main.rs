//! What crosses crates: house rules over the whole tree, and questions to a running cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod cluster;
mod house;

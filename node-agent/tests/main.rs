//! Integration tests of the agent, in one program.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod api;
mod engine;
mod supervisor;

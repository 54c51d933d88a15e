//! Tests of `kubectl weft`: the program against a real API server.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint takes for a program"
)]

#[path = "../../operator/tests/api_server.rs"]
#[expect(
    dead_code,
    reason = "shared with the operator's tests, which use more of it"
)]
mod api_server;
mod import;
mod policy;

//! Tests of the operator: golden files of the pure part, and a real API server for the rest.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint takes for a program"
)]

mod agents;
mod api_server;
mod controllers;
mod dns_zones;
mod golden;
mod two_leaders;
mod zones;

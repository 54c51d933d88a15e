//! Tests of the operator: golden files of the pure part, and a real API server for the rest.

mod agents;
mod api_server;
mod controllers;
mod golden;
mod two_leaders;

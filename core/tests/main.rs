//! Compilation as a whole: golden files, and properties over random clusters and sequences of changes.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint takes for a program"
)]

mod alloc_model;
mod cluster;
mod golden;
mod policy;
mod properties;
mod services;

//! Real clusters on one machine, scenarios, faults, benchmarks.

pub mod bench;
pub mod probe;
pub mod scenario;

//! The node agent as a library.
//!
//! `supervisor` is the first process; `run` is the worker: `engine` in its thread, and around it one
//! asynchronous loop that watches (`watch`), serves (`cni_server`, `health`) and writes (`status`).

pub mod administration;
pub mod api;
pub mod backoff;
pub mod cli;
pub mod cni_conf;
pub mod cni_server;
pub mod descriptors;
pub mod dns;
pub mod engine;
pub mod errors;
pub mod handover;
pub mod health;
pub mod http;
pub mod metrics;
pub mod record;
pub mod run;
pub mod services;
pub mod status;
pub mod supervisor;
pub mod telemetry;
pub mod watch;

//! Real clusters on one machine, scenarios, faults, benchmarks.
//!
//! A lab is made of [`place`]s: sets of Linux namespaces that play nodes, control plane, switch and
//! the outside world. [`cluster::Cluster`] is the handle of a running one.

pub mod address;
pub mod api;
pub mod asset;
pub mod bench;
pub mod cgroup;
pub mod cli;
pub mod cluster;
pub mod conformance;
pub mod control_plane;
pub mod doctor;
pub mod down;
pub mod forward;
pub mod host_state;
pub mod image;
pub mod install;
pub mod name;
pub mod network;
pub mod node;
pub mod paths;
pub mod place;
pub mod probe;
pub mod progress;
pub mod scenario;
pub mod state;
pub mod up;
pub mod upstream_e2e;

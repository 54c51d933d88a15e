//! Cluster-wide controllers: which pools and overlays are accepted, which blocks exist, what each
//! node is told, and what users read in status.
//!
//! `stores` and `patience` make a [`snapshot::Snapshot`]; [`compile::compile`] makes an `ApiPlan` of
//! it, a pure function; [`diff::diff`] compares that with the snapshot; [`apply`] writes the
//! differences, and only while this process leads.

pub mod apply;
pub mod balancers;
pub mod blocks;
pub mod cidr;
pub mod compile;
pub mod condition;
pub mod diff;
pub mod error;
pub mod finalizer;
pub mod health;
pub mod leader;
pub mod metrics;
pub mod nodes;
pub mod overlays;
pub mod patience;
pub mod policies;
pub mod pools;
pub mod precedence;
pub mod problem;
pub mod run;
pub mod selector;
pub mod settings;
pub mod snapshot;
pub mod stores;
pub mod zones;

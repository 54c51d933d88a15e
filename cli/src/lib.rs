//! `kubectl weft`: questions about a cluster, answered from the API with the code that agents compile
//! with. It reads with the user's own rights and writes nothing.

pub mod cluster;
pub mod convert;
pub mod import;
pub mod policy;
pub mod report;
pub mod run;
pub mod settings;

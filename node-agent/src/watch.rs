//! Turns watches of the API into updates of trimmed objects, and those of the cluster into what the
//! engine needs.
//!
//! Nothing of an object is kept that nobody reads. After the start nothing is listed: the initial
//! objects come by streaming watch, and a watch that breaks goes on from where it was.

pub mod cluster;
pub mod follow;
pub mod objects;
pub mod policies;
pub mod services;

pub use cluster::{Identity, Synced};
pub use follow::{Update, follow};

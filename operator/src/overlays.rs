//! Overlays: which are accepted, which nodes take part and with which family, and what became of them.

pub mod resolve;
pub mod status;
pub mod validate;

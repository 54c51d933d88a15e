//! The node agent as a library.

pub mod engine;

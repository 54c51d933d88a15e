//! Nodes: what each is told (NodeNetwork), and the condition NetworkUnavailable of its Node.

pub mod condition;
pub mod network;

//! The engine in a namespace that plays the node, with real namespaces as pods: requests go in as the
//! CNI plugin would send them, packets go through the kernel.

mod attach;
mod balance;
mod blocks;
mod dns;
mod faults;
mod node;
mod policies;
mod repairs;
mod restart;
mod services;
mod start;

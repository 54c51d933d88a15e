//! Labs as a whole. What makes a cluster is ignored unless asked for: it takes a minute.

mod conformance;
mod faults;
mod host;

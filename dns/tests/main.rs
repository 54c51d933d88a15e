//! What crosses the modules of the server.

mod conformance;

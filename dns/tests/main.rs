//! What crosses the modules of the server.

#[path = "../../operator/tests/api_server.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with the operator's tests, which use more of it"
)]
mod api_server;
mod conformance;
#[path = "../../operator/tests/dns_zones.rs"]
mod dns_zones;
mod encrypted;
mod paths;
mod peers;
mod program;
mod sockets;
mod upstream;
mod views;
mod zones;

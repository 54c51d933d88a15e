//! `weft-dns`: parses arguments, starts telemetry, and serves.

fn main() {}

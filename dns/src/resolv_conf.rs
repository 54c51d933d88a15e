//! resolv.conf in, the servers of it that are worth asking out.
//!
//! A loopback address in it is a stub on the node: systemd-resolved's is known, and the servers behind it are asked
//! themselves. Any other loopback address is taken at its word.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The stub of systemd-resolved.
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];
/// The servers behind it.
const BEHIND: &str = "/run/systemd/resolve/resolv.conf";

/// The addresses after `nameserver`, in their order, each once.
#[must_use]
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // An address of a link names its link behind a percent sign, which we cannot ask through.
        let address = words.next().and_then(|word| word.parse().ok());
        servers.extend(address.filter(|address| !servers.contains(address)));
    }
    servers
}

/// Reads the servers to ask; those behind a stub in the place of the stub.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> std::io::Result<Vec<IpAddr>> {
    let servers = name_servers(&std::fs::read_to_string(path)?);
    let stub = |server: &IpAddr| STUBS.iter().any(|stub| stub.parse() == Ok(*server));
    if !servers.iter().any(stub) {
        return Ok(servers);
    }
    let behind = std::fs::read_to_string(PathBuf::from(BEHIND)).map(|text| name_servers(&text));
    match behind {
        Ok(behind) if !behind.is_empty() => Ok(behind),
        _ => Ok(servers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_order_each_once() {
        let text = "# nameserver 192.0.2.9\nsearch a b\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver\n";
        let wanted =
            ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().expect("an address"));
        assert_eq!(name_servers(text), wanted);
    }
}
